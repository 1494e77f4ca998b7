"""`Measurements`: a checkpoint, a target, and the cost of every option of every layer."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from workbench.checkpoint import Checkpoint
from workbench.errors import ConfigurationError
from workbench.formats import Format
from workbench.plan import Layer, Option
from workbench.quantize import Encodings
from workbench.session.patterns import Patterns, rows_matching
from workbench.session.tables.time_columns import with_time
from workbench.table import Table
from workbench.thermo import CostTable, DamageModel, Planner
from workbench.thermo.costs import IntArray
from workbench.work import ProgressCallback


@dataclass(frozen=True)
class Naming:
    """What the layers of a checkpoint are called, and what they could be called."""

    asked: str | None = None
    """What the user asked for, of `workbench.config.NAMES`; None leaves it to the target."""
    possible: tuple[str, ...] = ("checkpoint",)
    """What can be had."""
    notes: tuple[str, ...] = ()
    """Sentences on it."""


class Measurements:
    """A checkpoint, a target, and the cost of every option of every layer; immutable but for what it caches.

    Parameters
    ----------
    checkpoint : Checkpoint
    target : Format
    layers : pyarrow.Table
        Of `workbench.thermo.measurement.profile.profile`.
    options : pyarrow.Table
        Of `workbench.thermo.options.option_table.measure_options`.
    scheme, group_size
        Of the option that stands for a width.
    pricing : Pricing, optional
        What the options were priced by.
    encodings : Encodings, optional
        How the weights became codes; by default ``fast``.
    learnt : mapping of str to float, optional
        By what the damage of layers is multiplied, because measuring found it so.
    naming : Naming, optional
        What layers are called, and could be.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: Format,
        layers: pa.Table,
        options: pa.Table,
        scheme: str,
        group_size: int,
        damage_model: DamageModel | None = None,
        encodings: Encodings | None = None,
        learnt: Mapping[str, float] | None = None,
        naming: Naming | None = None,
    ) -> None:
        self.naming = naming or Naming()
        self.learnt = dict(learnt or {})
        self.checkpoint = checkpoint
        self.target = target
        self.damage_model = damage_model
        self._measured = layers, options
        self.profile = Table(layers if damage_model is None else with_time(layers, damage_model, checkpoint))
        option_table = _scaled(options, self.learnt)
        self.option_table = Table(option_table)
        self.planner = Planner(checkpoint, target, option_table, encodings)
        self.encodings = self.planner.encodings
        self.layers: tuple[Layer, ...] = self.planner.layers
        self.index = {layer.name: row for row, layer in enumerate(self.layers)}
        self.options = self.planner.options
        self.costs: CostTable = self.planner.costs
        # Prices stand layer by layer in the order of the options.
        self.starts: IntArray = np.cumsum([0, *(len(options) for options in self.options)])[:-1]
        self.scheme, self.group_size = scheme, group_size

    @property
    def names(self) -> str:
        """What layers are called: ``"original"`` or ``"checkpoint"``."""
        return "checkpoint" if self.checkpoint.parts is None else "original"

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the names."""
        return self.naming.notes

    def learn(self, factors: Mapping[str, float]) -> Measurements:
        """The same with the damage of layers multiplied, in place of what was learnt before of them.

        Layers that are not named keep what was learnt of them before, or else get the median factor.

        Raises
        ------
        ConfigurationError
            If there is no such layer, or a factor is not a positive number.
        """
        for name, factor in factors.items():
            if name not in self.index or not (math.isfinite(factor) and factor > 0):
                problem = (
                    f"{factor} is not a positive number" if name in self.index else "there is no such layer"
                )
                raise ConfigurationError(
                    f"Nothing can be learnt of {name!r}: {problem}.", key=name, value=factor
                )
        if not factors:
            raise ConfigurationError("Nothing can be learnt: no layer was measured.", key="factors")
        others = float(np.median(list(factors.values())))
        learnt = {name: factors.get(name, self.learnt.get(name, others)) for name in self.index}
        return Measurements(
            self.checkpoint, self.target, *self._measured, self.scheme, self.group_size, self.damage_model,
            self.encodings, learnt, self.naming,
        )  # fmt: skip

    def rows(self, patterns: Patterns) -> list[int]:
        """Places of the layers that match, see `rows_matching`."""
        return rows_matching(self.layers, patterns)

    def place(self, row: int, bits: int) -> int:
        """Place of a layer's option of a width in the session's scheme and group size."""
        option = self.target.quantized(self.layers[row], bits, self.scheme, self.group_size)
        return self.place_of(row, option)

    def place_of(self, row: int, option: Option) -> int:
        """Place of a layer's option; of a layer that was opened to be kept, of its only one."""
        options = self.options[row]
        return 0 if len(options) == 1 else options.index(option)

    def place_kept(self, row: int) -> int:
        """Place of the option that leaves a layer in its source dtype."""
        return next(place for place, option in enumerate(self.options[row]) if option.is_kept)

    @cached_property
    def menu(self) -> IntArray:
        """Rows of the prices: what every layer gets at 2 … 8 bits, and what keeps it, [layers, 8]."""
        costs = self.costs
        layers, places = np.nonzero(costs.legal)
        numbers, first = np.unique(costs.form[costs.legal], return_index=True)
        examples = [self.options[layers[at]][places[at]] for at in first.tolist()]
        forms = {
            (one.bits, one.scheme, one.group_size): number
            for one, number in zip(examples, numbers.tolist(), strict=True)
        }
        wanted = [
            [
                *(self.target.quantized(layer, bits, self.scheme, self.group_size) for bits in range(2, 9)),
                options[self.place_kept(row)],
            ]
            for row, (layer, options) in enumerate(zip(self.layers, self.options, strict=True))
        ]
        # A layer that was opened to be kept has the first place, its only one, for every width.
        form = np.array(
            [[forms.get((one.bits, one.scheme, one.group_size), -1) for one in row] for row in wanted],
            np.int64,
        ).reshape(-1, 8, 1)
        found: IntArray = (costs.legal[:, None, :] & (costs.form[:, None, :] == form)).argmax(axis=2)
        return self.starts[:, None] + found

    def limits(self, bits: Mapping[str, int], otherwise: int) -> list[int] | None:
        """Bits of each layer by pattern, where several match the last; None where there is no pattern."""
        if not bits:
            return None
        values = [otherwise] * len(self.layers)
        for pattern, value in bits.items():
            for row in self.rows(pattern):
                values[row] = value
        return values

    def compressible_bytes(self, rows: IntArray) -> int:
        """Bytes of the codes beyond their entropy, of one row of the prices a layer."""
        chosen = self.option_table.select(["bits", "code_entropy"]).take(rows).to_pylist()
        spare = sum(
            layer.params * (option["bits"] - option["code_entropy"])
            for layer, option in zip(self.layers, chosen, strict=True)
            if option["code_entropy"] is not None
        )
        return max(int(spare / 8), 0)


Reopen = Callable[[str, str | None, ProgressCallback | None, threading.Event | None], Measurements]
"""Measures a checkpoint again: takes the name of a target, what layers shall be called, a callback for progress and an
event that stops it."""


def _scaled(options: pa.Table, factors: Mapping[str, float]) -> pa.Table:
    """Prices with the damage of some layers multiplied."""
    if not factors:
        return options
    scale = np.array([factors.get(name, 1.0) for name in options["layer"].to_pylist()])
    for column in ("damage", "damage_stderr"):
        place = options.column_names.index(column)
        values = pa.array(options[column].to_numpy() * scale, options.schema.field(place).type)
        options = options.set_column(place, options.schema.field(place), values)
    return options
