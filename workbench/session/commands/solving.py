"""Edits that choose for all layers: solving for a goal, and the policies to compare the solver with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from workbench.errors import ConfigurationError
from workbench.session.commands.command import Edit, Message
from workbench.session.script import call
from workbench.session.state import State
from workbench.thermo import Constraints, annealing, entropy_rule, sorted_greedy, threshold, uniform
from workbench.thermo.costs import IntArray
from workbench.thermo.goal import Goal, parse_size
from workbench.thermo.policies import ABOUT

POLICIES = tuple(name for name in ABOUT if name != "solver")
"""Names of the policies that `Follow` takes."""

THRESHOLD = 0.01
"""What the policy ``threshold`` keeps the D of every layer under."""


@dataclass(frozen=True)
class Solve(Edit):
    """Find the best plan for a goal, see `Session.solve`."""

    goal: Goal
    floors: Mapping[str, int] = field(default_factory=dict)
    """Least bits of layers, by pattern."""
    ceilings: Mapping[str, int] = field(default_factory=dict)
    """Most bits of layers, by pattern."""
    ties: tuple[str | tuple[str, ...], ...] = ()
    """Layers that must share an option."""
    lock_edits: bool = False
    """Whether what was set by hand is locked first."""

    def apply(self, state: State) -> State:
        measured, goal = state.measurements, self.goal
        limits = Constraints(
            floors=measured.limits(self.floors, 0),
            ceilings=measured.limits(self.ceilings, 64),
            min_cosine=goal.min_cosine,
            ties=[measured.rows(tie) for tie in self.ties],
        )
        locks = state.locks | state.by_hand if self.lock_edits else state.locks
        made_by = {"method": "solver", **_plain_values(self._given)}
        ahead = state.changed(locks=locks, made_by=made_by, limits=limits)
        found = measured.planner.solved(goal, ahead.constraints, ahead.draft)
        return ahead.changed(choice=tuple(found.tolist()), by_hand=state.by_hand & locks)

    @property
    def _given(self) -> dict[str, Any]:
        return {**asdict(self.goal), "floors": self.floors, "ceilings": self.ceilings, "ties": self.ties}

    def to_python(self) -> str:
        given = self._given
        size = given.pop("size")
        return call("solve", *(() if size is None else (size,)), lock_edits=self.lock_edits, **given)

    @classmethod
    def from_message(cls, message: Message, names: Sequence[str]) -> Self:
        lock_edits = message.get("edits") == "lock"
        match message:
            case {"size": str(size)}:
                return cls(Goal(size=size.strip()), lock_edits=lock_edits)
            case {"size": int(size)} | {"nbytes": int(size)} if type(size) is int:
                return cls(Goal(size=size), lock_edits=lock_edits)
            case {"bpw": int() | float() as bpw} if type(bpw) is not bool:
                return cls(Goal(bpw=float(bpw)), lock_edits=lock_edits)
            case {"temperature": int() | float() as temperature} if type(temperature) is not bool:
                return cls(Goal(temperature=float(temperature)), lock_edits=lock_edits)
        raise ConfigurationError(f"The panel understands no action {message!r:.200}.", key="act")


@dataclass(frozen=True)
class Follow(Edit):
    """Take the plan of a simple policy, see `Session.follow`."""

    policy: str
    """One of `POLICIES`."""
    size: int | str | None = None
    """Bytes of the payload; by default those of the present plan."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            allowed = ", ".join(POLICIES)
            raise ConfigurationError(
                f"There is no policy {self.policy!r}; allowed: {allowed}.",
                key="policy",
                value=self.policy,
                allowed=allowed,
            )

    def apply(self, state: State) -> State:
        measured = state.measurements
        costs = measured.costs
        nbytes = costs.nbytes_of(np.array(state.choice))
        if self.size is not None:
            nbytes += parse_size(self.size) - measured.planner.payload_bytes(state.draft)
        policies: dict[str, Callable[[], IntArray]] = {
            "uniform": lambda: uniform(costs, nbytes),
            "sorted_greedy": lambda: sorted_greedy(costs, nbytes),
            "annealing": lambda: annealing(costs, nbytes),
            "entropy_rule": lambda: entropy_rule(costs, measured.profile["entropy"].to_numpy()),
            "threshold": lambda: threshold(costs, THRESHOLD),
        }
        return state.changed(
            choice=tuple(policies[self.policy]().tolist()),
            made_by={"method": self.policy},
            limits=Constraints(),
            by_hand=frozenset(),
        )

    def to_python(self) -> str:
        return call("follow", self.policy, size=self.size)

    @classmethod
    def from_message(cls, message: Message, names: Sequence[str]) -> Self:
        match message:
            case {"policy": str(policy)}:
                return cls(policy)
        raise ConfigurationError(f"The panel understands no action {message!r:.200}.", key="act")


def _plain_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, without what was left out, as values that any file can hold."""

    def plain(value: Any) -> Any:
        match value:
            case Mapping():
                return {key: plain(item) for key, item in value.items()}
            case list() | tuple():
                return [plain(item) for item in value]
            case float():
                return float(value) if math.isfinite(value) else str(value)
        return value

    found = {key: plain(value) for key, value in given.items() if value is not None}
    return {key: value for key, value in found.items() if value not in ({}, [])}
