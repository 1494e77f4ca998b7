"""`Snapshot`: the plan at one version of a session, and everything that can be looked at there."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.calibration import TimeAwareQuantizer
from workbench.engine.notes import note_on_unrecorded
from workbench.errors import ConfigurationError
from workbench.expressions.evaluation import evaluate, mask
from workbench.formats.loading import loading_lines, readers
from workbench.formats.rules import naming_of, write_rules
from workbench.plan import Plan
from workbench.session.measurements import Measurements
from workbench.session.patterns import Patterns
from workbench.session.prediction import Prediction, predict
from workbench.session.state import State, Totals
from workbench.session.tables.columns import HEADINGS, layer_columns
from workbench.session.tables.layer_detail import LayerDetail, look_closely
from workbench.session.tables.thermodynamics import thermodynamics_table
from workbench.session.tables.time_columns import damage_by_group
from workbench.table import Table
from workbench.thermo import DamageModel, Front, compare, trace
from workbench.thermo.goal import parse_size


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The plan at one version of a session; what follows from it is computed when it is asked for, once."""

    version: int
    """Version of the session."""
    state: State
    """The plan, and the costs of all options."""
    can_undo: bool
    """Whether there is an edit to take back."""
    can_redo: bool
    """Whether there is one to make again."""

    @property
    def measurements(self) -> Measurements:
        """The checkpoint, the target, and the cost of every option."""
        return self.state.measurements

    @property
    def options(self) -> Table:
        """Prices of all options; another table since another target came or something was learnt."""
        return self.measurements.option_table

    @property
    def totals(self) -> Totals:
        """What the plan adds up to."""
        return self.state.totals

    @cached_property
    def plan(self) -> Plan:
        """The plan."""
        return self.state.plan

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Row of each layer's option in `options`, [layers]."""
        return self.state.option_rows

    @cached_property
    def locked(self) -> NDArray[np.bool_]:
        """Whether a solver leaves the layer as it is, [layers]."""
        locked = np.zeros(len(self.state.choice), np.bool_)
        locked[list(self.state.locks)] = True
        return locked

    @cached_property
    def present(self) -> Table:
        """A row a layer, see `workbench.session.tables.thermodynamics.thermodynamics_table`."""
        return thermodynamics_table(self.state)

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        """What expressions speak of, see `workbench.session.tables.columns.layer_columns`."""
        return layer_columns(self.measurements.profile, self.present, self.locked)

    @property
    def front(self) -> Front:
        """The front of best plans without locks or other limits; a row of it is a layer."""
        return trace(self.measurements.costs)

    @property
    def damage_model(self) -> DamageModel:
        """What the options were priced by.

        Raises
        ------
        ConfigurationError
            If the session has no calibration.
        """
        if self.measurements.damage_model is None:
            raise ConfigurationError(
                "The session has no calibration. Open it with one: wb.open(…, calibration=…); "
                "workbench.live.capture makes it.",
                key="calibration",
            )
        return self.measurements.damage_model

    @property
    def time_aware(self) -> TimeAwareQuantizer | None:
        """The calibration records and their time groups; None without a calibration."""
        return None if self.measurements.damage_model is None else self.measurements.damage_model.time_aware

    @property
    def notes(self) -> list[str]:
        """What should be known of the checkpoint and its calibration, and of the tensors that are no layers."""
        checkpoint = self.measurements.checkpoint
        records = None if self.time_aware is None else self.time_aware.records
        return [
            *checkpoint.notes,
            *note_on_unrecorded(records, checkpoint.layers),
            checkpoint.besides_layers,
        ]

    @property
    def readers(self) -> tuple[str, ...]:
        """Sentences on what is known to load an export of the plan, see `workbench.formats.loading.readers`."""
        return readers(self.measurements.checkpoint, self.plan.target, self.plan)

    def loading_lines(self, folder: str | os.PathLike[str]) -> str:
        """The lines, Python or for a shell, that load an export of the plan from a folder."""
        return loading_lines(self.measurements.checkpoint, self.plan.target, folder, self.plan)

    def rules(self, rules_format: str, names: str | None = None) -> str:
        """The plan as another tool's rules, see `Session.save_rules`."""
        measured = self.measurements
        naming = naming_of(measured.checkpoint, rules_format, names)
        return write_rules(self.plan, rules_format, measured.layers, measured.target, naming=naming)

    @property
    def damage_by_group(self) -> NDArray[np.float64]:
        """What each time group adds to the D of each layer, [layers, groups]; NaN for layers without a record."""
        return damage_by_group(self.present, self.damage_model, self.measurements.checkpoint)

    def detail(self, layer: str) -> LayerDetail:
        """A layer from close by."""
        measured = self.measurements
        (row,) = measured.rows(layer)
        return look_closely(
            measured.checkpoint,
            measured.target,
            measured.layers[row],
            self.state.option(row),
            measured.encodings,
        )

    def names_of(self, rows: Collection[int]) -> tuple[str, ...]:
        """Names of layers, by index, in the checkpoint's order."""
        return tuple(self.measurements.layers[row].name for row in sorted(rows))

    def select(self, patterns: Patterns) -> tuple[str, ...]:
        """Names of the layers that match."""
        return self.names_of(self.measurements.rows(patterns))

    def evaluate(self, expression: str) -> NDArray[Any]:
        """The values of an expression over the layers."""
        return evaluate(expression, self.columns, HEADINGS)

    def where(self, expression: str) -> tuple[str, ...]:
        """Names of the layers for which a condition holds."""
        return self.names_of(np.flatnonzero(mask(expression, self.columns, HEADINGS)).tolist())

    def compare(self, size: int | str | None = None, only: Collection[str] | None = None) -> Table:
        """Other policies beside the solver at equal exact bytes; the plan's, unless a size is given."""
        costs = self.measurements.costs
        nbytes = costs.nbytes_of(np.array(self.state.choice))
        if size is not None:
            nbytes += parse_size(size) - self.totals.nbytes
        entropy = self.measurements.profile["entropy"].to_numpy()
        return Table(compare(costs, nbytes, entropy=entropy, only=only))

    def predict(self) -> Prediction:
        """What exporting the plan will take."""
        measured = self.measurements
        return predict(measured.checkpoint, measured.target, self.plan, measured.encodings)

    @property
    def likely_bytes(self) -> int:
        """Roughly what the plan's payload will come to, see `Session.likely_bytes`."""
        nbytes = self.totals.nbytes
        if self.measurements.target.is_exact:
            return nbytes
        return nbytes - self.measurements.compressible_bytes(self.rows)


@dataclass(frozen=True)
class Change:
    """A change of a session, for its observers."""

    version: int
    """Version of the session after the change."""
    rows: tuple[int, ...]
    """Layers, by index, whose option or lock is another."""
    totals: Totals
    """The totals after the change."""
