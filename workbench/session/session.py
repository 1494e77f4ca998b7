"""`Session`: the truth about a checkpoint and the plan being tuned for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from workbench.config import DiffusionQuantConfig
from workbench.errors import ConfigurationError
from workbench.pipeline import DiffusionOrchestrator, Report
from workbench.plan import Option, Plan
from workbench.session.history import Tuning
from workbench.session.job import Job
from workbench.session.outlook import Outlook
from workbench.session.study import Patterns
from workbench.session.table import html_table, text_table
from workbench.session.values import Change, Totals, parse_size
from workbench.thermo import Constraints, compare
from workbench.work import ProgressCallback


class Session(Outlook):
    """A checkpoint, what was measured of it, and the plan being tuned; safe to use from several threads.

    Made by `workbench.open`. Every edit is one step of undo, and tells the observers which rows changed.
    """

    # ---- editing ------------------------------------------------------------------------------------------

    def set_bits(self, patterns: Patterns, bits: int) -> None:
        """Give layers a width: the target's option of it, or of the next wider, in the session's group size.

        Raises
        ------
        ConfigurationError
            If a pattern matches nothing, or `bits` is not from 2 to 8.
        """
        if not 2 <= bits <= 8:
            raise ConfigurationError(
                f"bits is {bits}; allowed: 2 to 8.", key="bits", value=bits, allowed="2 to 8"
            )
        places = {row: self._study.place(row, bits) for row in self._study.rows(patterns)}
        self._edit(lambda now: _with_places(now, places, {"method": "by hand"}))

    def set_option(self, layer: str, option: Option) -> None:
        """Give one layer one of its options.

        Raises
        ------
        ConfigurationError
            If there is no such layer, or it has no such option.
        """
        (row,) = self._study.rows(layer)
        if option not in self._study.options[row]:
            raise ConfigurationError(
                f"{layer!r} cannot be stored as {option} in {self.target.name}.", key="option", value=option
            )
        places = {row: self._study.options[row].index(option)}
        self._edit(lambda now: _with_places(now, places, {"method": "by hand"}))

    def keep(self, patterns: Patterns) -> None:
        """Leave layers in their source dtype.

        Raises
        ------
        ConfigurationError
            If a pattern matches nothing.
        """
        places = {row: self._study.place_kept(row) for row in self._study.rows(patterns)}
        self._edit(lambda now: _with_places(now, places, {"method": "by hand"}))

    def lock(self, patterns: Patterns, bits: int | None = None) -> None:
        """Make a solver leave layers as they are; give them a width first, if one is named."""
        rows = self._study.rows(patterns)
        places = {} if bits is None else {row: self._study.place(row, bits) for row in rows}

        def locked(now: Tuning) -> Tuning:
            placed = _with_places(now, places, now.made_by) if places else now
            return replace(placed, locks=now.locks | set(rows))

        self._edit(locked)

    def unlock(self, patterns: Patterns = "*") -> None:
        """Let a solver change layers again."""
        rows = self._study.rows(patterns)
        self._edit(lambda now: replace(now, locks=now.locks - set(rows)))

    def solve(
        self,
        size: int | str | None = None,
        *,
        bpw: float | None = None,
        temperature: float | None = None,
        max_nsr: float | None = None,
        min_cosine: float | None = None,
        floors: Mapping[str, int] | None = None,
        ceilings: Mapping[str, int] | None = None,
        ties: Sequence[Patterns] = (),
    ) -> Totals:
        """Find the best plan for a goal; locked layers stay.

        Parameters
        ----------
        size : int or str, optional
            Bytes of the payload, headers and kept tensors included; or text such as ``"2.5GB"``, ``"900 MiB"``.
        bpw : float, optional
            Bits per layer weight.
        temperature : float, optional
            Distortion that a bit is worth.
        max_nsr : float, optional
            Σ D at most this, in the fewest bytes.
        min_cosine : float, optional
            Least cosine of every layer: alone the plan of fewest bytes, beside another goal a constraint.
        floors, ceilings : mapping of patterns to bits, optional
            Least and most bits of layers.
        ties : sequence of patterns, optional
            Layers that must share an option.

        Returns
        -------
        Totals

        Raises
        ------
        ConfigurationError
            If there is not one goal, or it cannot be met: the message names what costs most and the floor.
        """
        self._edit(
            lambda now: self._study.solved(
                now, size, bpw, temperature, max_nsr, min_cosine, floors, ceilings, ties
            )
        )
        return self.totals

    def undo(self) -> bool:
        """Take the last edit back; whether there was one."""
        return self._move(self._history.undo)

    def redo(self) -> bool:
        """Make the edit again that was taken back last; whether there was one."""
        return self._move(self._history.redo)

    def load_plan(self, path: str | os.PathLike[str]) -> tuple[str, ...]:
        """Take over a plan from a file, as one edit.

        Returns
        -------
        tuple of str
            What does not match but does not matter, such as other contents of the checkpoint, each in a sentence.

        Raises
        ------
        ConfigurationError
            If the plan is for another target or other layers, or has an option that a layer here has not.
        """
        tuning, notes = self._study.adopt(Plan.load(path), os.fspath(path))
        self._edit(lambda _: tuning)
        return notes

    # ---- comparing and exporting --------------------------------------------------------------------------

    def compare(self, size: int | str | None = None) -> pa.Table:
        """Other policies beside the solver at equal exact bytes; the present plan's, unless a size is given."""
        with self._lock:
            now = self._history.present
        nbytes = self._study.costs.nbytes_of(np.array(now.choice))
        if size is not None:
            nbytes += parse_size(size) - self._study.totals(now).nbytes
        return compare(self._study.costs, nbytes, entropy=self.layers["entropy"].to_numpy())

    def export(
        self,
        output: str | os.PathLike[str],
        *,
        config: DiffusionQuantConfig | None = None,
        resume: bool = False,
    ) -> Job[Report]:
        """Write the present plan's export in the background, and measure it."""
        plan = self.plan
        settings = config or DiffusionQuantConfig.model_validate({"target": self.target.name})

        def work(callback: ProgressCallback, cancel: threading.Event) -> Report:
            return DiffusionOrchestrator(settings).run(
                self.checkpoint.path, output, plan=plan, time_aware=self.time_aware,
                component=self.checkpoint.component, resume=resume, callback=callback, cancel=cancel,
            )  # fmt: skip

        return Job(f"export to {Path(output).name}", work)

    def observe(self, observer: Callable[[Change], None]) -> Callable[[], None]:
        """Call a function after every change, in the order of versions; returns what ends it."""
        return self._observers.add(observer)

    def close(self) -> None:
        """Close the checkpoint's files."""
        self.checkpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {str(self.checkpoint.path)!r}: {len(self._study.layers)} layers, target {self.target.name}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        with self._lock:
            tuning = self._history.present
        shown = self._study, self._study.plan(tuning), self._study.totals(tuning)
        return {"text/plain": text_table(*shown), "text/html": html_table(*shown)}

    # ---- behind it ----------------------------------------------------------------------------------------

    def _edit(self, change: Callable[[Tuning], Tuning]) -> None:
        with self._lock:
            before = self._history.present
            after = change(before)
            self._history.push(after)
            self._note(before, after)
        # Outside the lock, so that an observer may wait for another thread that edits.
        self._observers.tell()

    def _move(self, step: Callable[[], bool]) -> bool:
        with self._lock:
            before = self._history.present
            if not step():
                return False
            self._note(before, self._history.present)
        self._observers.tell()
        return True

    def _note(self, before: Tuning, after: Tuning) -> None:
        self._version += 1
        if not self._observers:
            return
        moved = {row for row, place in enumerate(after.choice) if place != before.choice[row]}
        rows = tuple(sorted(moved | (before.locks ^ after.locks)))
        self._observers.note(Change(self._version, rows, self._totals(after)))


def _with_places(now: Tuning, places: Mapping[int, int], made_by: Mapping[str, Any]) -> Tuning:
    choice = tuple(places.get(row, place) for row, place in enumerate(now.choice))
    return replace(now, choice=choice, made_by=made_by, limits=Constraints())
