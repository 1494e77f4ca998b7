"""What a view answers to a command that a browser asked for: a sentence, or a question before anything is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.session import Session, Snapshot
from workbench.session.commands import Command, Follow, SetBits, Solve, Step


@dataclass(frozen=True)
class Choice:
    """An answer that can be chosen."""

    label: str
    """What its button says."""
    message: Mapping[str, Any]
    """What the browser then sends instead of what it sent first."""


@dataclass(frozen=True)
class Question:
    """A question to the user; nothing has been done yet, and nothing is if it is not answered."""

    text: str
    choices: tuple[Choice, ...]


def note_on(command: Command, before: Snapshot, after: Snapshot | None) -> str:
    """What the table alone does not show of a command; empty if it shows all.

    Parameters
    ----------
    command : Command
    before, after : Snapshot
        The session before and after it; None where there was nothing to undo or redo.
    """
    match command:
        case SetBits(bits=bits) if after is not None and after.state.notes:
            return (
                f"{after.measurements.target.name} has no {bits} bits there: {'; '.join(after.state.notes)}."
            )
        case Step() if after is None:
            return f"There is nothing to {type(command).__name__.lower()}."
        case Step() if after is not None:
            old, new = ((one.measurements.target.name, one.measurements.names) for one in (before, after))
            return "" if old == new else f"The export format is {new[0]} again, with {new[1]} names."
    return ""


def question_on_edits(
    session: Session, command: Command | None, message: Mapping[str, Any]
) -> Question | None:
    """The question whether layers that were set by hand may be changed; None where it was answered, or is none."""
    answers: tuple[str, ...]
    match command:
        case Solve():
            what, answers = "solve", ("lock", "replace")
        case Follow(policy=policy):
            what, answers = f"take the plan of {policy}", ("replace",)
        case _:
            return None
    edited = session.edited
    if not edited or message.get("edits") in answers:
        return None
    layers = edited[0] if len(edited) == 1 else f"{len(edited)} layers"
    verb, them = ("was", "it") if len(edited) == 1 else ("were", "them")
    choices = [Choice(f"{what[0].upper()}{what[1:]} for all", {**message, "edits": "replace"})]
    if "lock" in answers:
        choices.insert(0, Choice(f"Lock {them} and solve", {**message, "edits": "lock"}))
    return Question(f"{layers} {verb} set by hand and would change.", tuple(choices))
