"""The best plan for a goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workbench.cli.ahead import look_ahead, open_ahead
from workbench.cli.planning.request import Planned, Rules, Source

if TYPE_CHECKING:
    from workbench.thermo.goal import Goal


@dataclass(frozen=True)
class Problem:
    """What a plan is solved for, and under which limits; layers are named by patterns."""

    goal: Goal
    locks: Mapping[str, int] = field(default_factory=dict)
    floors: Mapping[str, int] = field(default_factory=dict)
    ceilings: Mapping[str, int] = field(default_factory=dict)
    ties: Sequence[Sequence[str]] = ()
    keep: Sequence[str] = ()

    @property
    def patterns(self) -> dict[str, Sequence[str]]:
        """All patterns, by the option that gives them."""
        return {
            "--lock": list(self.locks),
            "--floor": list(self.floors),
            "--ceiling": list(self.ceilings),
            "--tie": [pattern for tied in self.ties for pattern in tied],
            "--keep": self.keep,
        }


def solved(
    source: Source,
    problem: Problem,
    rules: Rules | None,
    *,
    calibration: str | None,
    time_groups: int,
    exact: bool,
    dry_run: bool,
    shown: bool,
) -> Planned:
    """The best plan for a problem; written as rules if asked.

    Parameters
    ----------
    source, problem, rules
    calibration, time_groups, exact
        How the damage of options is predicted.
    dry_run : bool
        Whether to predict what exporting the plan will take.
    shown : bool
        Whether to say on stderr what is known beforehand, and how far the work is.
    """
    from workbench.session.commands import Solve

    with look_ahead(
        source.model, source.component, source.target, source.names,
        patterns=problem.patterns, scheme=source.settings.scheme,
    ) as ahead:  # fmt: skip
        if shown:
            ahead.say(source.model)
        session = open_ahead(
            ahead, source.model, source.component, exact, calibration, time_groups, source.effort, source.names,
            problem.keep, source.settings, shown=shown,
        )  # fmt: skip
    with session:
        for pattern, bits in problem.locks.items():
            session.lock(pattern, bits)
        ties = tuple(map(tuple, problem.ties))
        found = session.do(Solve(problem.goal, problem.floors, problem.ceilings, ties))
        if rules is not None and rules.output is not None:
            session.save_rules(rules.output, rules.rules_format, rules.names)
        return Planned(
            found.plan,
            found.notes,
            found.predict() if dry_run else None,
            found.totals,
            found.likely_bytes,
            ahead.readers,
        )
