"""The states that edits lead to, and undoing them."""

from __future__ import annotations

from workbench.session.state import State


class History:
    """The present state, those before it and those that were undone.

    Parameters
    ----------
    present : State
        Where it begins.
    """

    def __init__(self, present: State) -> None:
        self.present = present
        self._past: list[State] = []
        self._future: list[State] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to go back from."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone edit."""
        return bool(self._future)

    def copy(self) -> History:
        """Another history with the same states, which goes its own way from here."""
        other = History(self.present)
        other._past, other._future = list(self._past), list(self._future)
        return other

    def push(self, state: State) -> None:
        """Make an edit; what was undone before is forgotten."""
        self._past.append(self.present)
        self._future.clear()
        self.present = state

    def undo(self) -> bool:
        """Go back one edit; whether there was one."""
        if not self._past:
            return False
        self._future.append(self.present)
        self.present = self._past.pop()
        return True

    def redo(self) -> bool:
        """Make the edit again that was undone last; whether there was one."""
        if not self._future:
            return False
        self._past.append(self.present)
        self.present = self._future.pop()
        return True
