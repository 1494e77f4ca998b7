"""`Session`: the truth about a checkpoint and the plan being tuned for it."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from workbench.config import DiffusionQuantConfig
from workbench.config_sources import read_text
from workbench.engine import DiffusionOrchestrator, Report
from workbench.formats.rules import naming_of, rules_file, write_rules
from workbench.plan import Plan
from workbench.session.editing import Editing
from workbench.session.job import Job
from workbench.session.observers import Observers
from workbench.session.patterns import Patterns
from workbench.session.script import call, config_of
from workbench.session.switching import carried_over
from workbench.session.tuning import Tuning
from workbench.session.values import Change, Totals, parse_size
from workbench.text_file import write_text
from workbench.thermo.profile import known_entropies
from workbench.work import ProgressCallback


class Session(Editing):
    """A checkpoint, what was measured of it, and the plan being tuned; safe to use from several threads.

    Made by `workbench.open`. Every edit is one step of undo, and tells the observers which rows changed.
    """

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
            Distortion that a bit is worth.
        max_nsr : float, optional
            Σ D at most this, in the fewest bytes.
        min_cosine : float, optional
            Least cosine of every layer: alone the plan of fewest bytes, beside another goal a constraint.
        floors, ceilings : mapping of patterns to bits, optional
            Least and most bits of layers.
        ties : sequence of patterns, optional
            Layers that must share an option.
        lock_edits : bool
            Lock what was set by hand since the last solve (`edited`) first, so that it stays.

        Returns
        -------
        Totals

        Raises
        ------
        ConfigurationError
            If there is not one goal, or it cannot be met: the message names what costs most and the floor.
        """
        asked: dict[str, Any] = {
            "bpw": bpw, "temperature": temperature, "max_nsr": max_nsr, "min_cosine": min_cosine,
            "floors": floors, "ceilings": ceilings, "ties": ties,
        }  # fmt: skip

        def solved(now: Tuning) -> Tuning:
            begin = replace(now, locks=now.locks | now.by_hand) if lock_edits else now
            return self._study.solved(begin, size, **asked)

        arguments = () if size is None else (size,)
        self._edit(solved, call("solve", *arguments, lock_edits=lock_edits, **asked))
        return self.totals

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

        Raises
        ------
        ConfigurationError
            If there is no such policy, or it has no plan of the size.
        """
        nbytes = None if size is None else parse_size(size)
        self._edit(
            lambda now: self._study.by_policy(now, policy, nbytes),
            call("follow", policy, size=size),
        )
        return self.totals

    def retarget(
        self,
        target: str,
        *,
        names: str | None = None,
        callback: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> tuple[str, ...]:
        """Go on for another export format, or with other names: every layer gets the option most like its present.

        One step of undo.

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

        Raises
        ------
        ArrowQuantError
            If the format cannot hold the checkpoint, or the names cannot be had; nothing has changed then.
        """
        if callback is None and cancel is None:
            job = self.retarget_job(target, names)
            try:
                return job.result()
            except KeyboardInterrupt:
                job.cancel()
                raise
        study = self._reopen(target, names or self._study.naming.asked, callback, cancel)
        with self._lock:
            known = self._study.checkpoint.notes
            after, notes = carried_over(self._history.present, study)
            notes += tuple(note for note in study.checkpoint.notes if note not in known)
            self._history.push(after)
            self._note_all(call("retarget", target, names=names), tuple(range(len(study.layers))))
        self._observers.tell()
        return (*notes, *self.readers)

    def retarget_job(self, target: str, names: str | None = None) -> Job[tuple[str, ...]]:
        """`retarget` in the background."""
        return Job(
            f"pricing for {target}",
            lambda callback, cancel: self.retarget(target, names=names, callback=callback, cancel=cancel),
        )

    def save_plan(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the present plan to a file, see `workbench.Plan.save`."""
        self.plan.save(path, overwrite=overwrite)
        self._tell(call("save_plan", os.fspath(path), overwrite=overwrite))

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

    def save_rules(
        self,
        path: str | os.PathLike[str],
        rules_format: str,
        names: str | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        """Write the present plan as another tool's rules, see `load_rules`.

        With `overwrite` it replaces rules of the same format; another file it never replaces.

        Raises
        ------
        ValidationError
            If there is a file already that is not to be replaced.
        ConfigurationError
            If the rules cannot say what the plan does, or the file cannot be written.
        """
        study, plan = self._study, self.plan
        naming = naming_of(study.checkpoint, rules_format, names)
        text = write_rules(plan, rules_format, study.layers, study.target, naming=naming)
        write_text(path, text, rules_file(rules_format), overwrite=overwrite)
        self._tell(call("save_rules", os.fspath(path), rules_format, names=names, overwrite=overwrite))

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
        study, plan, where = self._study, self.plan, Path(output).absolute()
        time_aware = None if study.pricing is None else study.pricing.time_aware
        settings = config or DiffusionQuantConfig.model_validate({"target": plan.target})
        held = study.checkpoint.hold()

        def work(callback: ProgressCallback, cancel: threading.Event) -> Report:
            with held:
                report = DiffusionOrchestrator(settings).run(
                    study.checkpoint, where, plan=plan, time_aware=time_aware,
                    entropies=known_entropies(study.profile), resume=resume, callback=callback, cancel=cancel,
                )  # fmt: skip
            made = None if config is None else config_of(config)
            self._tell(f"{call('export', str(where), config=made, resume=resume)}.result()")
            return report

        return Job(f"export to {Path(output).name}", work)

    def observe(self, observer: Callable[[Change], None]) -> Callable[[], None]:
        """Call a function after every change, in the order of versions; returns what ends it."""
        return self._observers.add(observer)

    is_closed = False
    """Whether it was closed."""
    _is_handed_on = False

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
            other.views = []
            self._is_handed_on = True
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()
