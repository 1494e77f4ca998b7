"""`Study`: what was measured of a checkpoint, and what follows from it for any tuning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa

from workbench.checkpoint import Checkpoint
from workbench.errors import ConfigurationError
from workbench.formats import Target
from workbench.plan import Layer, Plan
from workbench.session.history import Tuning
from workbench.session.values import Totals
from workbench.thermo import Constraints, CostTable, certify, solve
from workbench.thermo.costs import IntArray
from workbench.thermo.options import cost_table, options_of

ROUNDS = 3
"""How often a size is solved for, as what the file adds to the layers' data depends a little on the plan."""

Patterns = str | Iterable[str]
"""Layer names, globs (``"*attn*"``) or roles (``"role:attention.*"``); one or several."""


class Study:
    """A checkpoint, a target, and the costs of its options; nothing in it changes.

    Parameters
    ----------
    checkpoint : Checkpoint
    target : Target
    layers : pyarrow.Table
        Of `workbench.thermo.profile.profile`.
    options : pyarrow.Table
        Of `workbench.thermo.options.price`.
    scheme, group_size
        Of the option that stands for a width.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: Target,
        layers: pa.Table,
        options: pa.Table,
        scheme: str,
        group_size: int,
    ) -> None:
        self.checkpoint = checkpoint
        self.target = target
        self.profile = layers
        self.prices = options
        self.layers: tuple[Layer, ...] = tuple(layer for layer in checkpoint.layers if layer.params)
        self.index = {layer.name: row for row, layer in enumerate(self.layers)}
        found = options_of(options)
        self.options = tuple(found[layer.name] for layer in self.layers)
        self.costs: CostTable = cost_table(options, self.layers)
        self._wish = scheme, group_size

    def uniform(self, bits: int) -> Tuning:
        """Every layer at one width."""
        places = tuple(self.place(row, bits) for row in range(len(self.layers)))
        return Tuning(places, made_by={"method": "uniform", "bits": bits})

    def rows(self, patterns: Patterns) -> list[int]:
        rows: set[int] = set()
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            if pattern in self.index:
                found = {self.index[pattern]}
            elif pattern.startswith("role:"):
                wanted = pattern.removeprefix("role:")
                found = {row for row, layer in enumerate(self.layers) if fnmatchcase(layer.role, wanted)}
            else:
                found = {row for row, layer in enumerate(self.layers) if fnmatchcase(layer.name, pattern)}
            if not found:
                raise ConfigurationError(f"{pattern!r} matches no layer.", key="pattern", value=pattern)
            rows |= found
        return sorted(rows)

    def place(self, row: int, bits: int) -> int:
        """Place of a layer's option of a width in the session's scheme and group size."""
        option = self.target.quantized(self.layers[row], bits, *self._wish)
        return self.options[row].index(option)

    def limits(self, limits: Mapping[str, int] | None, otherwise: int) -> list[int] | None:
        if not limits:
            return None
        values = [otherwise] * len(self.layers)
        for pattern, bits in limits.items():
            for row in self.rows(pattern):
                values[row] = bits
        return values

    def within(self, size: int, limits: Constraints, now: Tuning) -> IntArray:
        """The best choice whose payload is within a size."""
        tuning = now
        for _ in range(ROUNDS):
            beside = self.predict(tuning) - self.layer_bytes(tuning)
            try:
                found = solve(self.costs, limits, nbytes=max(size - beside, 0)).choice
            except ConfigurationError as error:
                if "floor" not in error.context:
                    raise
                floor = beside + error.context["floor"]
                raise ConfigurationError(
                    f"No payload of {size:,} bytes can be made: {floor:,} are the least, {beside:,} of them for "
                    f"headers and the tensors that are no layers. {error}",
                    key="size",
                    value=size,
                    floor=floor,
                ) from error
            tuning = replace(now, choice=tuple(found.tolist()))
            if self.predict(tuning) <= size:
                return found
        raise ConfigurationError(
            f"No plan found whose payload is within {size:,} bytes; the nearest has {self.predict(tuning):,}.",
            key="size",
            value=size,
        )

    def locks(self, tuning: Tuning) -> list[int]:
        """Place of each locked layer's option; −1 for the others."""
        return [place if row in tuning.locks else -1 for row, place in enumerate(tuning.choice)]

    def layer_bytes(self, tuning: Tuning) -> int:
        return self.costs.nbytes_of(np.array(tuning.choice))

    def predict(self, tuning: Tuning) -> int:
        return self.target.writer(self.checkpoint, self.plan(tuning)).predicted_bytes

    def plan(self, tuning: Tuning) -> Plan:
        return Plan(
            target=self.target.name,
            choices={
                layer.name: self.options[row][tuning.choice[row]] for row, layer in enumerate(self.layers)
            },
            fingerprint=self.checkpoint.fingerprint,
            locks=frozenset(self.layers[row].name for row in tuning.locks),
            made_by=tuning.made_by,
        )

    def totals(self, tuning: Tuning) -> Totals:
        found = certify(self.costs, np.array(tuning.choice), Constraints(locks=self.locks(tuning)))
        nbytes = self.predict(tuning)
        return Totals(
            nbytes=nbytes,
            ratio=self.checkpoint.nbytes / max(nbytes, 1),
            bpw=found.bpw,
            nsr=found.distortion,
            gap=found.gap,
            temperature=found.temperature,
        )
