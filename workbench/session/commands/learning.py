"""Correcting the predicted damage by what was measured in a running model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.session.commands.command import Edit
from workbench.session.script import Name, call
from workbench.session.state import State


@dataclass(frozen=True)
class Learn(Edit):
    """Multiply the damage of layers, see `Session.learn`."""

    factors: Mapping[str, float]
    """By layer; relative to the damage before anything was learnt."""
    source: str = "factors"
    """The expression that has them, for the script."""

    def apply(self, state: State) -> State:
        return state.changed(measurements=state.measurements.learn(self.factors))

    def to_python(self) -> str:
        return call("learn", Name(self.source))
