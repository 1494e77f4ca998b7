"""The state that edits change, and undoing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.thermo import Constraints


@dataclass(frozen=True)
class Tuning:
    """What the user has decided: an option for every layer, and which of them are locked; immutable."""

    choice: tuple[int, ...]
    """Place of each layer's option in the cost table."""
    locks: frozenset[int] = frozenset()
    """Layers, by index, that a solver leaves as they are."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """How it came about, in plain values."""
    limits: Constraints = field(default_factory=Constraints)
    """What it was solved under besides locks; without any where it was edited by hand."""


class History:
    """The present tuning, those before it and those that were undone.

    Parameters
    ----------
    present : Tuning
        Where it begins.
    """

    def __init__(self, present: Tuning) -> None:
        self.present = present
        self._past: list[Tuning] = []
        self._future: list[Tuning] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to go back from."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone edit."""
        return bool(self._future)

    def push(self, tuning: Tuning) -> None:
        """Make an edit; what was undone before is forgotten."""
        self._past.append(self.present)
        self._future.clear()
        self.present = tuning

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
