"""`Outlook`: everything about a session that can be looked at."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.calibration import TimeAwareQuantizer
from workbench.checkpoint import Checkpoint
from workbench.engine.notes import note_on_unrecorded
from workbench.errors import ConfigurationError
from workbench.expressions import evaluate, mask
from workbench.formats import Format
from workbench.formats.loading import loading_lines, readers
from workbench.plan import Plan
from workbench.session.columns import HEADINGS, layer_columns
from workbench.session.detail import LayerDetail, look_closely
from workbench.session.history import History, State
from workbench.session.observers import Observers
from workbench.session.over_time import damage_by_group
from workbench.session.patterns import Patterns
from workbench.session.prediction import Prediction, predict
from workbench.session.present import present_table
from workbench.session.study import Study
from workbench.session.table import html_table, text_table
from workbench.session.values import Snapshot, Totals, parse_size
from workbench.thermo import CostTable, Front, Pricing, compare, trace
from workbench.work import ProgressCallback

Reopen = Callable[[str, str | None, ProgressCallback | None, threading.Event | None], Study]
"""Takes the name of a target, what layers shall be called, a callback for progress and an event that stops it."""


class Outlook:
    """The half of a `Session` that changes nothing.

    Parameters
    ----------
    study : Study
        What was measured; the plan begins with 4 bits for every layer.
    reopen : callable
        Measures the same for another target.
    """

    def __init__(self, study: Study, reopen: Reopen) -> None:
        self._lock = threading.RLock()
        self._observers = Observers()
        self._history = History(State(study, study.uniform(4)))
        self._version = 0
        self._script: list[str] = []
        self._reopen = reopen
        self.opening = f"wb.open({str(study.checkpoint.path)!r}, target={study.target.name!r})"
        self.views: list[Any] = []
        self._known: tuple[State, Totals] | None = None
        self._snapshot: Snapshot | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """What is studied."""
        return self._study.checkpoint

    @property
    def target(self) -> Format:
        """The export format."""
        return self._study.target

    @property
    def notes(self) -> list[str]:
        """What should be known of the checkpoint and its calibration, and of the tensors that are no layers."""
        records = None if self.time_aware is None else self.time_aware.records
        return [
            *self.checkpoint.notes,
            *note_on_unrecorded(records, self.checkpoint.layers),
            self.checkpoint.besides_layers,
        ]

    @property
    def names(self) -> str:
        """What layers are called: as in the ``"original"`` checkpoint, or as in the files of this ``"checkpoint"``."""
        return self._study.names

    @property
    def possible_names(self) -> tuple[str, ...]:
        """What they could be called."""
        return self._study.naming.possible

    @property
    def layers(self) -> pa.Table:
        """A row a layer, see `workbench.thermo.profile.profile`."""
        return self._study.profile

    @property
    def options(self) -> pa.Table:
        """A row a layer × option, see `workbench.thermo.options.price`."""
        return self._study.prices

    @property
    def costs(self) -> CostTable:
        """Bytes and distortion of every option of every layer."""
        return self._study.costs

    @property
    def front(self) -> Front:
        """The front of best plans without locks or other limits; a row of it is a layer."""
        return trace(self._study.costs)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Row of each layer's first option in `options`, [layers]."""
        return self._study.starts

    @property
    def version(self) -> int:
        """Number of changes so far; it only grows."""
        return self._version

    @property
    def plan(self) -> Plan:
        """The present plan."""
        state = self._history.present
        return state.study.plan(state.tuning, self._totals(state))

    @property
    def totals(self) -> Totals:
        """What the present plan adds up to."""
        return self._totals(self._history.present)

    @property
    def locked(self) -> tuple[str, ...]:
        """Names of the layers that a solver leaves as they are."""
        state = self._history.present
        return tuple(state.study.layers[row].name for row in sorted(state.tuning.locks))

    @property
    def edited(self) -> tuple[str, ...]:
        """Names of the layers that were set by hand since the last solve, and that the next one would change."""
        state = self._history.present
        rows = sorted(state.tuning.by_hand - state.tuning.locks)
        return tuple(state.study.layers[row].name for row in rows)

    @property
    def thermodynamics(self) -> pa.Table:
        """What follows from the present plan for each layer, see `workbench.session.present.present_table`."""
        return self.snapshot.present

    @property
    def snapshot(self) -> Snapshot:
        """The present plan and what follows from it, all of one version; remembered until the next edit."""
        with self._lock:
            now = self._history.present, self._version, self._history.can_undo, self._history.can_redo
            if self._snapshot is not None and self._snapshot.version == self._version:
                return self._snapshot
        state, version, can_undo, can_redo = now
        study, tuning, totals = state.study, state.tuning, self._totals(state)
        locked = np.zeros(len(tuning.choice), np.bool_)
        locked[list(tuning.locks)] = True
        rows = study.starts + np.array(tuning.choice, np.int64)
        present = present_table(study, tuning, totals.temperature)
        found = Snapshot(version, study.prices, rows, locked, totals, present, can_undo, can_redo)
        with self._lock:
            if version == self._version:
                self._snapshot = found
        return found

    @property
    def menu(self) -> NDArray[np.int64]:
        """Rows in `options` of what `set_bits` gives each layer at 2, 3, … 8 bits, and of what `keep` does."""
        return self._study.menu

    @property
    def readers(self) -> tuple[str, ...]:
        """Sentences on what is known to load an export of the present plan, see `workbench.formats.loading.readers`."""
        state = self._history.present
        plan = state.study.plan(state.tuning, self._totals(state))
        return readers(state.study.checkpoint, plan.target, plan)

    def loading_lines(self, folder: str | os.PathLike[str]) -> str:
        """The lines, Python or for a shell, that load an export of the present plan from a folder."""
        state = self._history.present
        plan = state.study.plan(state.tuning, self._totals(state))
        return loading_lines(state.study.checkpoint, plan.target, folder, plan)

    @property
    def time_aware(self) -> TimeAwareQuantizer | None:
        """The calibration records and their time groups; None without a calibration."""
        return None if self._study.pricing is None else self._study.pricing.time_aware

    @property
    def importance(self) -> pa.Table:
        """How much the output feels each layer, see `workbench.thermo.Pricing.table`.

        Raises
        ------
        ConfigurationError
            If the session has no calibration.
        """
        return self._pricing.table(self._study.layers)

    @property
    def damage_by_group(self) -> NDArray[np.float64]:
        """What each time group adds to the D of each layer under the present plan, [layers, groups].

        NaN for layers without a record.

        Raises
        ------
        ConfigurationError
            If the session has no calibration.
        """
        return damage_by_group(self.thermodynamics, self._pricing, self.checkpoint)

    def detail(self, layer: str) -> LayerDetail:
        """A layer from close by, under the present plan.

        Raises
        ------
        ConfigurationError
            If there is no such layer.
        """
        study, tuning = self._history.present.study, self._history.present.tuning
        (row,) = study.rows(layer)
        option = study.options[row][tuning.choice[row]]
        return look_closely(study.checkpoint, study.target, study.layers[row], option, study.encodings)

    def select(self, patterns: Patterns) -> tuple[str, ...]:
        """Names of the layers that match; see `where` for conditions such as ``"bits < 4 and *attn*"``.

        Parameters
        ----------
        patterns : str or iterable of str
            Layer names, globs on names (case counts, ``*`` crosses dots), or globs on roles after ``role:``.

        Raises
        ------
        ConfigurationError
            If one of them matches no layer; a similar one that does is named.
        """
        return tuple(self._study.layers[row].name for row in self._study.rows(patterns))

    def evaluate(self, expression: str) -> NDArray[Any]:
        """The values of an expression over the layers, see `workbench.expressions`.

        Parameters
        ----------
        expression : str
            Such as ``"8 * nbytes / params"``; its columns are those of `workbench.session.columns.layer_columns`.

        Returns
        -------
        array of float64 or bool, [layers]

        Raises
        ------
        ConfigurationError
            If it is no expression.
        """
        return evaluate(expression, self.columns, HEADINGS)

    def where(self, expression: str) -> tuple[str, ...]:
        """Names of the layers for which a condition holds.

        Parameters
        ----------
        expression : str
            Such as ``"bits < 4 and *attn*"``, ``"role:mlp* and MB > 2 and not locked"`` or ``"damage > 1e-3"``:
            what the table's filter takes. Names of columns are those of `workbench.session.columns.layer_columns` and
            the headings of the table.

        Raises
        ------
        ConfigurationError
            If it is no expression, or no condition.
        """
        found = np.flatnonzero(mask(expression, self.columns, HEADINGS))
        return tuple(self._study.layers[row].name for row in found.tolist())

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """What expressions speak of, see `workbench.session.columns.layer_columns`."""
        now = self.snapshot
        return layer_columns(self.layers, now.present, now.locked)

    @property
    def script(self) -> tuple[str, ...]:
        """All edits so far, each as the line of Python that makes it in a session called ``s``."""
        with self._lock:
            return tuple(self._script)

    def compare(self, size: int | str | None = None, only: Collection[str] | None = None) -> pa.Table:
        """Other policies beside the solver at equal exact bytes; the present plan's, unless a size is given.

        All policies, or `only` some; those that have no plan of the size among all there are raise an error.
        """
        state = self._history.present
        study, tuning = state.study, state.tuning
        nbytes = study.costs.nbytes_of(np.array(tuning.choice))
        if size is not None:
            nbytes += parse_size(size) - study.totals(tuning).nbytes
        return compare(study.costs, nbytes, entropy=study.profile["entropy"].to_numpy(), only=only)

    def predict(self) -> Prediction:
        """What exporting the present plan will take: the bytes of every file, and roughly time and memory."""
        state = self._history.present
        plan = state.study.plan(state.tuning, self._totals(state))
        return predict(state.study.checkpoint, state.study.target, plan, state.study.encodings)

    @property
    def likely_bytes(self) -> int:
        """Roughly what the present plan's payload will come to: less than predicted where the target compresses.

        Parquet's codes are compressed to about their entropy, which was measured when the options were priced. The
        files of both models of the zoo come within 8 % of it; those of other targets are exactly as predicted.
        """
        with self._lock:
            state = self._history.present
        nbytes = self._totals(state).nbytes
        if state.study.target.is_exact:
            return nbytes
        return nbytes - state.study.compressible_bytes(state.tuning)

    def __repr__(self) -> str:
        return f"<Session {str(self.checkpoint.path)!r}: {len(self._study.layers)} layers, target {self.target.name}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        state = self._history.present
        shown = state.study, state.tuning, self._totals(state)
        return {"text/plain": text_table(*shown), "text/html": html_table(*shown)}

    @property
    def _study(self) -> Study:
        return self._history.present.study

    @property
    def _pricing(self) -> Pricing:
        if self._study.pricing is None:
            raise ConfigurationError(
                "The session has no calibration. Open it with one: wb.open(…, calibration=…); "
                "workbench.live.capture makes it.",
                key="calibration",
            )
        return self._study.pricing

    def _totals(self, state: State) -> Totals:
        """What a state's tuning adds up to."""
        known = self._known
        if known is None or known[0] is not state:
            known = self._known = state, state.study.totals(state.tuning)
        return known[1]
