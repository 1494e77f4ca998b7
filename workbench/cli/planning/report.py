"""What ``workbench plan`` says of a plan: as JSON, or as text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import terminal
from workbench.cli.planning.request import Planned, Rules

if TYPE_CHECKING:
    from workbench.plan import Plan
    from workbench.thermo.goal import Goal

UNSPENT = 0.9
"""Share of the budget below which the likely size of a payload is printed."""


def facts(
    planned: Planned, output: Path | None, rules: Rules | None, readers: Sequence[str], loading: str
) -> dict[str, Any]:
    """All that is known, as JSON."""
    plan, totals = planned.plan, planned.totals
    found: dict[str, Any] = {
        "plan": None if output is None else str(output.absolute()),
        "target": plan.target,
        "layers_by_bits": {str(bits): count for bits, count in _layers_by_bits(plan).items()},
    }
    if totals is not None:
        found |= {
            "payload_bytes": totals.nbytes,
            "ratio": totals.ratio,
            "bpw": totals.bpw,
            "damage": totals.damage,
            "gap": plan.predicted["gap"],
            "temperature": plan.predicted["temperature"],
        }
    if rules is not None and rules.output is not None:
        found["rules"] = str(rules.output.absolute())
    if planned.prediction is not None:
        found["dry_run"] = asdict(planned.prediction)
    found["likely_bytes"] = planned.likely_bytes
    return {**found, "notes": list(planned.notes), "readers": list(readers), "loading": loading}


def print_plan(
    planned: Planned,
    name: str,
    goal: Goal | None,
    rules: Rules | None,
    readers: Sequence[str],
    loading: str,
) -> None:
    """Print it for people.

    Parameters
    ----------
    planned : Planned
    name : str
        Of the plan's file, or of the model.
    goal : Goal, optional
        What it was solved for.
    rules : Rules, optional
    readers : sequence of str
        Sentences on what loads the export.
    loading : str
        The lines that load it.
    """
    plan = planned.plan
    print(f"{name}: {len(plan.choices)} layers for {plan.target}")
    if planned.totals is not None:
        _print_totals(planned, goal)
    print(*(f"{bits} bits: {count} layers" for bits, count in _layers_by_bits(plan).items()), sep="\n")
    if rules is not None and rules.output is not None:
        print(f"{rules.output}: rules for {rules.rules_format}")
    if planned.prediction is not None:
        terminal.print_prediction(planned.prediction)
        more = (sentence for sentence in readers if sentence not in planned.printed)
        print(*more, "To load it:", loading, sep="\n")
    print(*planned.notes, sep="\n", end="\n" if planned.notes else "")


def _print_totals(planned: Planned, goal: Goal | None) -> None:
    totals, likely = planned.totals, planned.likely_bytes
    assert totals is not None
    row = {
        "MB": f"{totals.nbytes / 1e6:.3f}",
        "ratio": f"{totals.ratio:.2f}",
        "bpw": f"{totals.bpw:.3f}",
        "damage": terminal.number(totals.damage),
        "gap": f"{totals.gap:.3%}",
        "temperature": terminal.number(totals.temperature),
    }
    terminal.print_table([row])
    size = None if goal is None else goal.size
    budget = totals.nbytes if goal is None or goal.nbytes is None else goal.nbytes
    if likely is not None and likely < UNSPENT * budget:
        print(_unspent(likely, totals.nbytes, budget, size))


def _unspent(likely: int, nbytes: int, budget: int, size: int | str | None) -> str:
    """A sentence on a payload that will be much smaller than its upper bound."""
    found = (
        f"The payload is compressed: by the entropy of its codes it will be about {likely / 1e6:.3f} MB, "
        f"{1 - likely / budget:.0%} less than "
    )
    if size is None:
        return found + f"the {nbytes / 1e6:.3f} MB above, which it cannot exceed."
    more = budget * budget / likely / 1e6
    return (
        found
        + f"the {size} asked for, which it cannot exceed. To spend that too, ask for about {more:.2f}MB."
    )


def _layers_by_bits(plan: Plan) -> dict[int, int]:
    return dict(sorted(Counter(option.bits for option in plan.choices.values()).items()))
