"""`Session`: a checkpoint, what was measured of it, and the plan being tuned for it."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from workbench.calibration import TimeAwareQuantizer
from workbench.checkpoint import Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.config_sources import read_text
from workbench.engine import Report
from workbench.errors import PlanError
from workbench.formats import Format
from workbench.formats.rules import rules_file
from workbench.old_names import old_names, renamed_argument
from workbench.plan import Option, Plan
from workbench.session import commands
from workbench.session.commands import Command, Edit, Step
from workbench.session.commands.layers import named
from workbench.session.history import History
from workbench.session.jobs.export import export_job
from workbench.session.jobs.job import Job
from workbench.session.jobs.validation import Validation, Validator, validation_job
from workbench.session.measurements import Measurements, Reopen
from workbench.session.observers import Observers
from workbench.session.patterns import Patterns
from workbench.session.prediction import Prediction
from workbench.session.script import call, config_of
from workbench.session.snapshot import Change, Snapshot
from workbench.session.state import State, Totals
from workbench.session.tables.layer_detail import LayerDetail
from workbench.session.tables.plan_table import html_table, text_table
from workbench.table import Table
from workbench.text_file import write_text
from workbench.thermo import CostTable, Front, Goal
from workbench.work import ProgressCallback

FilePath = str | os.PathLike[str]


@old_names(prove="validate", proof="validation", prover="validator")
class Session:
    """A checkpoint, what was measured of it, and the plan being tuned; safe to use from several threads.

    Made by `workbench.open`. Every edit is a command (`workbench.session.commands`), one step of undo and a line of the
    `script`; observers get the rows that changed. Everything that can be looked at is a function of the `snapshot`.

    Attributes
    ----------
    opening : str
        The Python that opens the session.
    validator : Validator or None
        What runs plans in a model, see `attach`.
    validation : Validation or None
        What it measured last.

    Examples
    --------
    >>> s = wb.open("zoo:digits-dit", target="mlx")  # doctest: +SKIP
    >>> s.solve(size="2.2MB"); s.set_bits("*attn*", 6); s.undo()  # doctest: +SKIP
    >>> s.export("out").result()  # doctest: +SKIP
    """

    def __init__(self, measurements: Measurements, reopen: Reopen) -> None:
        self._lock = threading.RLock()
        self._observers = Observers()
        self._history = History(State.uniform(measurements, 4))
        self._snapshot = Snapshot(0, self._history.present, can_undo=False, can_redo=False)
        self._script: list[str] = []
        self._reopen = reopen
        self._model_in_use = threading.Lock()
        self._is_handed_on = False
        self.opening = f"wb.open({str(self.checkpoint.path)!r}, target={self.target.name!r})"
        self.validator: Validator | None = None
        self.validation: Validation | None = None
        self.is_closed = False

    # ---- commands, undo, observers --------------------------------------------------------------------------

    @overload
    def do(self, command: Edit) -> Snapshot: ...
    @overload
    def do(self, command: Command) -> Snapshot | None: ...
    def do(self, command: Command) -> Snapshot | None:
        """Make an edit: one step of undo, one line of the script, one change for the observers.

        Returns
        -------
        Snapshot or None
            The session after it; None where there was nothing to undo or redo.

        Raises
        ------
        ArrowQuantError
            If it cannot be made; nothing has changed then.
        """
        with self._lock:
            match command:
                case Edit():
                    self._history.push(command.apply(self._history.present))
                    line = command.script_line(self._history.present)
                case Step() if command.move(self._history):
                    line = command.to_python()
                case _:
                    return None
            after = self._advance(line)
        # Outside the lock, so that an observer may wait for another thread that edits.
        self._observers.notify()
        return after

    def _advance(self, line: str) -> Snapshot:
        """The next version; the lock is held."""
        before, history = self._snapshot, self._history
        after = Snapshot(before.version + 1, history.present, history.can_undo, history.can_redo)
        if self._observers:
            rows = before.state.changed_rows(after.state)
            self._observers.note(Change(after.version, rows, after.totals))
        self._snapshot = after
        self._script.append(line)
        return after

    def _log(self, line: str) -> None:
        """A line of the script for what changed no layer."""
        with self._lock:
            self._advance(line)
        self._observers.notify()

    def undo(self) -> bool:
        """Take the last edit back; whether there was one."""
        return self.do(commands.Undo()) is not None

    def redo(self) -> bool:
        """Make the edit again that was taken back last; whether there was one."""
        return self.do(commands.Redo()) is not None

    def observe(self, observer: Callable[[Change], None]) -> Callable[[], None]:
        """Call a function after every change, in the order of versions; returns what ends it."""
        return self._observers.add(observer)

    def set_bits(
        self,
        patterns: Patterns,
        bits: int | None = None,
        *,
        group_size: int | None = None,
        scheme: str | None = None,
    ) -> tuple[str, ...]:
        """Give layers a width: the target's option of it, or of the next wider where it has not that width.

        Parameters
        ----------
        patterns : str or iterable of str
            As for `select`.
        bits : int, optional
            2 to 8; without it layers keep their width, or get that which the scheme says.
        group_size : int, optional
            Weights that share a scale; by default as now, and with `bits` alone that of the session.
        scheme : str, optional
            The target's own name of it, such as ``"symmetric"`` or ``"Q4_K"``; by default likewise.

        Returns
        -------
        tuple of str
            What layers got that is not the width asked for, such as ``"7 → Q8_0 for 12 layers"``.

        Raises
        ------
        ArgumentError
            If a pattern matches nothing, `bits` is not from 2 to 8, or a layer has no option of that group size or
            scheme: the message names what it has.
        """
        return self.do(commands.SetBits(named(patterns), bits, group_size, scheme)).state.notes

    def set_option(self, layer: str, option: Option) -> None:
        """Give one layer one of its options."""
        self.do(commands.SetOption(layer, option))

    def keep(self, patterns: Patterns) -> None:
        """Leave layers in their source dtype."""
        self.do(commands.Keep(named(patterns)))

    def lock(self, patterns: Patterns, bits: int | None = None) -> tuple[str, ...]:
        """Make a solver leave layers as they are; give them a width first, if one is named. Returns as `set_bits`."""
        return self.do(commands.Lock(named(patterns), bits)).state.notes

    def unlock(self, patterns: Patterns = "*") -> None:
        """Let a solver change layers again."""
        self.do(commands.Unlock(named(patterns)))

    @renamed_argument("max_nsr", "max_damage")
    def solve(
        self,
        size: int | str | None = None,
        *,
        bpw: float | None = None,
        temperature: float | None = None,
        max_damage: float | None = None,
        min_cosine: float | None = None,
        floors: Mapping[str, int] | None = None,
        ceilings: Mapping[str, int] | None = None,
        ties: Sequence[Patterns] = (),
        lock_edits: bool = False,
    ) -> Totals:
        """Find the best plan for a goal; locked layers stay.

        Parameters
        ----------
        size : int or str, optional
            Bytes of the payload, headers and kept tensors included; or text such as ``"2.5GB"``, ``"900 MiB"``.
        bpw : float, optional
            Bits per layer weight.
        temperature : float, optional
            Lagrange multiplier λ: damage per bit.
        max_damage : float, optional
            Σ D at most this, in the fewest bytes.
        min_cosine : float, optional
            Least cosine of every layer: alone the plan of fewest bytes, beside another goal a constraint.
        floors, ceilings : mapping of patterns to bits, optional
            Least and most bits of layers.
        ties : sequence of patterns, optional
            Layers that must share an option.
        lock_edits : bool
            Lock what was set by hand since the last solve (`edited`) first, so that it stays.

        Raises
        ------
        ArgumentError
            If there is not one goal, or it cannot be met: the message names what costs most and the floor.
        """
        goal = Goal(size, bpw, temperature, max_damage, min_cosine)
        tied = tuple(map(named, ties))
        return self.do(
            commands.Solve(goal, dict(floors or {}), dict(ceilings or {}), tied, lock_edits)
        ).totals

    def follow(self, policy: str, size: int | str | None = None) -> Totals:
        """Take the plan of a simple policy instead of the solver's, to compare with; locks do not count.

        Parameters
        ----------
        policy : str
            Within a size: ``"uniform"`` (one width for all layers, the best that fits), ``"sorted_greedy"`` (widens one
            layer at a time, first where a byte saves most damage) or ``"annealing"`` (random changes to the plan, worse
            ones accepted less and less often; slow). With the bytes they take: ``"entropy_rule"`` (ArrowQuant V2's: 8
            bits where the weights' entropy Ĥ is below 0.5, 4 below 0.7, else 2) and ``"threshold"`` (for each layer the
            fewest bits that keep its damage at or under 0.01).
        size : int or str, optional
            Bytes of the payload; by default those of the present plan.
        """
        return self.do(commands.Follow(policy, size)).totals

    def retarget(
        self,
        target: str,
        *,
        names: str | None = None,
        callback: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> tuple[str, ...]:
        """Go on for another export format, or with other names: every layer gets the option most like its present.

        Parameters
        ----------
        target : str
        names : str, optional
            What layers are called from now on, see `workbench.open`; by default as it was asked for last, and where
            nothing was, as the target's runtimes read them.
        callback, cancel
            As for `workbench.open`; without them a notebook's cell shows a bar, and interrupting it cancels.

        Returns
        -------
        tuple of str
            What changed, and what is known to load an export now, each in a sentence.
        """
        if callback is None and cancel is None:
            job = self.retarget_job(target, names)
            try:
                return job.result()
            except KeyboardInterrupt:
                job.cancel()
                raise
        asked = names or self._measured.naming.asked
        after = self.do(commands.Retarget(target, names, self._reopen(target, asked, callback, cancel)))
        return (*after.state.notes, *after.readers)

    def retarget_job(self, target: str, names: str | None = None) -> Job[tuple[str, ...]]:
        """`retarget` in the background."""
        return Job(
            f"measuring options for {target}",
            lambda callback, cancel: self.retarget(target, names=names, callback=callback, cancel=cancel),
        )

    def save_plan(self, path: FilePath, *, overwrite: bool = False) -> None:
        """Write the present plan to a file, see `workbench.Plan.save`."""
        self.plan.save(path, overwrite=overwrite)
        self._log(call("save_plan", os.fspath(path), overwrite=overwrite))

    def load_plan(self, path: FilePath) -> tuple[str, ...]:
        """Take over a plan from a file; returns what does not match but does not matter, in sentences.

        Raises
        ------
        ArgumentError
            If the plan is for another target or other layers, or has an option that a layer here has not.
        """
        return self.do(commands.LoadPlan(os.fspath(path), Plan.load(path))).state.notes

    def load_rules(self, path: FilePath, rules_format: str, names: str | None = None) -> None:
        """Give layers the options that another tool's rules say; layers that no rule names stay.

        Parameters
        ----------
        path : path-like
            A file with the rules, or a config.json that has them.
        rules_format : str
            ``"llama-quantize"``, ``"stable-diffusion.cpp"``, ``"mlx"`` or ``"compressed-tensors"``.
        names : str, optional
            What the rules call tensors: ``"gguf"``, as the GGUF file of an export does, which is the default of the
            first two, or ``"checkpoint"``, that of the others.
        """
        self.do(commands.LoadRules(os.fspath(path), rules_format, read_text(Path(path), PlanError), names))

    def save_rules(
        self, path: FilePath, rules_format: str, names: str | None = None, *, overwrite: bool = False
    ) -> None:
        """Write the present plan as another tool's rules, see `load_rules`.

        With `overwrite` it replaces rules of the same format; another file it never replaces.
        """
        text = self._snapshot.rules(rules_format, names)
        write_text(path, text, rules_file(rules_format), overwrite=overwrite)
        self._log(call("save_rules", os.fspath(path), rules_format, names=names, overwrite=overwrite))

    def export(
        self, output: FilePath, *, config: DiffusionQuantConfig | None = None, resume: bool = False
    ) -> Job[Report]:
        """Write the present plan's export in the background, and measure it.

        Where the configuration's target is ``safetensors``, what it would decode to is written, to try it.
        """
        where, made = Path(output).absolute(), None if config is None else config_of(config)
        line = f"{call('export', str(where), config=made, resume=resume)}.result()"
        return export_job(self._snapshot, where, config, resume, lambda: self._log(line))

    def attach(self, validator: Validator) -> None:
        """Have plans run by a function; `workbench.live.attach` makes one of a torch model."""
        self.validator = validator
        self._log("wb.live.attach(s, module, run)")

    def validate(self, runs: int = 3, *, activations: str = "none", alone: bool = False) -> Job[Validation]:
        """Run the present plan in the attached model in the background; `validation` is then what was measured.

        Parameters as for `workbench.live.compare`. The model must not be used meanwhile; it is left as it was.
        """
        mode = None if activations == "none" else activations
        line = f"{call('validate', runs=runs, activations=mode, alone=alone)}.result()"

        def done(found: Validation) -> None:
            self.validation = found
            self._log(line)

        return validation_job(
            self.validator, self._model_in_use, done, runs=runs, activations=activations, alone=alone
        )

    def learn(self, measured: Validation | Mapping[str, float]) -> Totals:
        """Correct the predicted damage by what was measured; solve again to let the plan follow.

        It replaces what was learnt of the same layers before; factors of 1 for all layers forget.

        Parameters
        ----------
        measured : Comparison, or mapping of str to float
            Of `workbench.live.compare`; or by what the damage of each layer, as it was before anything was learnt, is
            multiplied. Layers that it does not name keep what was learnt of them before, or else get the median.

        """
        if isinstance(measured, Mapping):
            return self.do(commands.Learn(measured)).totals
        return self.do(
            commands.Learn(measured.factors, "s.validation" if measured is self.validation else "comparison")
        ).totals

    @property
    def learnt(self) -> Mapping[str, float]:
        """By what the damage of layers is multiplied, because measuring found it so; empty at first."""
        return dict(self._measured.learnt)

    # ---- looking --------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Snapshot:
        """The present plan and what follows from it, all of one version."""
        return self._snapshot

    @property
    def _measured(self) -> Measurements:
        return self._snapshot.measurements

    @property
    def version(self) -> int:
        """Number of changes so far; it only grows."""
        return self._snapshot.version

    @property
    def script(self) -> tuple[str, ...]:
        """All edits so far, each as the line of Python that makes it in a session called ``s``."""
        with self._lock:
            return tuple(self._script)

    @property
    def checkpoint(self) -> Checkpoint:
        """What is studied."""
        return self._measured.checkpoint

    @property
    def target(self) -> Format:
        """The export format."""
        return self._measured.target

    @property
    def notes(self) -> list[str]:
        """What should be known of the checkpoint and its calibration, and of the tensors that are no layers."""
        return self._snapshot.notes

    @property
    def names(self) -> str:
        """What layers are called: as in the ``"original"`` checkpoint, or as in the files of this ``"checkpoint"``."""
        return self._measured.names

    @property
    def possible_names(self) -> tuple[str, ...]:
        """What they could be called."""
        return self._measured.naming.possible

    @property
    def layers(self) -> Table:
        """A row a layer, see `workbench.thermo.measurement.profile.profile`."""
        return self._measured.profile

    @property
    def options(self) -> Table:
        """A row a layer × option, see `workbench.thermo.options.option_table.measure_options`."""
        return self._measured.option_table

    @property
    def costs(self) -> CostTable:
        """Bytes and damage of every option of every layer."""
        return self._measured.costs

    @property
    def menu(self) -> NDArray[np.int64]:
        """Rows in `options` of what `set_bits` gives each layer at 2, 3, … 8 bits, and of what `keep` does."""
        return self._measured.menu

    @property
    def front(self) -> Front:
        """The front of best plans without locks or other limits; a row of it is a layer."""
        return self._snapshot.front

    @property
    def plan(self) -> Plan:
        """The present plan."""
        return self._snapshot.plan

    @property
    def totals(self) -> Totals:
        """What the present plan adds up to."""
        return self._snapshot.totals

    @property
    def locked(self) -> tuple[str, ...]:
        """Names of the layers that a solver leaves as they are."""
        now = self._snapshot
        return now.names_of(now.state.locks)

    @property
    def edited(self) -> tuple[str, ...]:
        """Names of the layers that were set by hand since the last solve, and that the next one would change."""
        now = self._snapshot
        return now.names_of(now.state.by_hand - now.state.locks)

    @property
    def thermodynamics(self) -> Table:
        """A row a layer under the present plan, see `workbench.session.tables.thermodynamics.thermodynamics_table`."""
        return self._snapshot.present

    @property
    def readers(self) -> tuple[str, ...]:
        """Sentences on what is known to load an export of the present plan, see `workbench.formats.loading.readers`."""
        return self._snapshot.readers

    def loading_lines(self, folder: FilePath) -> str:
        """The lines, Python or for a shell, that load an export of the present plan from a folder."""
        return self._snapshot.loading_lines(folder)

    @property
    def time_aware(self) -> TimeAwareQuantizer | None:
        """The calibration records and their time groups; None without a calibration."""
        return self._snapshot.time_aware

    @property
    def importance(self) -> Table:
        """How much the output feels each layer, see `workbench.thermo.DamageModel.table`; needs a calibration."""
        return Table(self._snapshot.damage_model.table(self._measured.layers))

    @property
    def damage_by_group(self) -> NDArray[np.float64]:
        """What each time group adds to the D of each layer, [layers, groups]; NaN for layers without a record."""
        return self._snapshot.damage_by_group

    def detail(self, layer: str) -> LayerDetail:
        """A layer from close by, under the present plan."""
        return self._snapshot.detail(layer)

    def select(self, patterns: Patterns) -> tuple[str, ...]:
        """Names of the layers that match; see `where` for conditions such as ``"bits < 4 and *attn*"``.

        Parameters
        ----------
        patterns : str or iterable of str
            Layer names, globs on names (case counts, ``*`` crosses dots), or globs on roles after ``role:``.
        """
        return self._snapshot.select(patterns)

    def evaluate(self, expression: str) -> NDArray[Any]:
        """The values of an expression over the layers, float64 or bool, [layers]; see `workbench.expressions`.

        Parameters
        ----------
        expression : str
            Such as ``"8 * nbytes / params"``; with the columns of `workbench.session.tables.columns.layer_columns`.
        """
        return self._snapshot.evaluate(expression)

    def where(self, expression: str) -> tuple[str, ...]:
        """Names of the layers for which a condition holds.

        Parameters
        ----------
        expression : str
            Such as ``"bits < 4 and *attn*"``, ``"role:mlp* and MB > 2 and not locked"`` or ``"damage > 1e-3"``:
            what the table's filter takes. Names of columns are those of
            `workbench.session.tables.columns.layer_columns` and the headings of the table.
        """
        return self._snapshot.where(expression)

    def compare(self, size: int | str | None = None, only: Collection[str] | None = None) -> Table:
        """All policies, or `only` some, beside the solver at equal exact bytes: the present plan's, or of a size."""
        return self._snapshot.compare(size, only)

    def predict(self) -> Prediction:
        """What exporting the present plan will take: the bytes of every file, and roughly time and memory."""
        return self._snapshot.predict()

    @property
    def likely_bytes(self) -> int:
        """Roughly what the present plan's payload will come to; where the target compresses, by the codes' entropy.

        The Parquet files of both models of the zoo come within 8 % of it; those of other targets are as predicted.
        """
        return self._snapshot.likely_bytes

    def __repr__(self) -> str:
        layers, path = len(self._measured.layers), str(self.checkpoint.path)
        return f"<Session {path!r}: {layers} layers, target {self.target.name}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        state = self._snapshot.state
        return {"text/plain": text_table(state), "text/html": html_table(state)}

    def close(self) -> None:
        """Close the checkpoint's files, unless they were handed on to another session."""
        self.is_closed = True
        if not self._is_handed_on:
            self.checkpoint.close()

    def hand_on(self) -> Session:
        """Another session that goes on from here: it has the plan, the steps of undo, the script and the files."""
        with self._lock:
            other = copy.copy(self)
            other._lock, other._observers = threading.RLock(), Observers()
            other._history, other._script = self._history.copy(), list(self._script)
            self._is_handed_on = True
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()
