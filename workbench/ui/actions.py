"""What the toolbar can do to a session: each action what the method of its name does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from workbench.config import NAMES
from workbench.engine import Report
from workbench.errors import ArgumentError, UsageError
from workbench.session import Session
from workbench.session.commands import Solve, act_of
from workbench.text_file import ExistingFileError
from workbench.thermo import Goal
from workbench.ui.answers import Choice, Question, question_on_edits
from workbench.ui.jobs import Jobs, between
from workbench.ui.message_bar import MessageBar


class Actions:
    """Does what the toolbar asks for.

    Parameters
    ----------
    session : Session
    message_bar : MessageBar
        Shows how long work ended.
    jobs : Jobs
        Where long work runs.
    folder : Path
        Where exports and plans go whose paths are not absolute; with `confined`, only there.
    confined : bool
    changed : callable
        Called when `exported` is another.
    """

    def __init__(
        self,
        session: Session,
        message_bar: MessageBar,
        jobs: Jobs,
        folder: Path,
        confined: bool,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.session, self._changed = session, changed
        self._pace = 0.8, 4.0
        """Within what of its prediction an export's time was found to be."""
        self.exported: dict[str, Any] | None = None
        """The last export: its ``folder``, a ``text`` on it, and the ``lines`` that load it."""
        self._message_bar, self._jobs = message_bar, jobs
        self._folder, self._confined = folder.absolute(), confined

    def do(self, message: Mapping[str, Any]) -> str | Question:
        """Do what a message asks for; returns a sentence to show, if any, or a question to ask first.

        Raises
        ------
        ArgumentError
            If it asks for nothing that there is.
        ArrowQuantError, OSError
            Whatever prevents it.
        """
        session = self.session
        command = act_of(message, list(session.snapshot.measurements.index))
        question = question_on_edits(session, command, message)
        if question is not None:
            return question
        if isinstance(command, Solve) and message["act"] == "budget":
            self._spend(command)
            return ""
        if command is not None:
            session.do(command)
            return ""
        match message:
            case {"act": "retarget", "target": str(target)}:
                names = message.get("names")
                self._jobs.run(
                    lambda: session.retarget_job(target, names if names in NAMES else None),
                    lambda notes: self._message_bar.note(*notes),
                    place="target",
                )
            case {"act": "save", "path": str(text)}:
                return self._save(text, message)
            case {"act": "load", "path": str(text)}:
                notes = session.load_plan(self.within(text))
                return " ".join([f"The plan of {text} was taken over.", *notes])
            case {"act": "export", "folder": str(text)}:
                self._export(self.within(text))
            case {"act": "validate", "runs": int(runs), "activations": str(mode), "alone": bool(alone)}:
                self._jobs.run(
                    lambda: session.validate(runs, activations=mode, alone=alone),
                    lambda _: self._message_bar.note(
                        "The plan has run in the model; the validation tab shows what it did."
                    ),
                    place="validation",
                )
            case {"act": "learn"}:
                return self._learn()
            case {"act": "cancel"}:
                self._jobs.cancel()
            case _:
                raise ArgumentError(f"The panel understands no action {message!r:.200}.", key="act")
        return ""

    def ahead(self, text: str) -> dict[str, Any]:
        """What exporting the present plan into a folder will take, and what will load it."""
        found = asdict(self.session.predict())
        folder = self.within(text)
        return {
            **{key: found[key] for key in ("nbytes", "is_exact", "peak_bytes")},
            "time": between(*(factor * found["seconds"] for factor in self._pace)),
            "folder": str(folder),
            "exists": folder.exists(),
            "readers": list(self.session.readers),
        }

    def _spend(self, command: Solve) -> None:
        """Solve for a place of the slider, whose ends are estimates: below the least there is, take that."""
        try:
            self.session.do(command)
        except UsageError as error:
            floor, nbytes = getattr(error, "floor", None), command.goal.nbytes
            if floor is None or nbytes is None or nbytes >= floor:
                raise
            self.session.do(replace(command, goal=Goal(size=floor)))

    def _save(self, text: str, message: Mapping[str, Any]) -> str | Question:
        """Save the plan; asks before it replaces another."""
        path = self.within(text)
        overwrite = message.get("overwrite") is True
        try:
            self.session.save_plan(path, overwrite=overwrite)
        except ExistingFileError as error:
            if not error.replaceable:
                raise
            return Question(
                f"{path} is a plan already.", (Choice("Replace it", {**message, "overwrite": True}),)
            )
        return f"The plan is in {path}."

    def _learn(self) -> str:
        """Learn from the last validation; says how far the prediction moved."""
        if self.session.validation is None:
            raise ArgumentError("There is no validation to learn from yet; run one.", key="act")
        before = self.session.totals.damage
        after = self.session.learn(self.session.validation).damage
        return (
            f"Learnt: this plan's predicted damage was {before:.3g} and is {after:.3g}. Solve again to follow; undo "
            "forgets it."
        )

    def _export(self, folder: Path) -> None:
        session = self.session
        lines = session.loading_lines(folder)

        predicted = session.predict().seconds

        def done(report: Report) -> None:
            self._pace = 0.7 * report.seconds / predicted, 1.5 * report.seconds / predicted
            text = f"Written to {folder}: {report.actual_bytes:,} bytes, read back and compared."
            self.exported = {"folder": str(folder), "text": text, "lines": lines}
            self._changed()
            self._message_bar.note(text, "The drawer Export shows how to load it.")

        self._jobs.run(lambda: session.export(folder), done, place="export")

    def within(self, text: str) -> Path:
        """The path meant by a text, in the folder where it must be.

        Raises
        ------
        ArgumentError
            If the text is empty.
        PermissionError
            If the path is outside that folder.
        """
        typed = text.strip()
        if not typed:
            raise ArgumentError("The field is empty; write a name into it.", key="path")
        # A Path forgets the "./" of "./~", a folder of that name and not the home.
        named = Path(typed).expanduser() if typed.startswith("~") else Path(typed)
        path = (self._folder / named).resolve()
        if self._confined and not path.is_relative_to(self._folder.resolve()):
            raise PermissionError(f"{text!r} is outside {self._folder}; give a name within it")
        return path
