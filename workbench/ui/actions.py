"""What the toolbar can do to a session: each action what the method of its name does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.config import DiffusionQuantConfig
from workbench.errors import ConfigurationError
from workbench.session import Session
from workbench.ui.jobs import Jobs
from workbench.ui.strip import Strip

POLICIES = ("uniform", "sorted_greedy", "annealing", "entropy_rule", "threshold")
"""Those that the toolbar offers."""


class Actions:
    """Does what the toolbar asks for.

    Parameters
    ----------
    session : Session
    strip : Strip
        Where the end of long work is told.
    jobs : Jobs
        Where long work runs.
    folder : Path
        Where exports and plans go whose paths are not absolute; with `confined`, only there.
    confined : bool
    """

    def __init__(self, session: Session, strip: Strip, jobs: Jobs, folder: Path, confined: bool) -> None:
        self.session = session
        self._strip, self._jobs = strip, jobs
        self._folder, self._confined = folder.absolute(), confined

    def do(self, message: Mapping[str, Any]) -> str:
        """Do what a message asks for; returns what to tell, if anything.

        Raises
        ------
        ConfigurationError
            If it asks for nothing that there is.
        ArrowQuantError, OSError
            Whatever prevents it.
        """
        session = self.session
        match message:
            case {"act": "solve", "size": str(size)}:
                session.solve(size.strip())
            case {"act": "solve", "size": int(size)}:
                session.solve(size)
            case {"act": "budget", "nbytes": int(nbytes)}:
                self._spend(nbytes)
            case {"act": "solve", "bpw": int(bpw) | float(bpw)}:
                session.solve(bpw=float(bpw))
            case {"act": "solve", "temperature": int(temperature) | float(temperature)}:
                session.solve(temperature=float(temperature))
            case {"act": "follow", "policy": str(policy)}:
                session.follow(policy)
            case {"act": "lock", "role": str(role)}:
                session.lock(f"role:{role}")
            case {"act": "unlock", "role": str(role)}:
                session.unlock(f"role:{role}")
            case {"act": "unlock"}:
                session.unlock()
            case {"act": "retarget", "target": str(target)}:
                self._jobs.run(lambda: session.retarget_job(target), lambda notes: self._strip.note(*notes))
            case {"act": "save", "path": str(text)}:
                path = self._within(text)
                session.plan.save(path)
                return f"The plan is in {path}."
            case {"act": "load", "path": str(text)}:
                notes = session.load_plan(self._within(text))
                return " ".join([f"The plan of {text} was taken over.", *notes])
            case {"act": "export", "folder": str(text)}:
                self._export(self._within(text))
            case {"act": "prove", "runs": int(runs), "activations": str(mode), "alone": bool(alone)}:
                self._jobs.run(
                    lambda: session.prove(runs, activations=mode, alone=alone),
                    lambda _: self._strip.note(
                        "The plan has run in the model; the proof tab shows what it did."
                    ),
                )
            case {"act": "learn"}:
                return self._learn()
            case {"act": "cancel"}:
                self._jobs.cancel()
            case _:
                raise ConfigurationError(f"The panel understands no action {message!r:.200}.", key="act")
        return ""

    def _spend(self, nbytes: int) -> None:
        """Solve for a place of the slider, whose ends are estimates: below the least there is, take that."""
        try:
            self.session.solve(nbytes)
        except ConfigurationError as error:
            floor = getattr(error, "floor", None)
            if floor is None or nbytes >= floor:
                raise
            self.session.solve(floor)

    def _learn(self) -> str:
        """Learn from the last proof; says how far the prediction moved."""
        if self.session.proof is None:
            raise ConfigurationError("There is no proof to learn from yet; run one.", key="act")
        before = self.session.totals.nsr
        after = self.session.learn(self.session.proof).nsr
        return f"Learnt: this plan's predicted damage was {before:.3g} and is {after:.3g}. Solve again to follow."

    def _export(self, folder: Path) -> None:
        settings = DiffusionQuantConfig.model_validate({"target": self.session.target.name})
        self._jobs.run(
            lambda: self.session.export(folder, config=settings),
            lambda report: self._strip.note(
                f"Written to {folder}: {report.actual_bytes:,} bytes, read back and compared."
            ),
        )

    def _within(self, text: str) -> Path:
        """The path meant by a text, in the folder where it must be."""
        path = (self._folder / text.strip()).resolve()
        if self._confined and not path.is_relative_to(self._folder.resolve()):
            raise PermissionError(f"{text!r} is outside {self._folder}; give a name within it")
        return path
