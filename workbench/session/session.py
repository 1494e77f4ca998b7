"""`Session`: the truth about a checkpoint and the plan being tuned for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from workbench.config import DiffusionQuantConfig
from workbench.config_sources import read_text
from workbench.errors import ConfigurationError
from workbench.formats.rules import naming_of, write_rules
from workbench.pipeline import DiffusionOrchestrator, Report
from workbench.plan import Option, Plan
from workbench.session.history import History, Tuning
from workbench.session.job import Job
from workbench.session.patterns import Patterns
from workbench.session.proving import Proving
from workbench.session.script import call
from workbench.session.values import Change, Totals, parse_size
from workbench.text_file import replace_text
from workbench.thermo import Constraints
from workbench.work import ProgressCallback


class Session(Proving):
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
        self._edit(
            lambda now: _with_places(now, places, {"method": "by hand"}), call("set_bits", patterns, bits)
        )

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
        self._edit(
            lambda now: _with_places(now, places, {"method": "by hand"}), call("set_option", layer, option)
        )

    def keep(self, patterns: Patterns) -> None:
        """Leave layers in their source dtype.

        Raises
        ------
        ConfigurationError
            If a pattern matches nothing.
        """
        places = {row: self._study.place_kept(row) for row in self._study.rows(patterns)}
        self._edit(lambda now: _with_places(now, places, {"method": "by hand"}), call("keep", patterns))

    def lock(self, patterns: Patterns, bits: int | None = None) -> None:
        """Make a solver leave layers as they are; give them a width first, if one is named."""
        rows = self._study.rows(patterns)
        places = {} if bits is None else {row: self._study.place(row, bits) for row in rows}

        def locked(now: Tuning) -> Tuning:
            placed = _with_places(now, places, now.made_by) if places else now
            return replace(placed, locks=now.locks | set(rows))

        self._edit(locked, call("lock", patterns) if bits is None else call("lock", patterns, bits=bits))

    def unlock(self, patterns: Patterns = "*") -> None:
        """Let a solver change layers again."""
        rows = self._study.rows(patterns)
        self._edit(lambda now: replace(now, locks=now.locks - set(rows)), call("unlock", patterns))

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
            ),
            call(
                "solve", *(() if size is None else (size,)), bpw=bpw, temperature=temperature, max_nsr=max_nsr,
                min_cosine=min_cosine, floors=floors, ceilings=ceilings, ties=ties,
            ),
        )  # fmt: skip
        return self.totals

    def follow(self, policy: str, size: int | str | None = None) -> Totals:
        """Take the plan of a simple policy instead of the solver's, to compare with; locks do not count.

        Parameters
        ----------
        policy : str
            ``"uniform"``, ``"sorted_greedy"`` or ``"annealing"`` within a size; ``"entropy_rule"`` (ArrowQuant's) and
            ``"threshold"`` (the fewest bits with an NSR under 0.01) take the bytes they take.
        size : int or str, optional
            Bytes of the payload; by default those of the present plan.

        Raises
        ------
        ConfigurationError
            If there is no such policy, or it has no plan of the size.
        """
        nbytes = None if size is None else parse_size(size)
        self._edit(
            lambda now: self._study.by_policy(now, policy, nbytes),
            call("follow", policy, **({} if size is None else {"size": size})),
        )
        return self.totals

    def retarget(
        self,
        target: str,
        *,
        callback: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> tuple[str, ...]:
        """Go on for another export format: price its options, and give every layer the one most like its present.

        Edits before it cannot be undone after it.

        Parameters
        ----------
        target : str
        callback, cancel
            As for `workbench.open`.

        Returns
        -------
        tuple of str
            What changed, each in a sentence.
        """
        study = self._reopen(target, callback, cancel)
        with self._lock:
            if self._study.learnt:
                study = study.learn(self._study.learnt)
            before = self._history.present
            after, notes = study.like(self._study, before)
            self._study, self._history = study, History(after)
            self._known = self._snapshot = None
            self._version += 1
            self._script.append(call("retarget", target))
            change = Change(self._version, tuple(range(len(study.layers))), self._totals(after))
            self._observers.note(change)
        self._observers.tell()
        return notes

    def retarget_job(self, target: str) -> Job[tuple[str, ...]]:
        """`retarget` in the background."""
        return Job(
            f"pricing for {target}",
            lambda callback, cancel: self.retarget(target, callback=callback, cancel=cancel),
        )

    def undo(self) -> bool:
        """Take the last edit back; whether there was one."""
        return self._move(self._history.undo, call("undo"))

    def redo(self) -> bool:
        """Make the edit again that was taken back last; whether there was one."""
        return self._move(self._history.redo, call("redo"))

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
        self._edit(lambda _: tuning, call("load_plan", os.fspath(path)))
        return notes

    def load_rules(self, path: str | os.PathLike[str], rules_format: str, names: str | None = None) -> None:
        """Give layers the options that another tool's rules say, as one edit; layers that no rule names stay.

        Parameters
        ----------
        path : path-like
            A file with the rules, or a config.json that has them.
        rules_format : str
            ``"llama-quantize"``, ``"stable-diffusion.cpp"``, ``"mlx"`` or ``"compressed-tensors"``.
        names : str, optional
            What the rules call tensors: ``"gguf"``, as the GGUF file of an export does, which is the default of the
            first two, or ``"checkpoint"``, that of the others.

        Raises
        ------
        ConfigurationError
            If the file cannot be read, a rule names no layer, or a layer cannot be stored as its rule says.
        """
        text, where = read_text(Path(path)), os.fspath(path)
        self._edit(
            lambda now: self._study.by_rules(now, text, rules_format, where, names),
            call("load_rules", where, rules_format, names=names),
        )

    def save_rules(self, path: str | os.PathLike[str], rules_format: str, names: str | None = None) -> None:
        """Write the present plan as another tool's rules, see `load_rules`; what was there is replaced.

        Raises
        ------
        ConfigurationError
            If the rules cannot say what the plan does, or the file cannot be written.
        """
        naming = naming_of(self.checkpoint, rules_format, names)
        replace_text(
            path, write_rules(self.plan, rules_format, self._study.layers, self.target, naming=naming)
        )

    # ---- exporting, and who listens ------------------------------------------------------------------------

    def export(
        self,
        output: str | os.PathLike[str],
        *,
        config: DiffusionQuantConfig | None = None,
        resume: bool = False,
    ) -> Job[Report]:
        """Write the present plan's export in the background, and measure it.

        Where the configuration's target is ``safetensors``, what it would decode to is written, to try it.
        """
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

    # ---- behind it ----------------------------------------------------------------------------------------

    def _edit(self, change: Callable[[Tuning], Tuning], line: str) -> None:
        with self._lock:
            before = self._history.present
            after = change(before)
            self._history.push(after)
            self._note(before, after, line)
        # Outside the lock, so that an observer may wait for another thread that edits.
        self._observers.tell()

    def _move(self, step: Callable[[], bool], line: str) -> bool:
        with self._lock:
            before = self._history.present
            if not step():
                return False
            self._note(before, self._history.present, line)
        self._observers.tell()
        return True

    def _note(self, before: Tuning, after: Tuning, line: str) -> None:
        self._version += 1
        self._script.append(line)
        if not self._observers:
            return
        moved = {row for row, place in enumerate(after.choice) if place != before.choice[row]}
        rows = tuple(sorted(moved | (before.locks ^ after.locks)))
        self._observers.note(Change(self._version, rows, self._totals(after)))


def _with_places(now: Tuning, places: Mapping[int, int], made_by: Mapping[str, Any]) -> Tuning:
    choice = tuple(places.get(row, place) for row, place in enumerate(now.choice))
    return replace(now, choice=choice, made_by=made_by, limits=Constraints())
