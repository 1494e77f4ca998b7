"""`State`: the plan as it is edited; what commands turn into another, and what undo goes back to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from workbench.old_names import old_names
from workbench.plan import TOTALS, Option, Plan
from workbench.session.measurements import Measurements
from workbench.thermo import Constraints
from workbench.thermo.costs import IntArray


@old_names(nsr="damage")
@dataclass(frozen=True)
class Totals:
    """What a plan adds up to."""

    nbytes: int
    """Bytes of the payload; an upper bound where the target compresses."""
    ratio: float
    """Bytes of all tensors in the source over those of the payload."""
    bpw: float
    """Bits of the layers' data per layer weight, scales included."""
    damage: float
    """Σ D over the layers."""
    gap: float
    """Optimality gap: how far this plan's Σ D is above the best possible at its bytes, at most (Lagrangian dual). The
    best is under the locks, and under the floors, ceilings, ties and least cosine of the solve that made the plan."""
    temperature: float
    """T, the price of a bit at these bytes: damage given up for each bit saved; a higher T makes a smaller file."""


@dataclass(frozen=True, eq=False)
class State:
    """An option for every layer of a measured checkpoint, and which layers are locked; immutable."""

    measurements: Measurements
    """The checkpoint, the target, and the cost of every option."""
    choice: tuple[int, ...]
    """Place of each layer's option in the cost table."""
    locks: frozenset[int] = frozenset()
    """Layers, by index, that a solver leaves as they are."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """How the plan was made, in plain values."""
    limits: Constraints = field(default_factory=Constraints)
    """What it was solved under besides locks; without any where it was edited by hand."""
    by_hand: frozenset[int] = frozenset()
    """Layers, by index, whose option was set one by one since a solver or a policy decided."""
    notes: tuple[str, ...] = ()
    """What the command that made it did otherwise than asked, and what should be known of that, in sentences."""

    @classmethod
    def uniform(cls, measurements: Measurements, bits: int) -> State:
        """Every layer at one width."""
        places = tuple(measurements.place(row, bits) for row in range(len(measurements.layers)))
        return cls(measurements, places, made_by={"method": "uniform", "bits": bits})

    def changed(self, **values: Any) -> State:
        """The state after a command: some fields have other values, and its notes are its own."""
        return replace(self, **{"notes": (), **values})

    def with_options(self, places: Mapping[int, int], **values: Any) -> State:
        """The state after some layers, by index, were given other options by hand."""
        return self.changed(
            choice=tuple(places.get(row, place) for row, place in enumerate(self.choice)),
            limits=Constraints(),
            by_hand=self.by_hand | places.keys(),
            **values,
        )

    def option(self, row: int) -> Option:
        """The option of a layer."""
        return self.measurements.options[row][self.choice[row]]

    @property
    def option_rows(self) -> IntArray:
        """Row of each layer's option in the table of prices, [layers]."""
        rows: IntArray = self.measurements.starts + np.array(self.choice, np.int64)
        return rows

    @property
    def draft(self) -> Plan:
        """The plan, without what it adds up to."""
        return self.measurements.planner.plan(self.choice, self.locks, self.made_by)

    @property
    def plan(self) -> Plan:
        """The plan, and what it adds up to."""
        return replace(self.draft, predicted={name: getattr(self.totals, name) for name in TOTALS})

    @property
    def constraints(self) -> Constraints:
        """What another plan would have to meet too: the limits, and the locks."""
        locks = [place if row in self.locks else -1 for row, place in enumerate(self.choice)]
        return replace(self.limits, locks=locks)

    @cached_property
    def totals(self) -> Totals:
        """What the plan adds up to."""
        measured = self.measurements
        found = measured.planner.totals(np.array(self.choice), self.draft, self.constraints)
        return Totals(
            nbytes=int(found["nbytes"]),
            ratio=measured.checkpoint.nbytes / max(found["nbytes"], 1),
            bpw=found["bpw"],
            damage=found["damage"],
            gap=found["gap"],
            temperature=found["temperature"],
        )

    def changed_rows(self, after: State) -> tuple[int, ...]:
        """Layers, by index, whose option or lock is another in a later state; all where costs are others."""
        if self.measurements is not after.measurements:
            return tuple(range(len(after.choice)))
        moved = {row for row, place in enumerate(after.choice) if place != self.choice[row]}
        return tuple(sorted(moved | (self.locks ^ after.locks)))
