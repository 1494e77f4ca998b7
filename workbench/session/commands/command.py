"""`Command`: an edit of a session, or a step of undo or redo, as a value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from workbench.errors import ArgumentError
from workbench.session.history import History
from workbench.session.script import call
from workbench.session.state import State

Message = Mapping[str, Any]
"""What a browser sent: nothing in it is trusted."""


class Command(ABC):
    """What can be done to a session's plan, as a value. Subclasses are frozen dataclasses."""

    @abstractmethod
    def to_python(self) -> str:
        """The line of Python that does it in a session called ``s``."""

    @classmethod
    def from_message(cls, message: Message, names: Sequence[str]) -> Self:
        """The command that a browser asks for.

        Parameters
        ----------
        message : mapping
        names : sequence of str
            Names of the layers, by the index that messages use.

        Raises
        ------
        ArgumentError
            If it is not one.
        """
        raise ArgumentError(f"{cls.__name__} cannot be asked for by a message.", key="message")


class Edit(Command):
    """A command that makes another state, which is one step of undo."""

    @abstractmethod
    def apply(self, state: State) -> State:
        """The state after the edit.

        Raises
        ------
        ArgumentError
            If it cannot be made.
        """

    def script_line(self, after: State) -> str:
        """The line for the session's script, which may say what came of the edit."""
        return self.to_python()


class Step(Command):
    """A command that goes along the history."""

    @abstractmethod
    def move(self, history: History) -> bool:
        """Go one step; whether there was one."""

    @classmethod
    def from_message(cls, message: Message, names: Sequence[str]) -> Self:
        return cls()


@dataclass(frozen=True)
class Undo(Step):
    """Take the last edit back."""

    def move(self, history: History) -> bool:
        return history.undo()

    def to_python(self) -> str:
        return call("undo")


@dataclass(frozen=True)
class Redo(Step):
    """Make the edit again that was taken back last."""

    def move(self, history: History) -> bool:
        return history.redo()

    def to_python(self) -> str:
        return call("redo")
