"""What a browser may ask of a session, and asking it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from workbench.errors import ConfigurationError
from workbench.session import Session

ACTIONS = ("bits", "keep", "lock", "unlock", "undo", "redo")


@dataclass(frozen=True)
class Edit:
    """One edit of the table: one step of undo."""

    action: str
    """One of `ACTIONS`."""
    rows: tuple[int, ...] = ()
    """The layers, by index."""
    bits: int = 0
    """The width, for ``bits``."""

    @classmethod
    def of(cls, message: Mapping[str, Any], layers: int) -> Self:
        """The edit that a message asks for.

        Raises
        ------
        ConfigurationError
            If it is not one: nothing of it is done then.
        """
        action, rows, bits = message.get("action"), message.get("rows", []), message.get("bits", 0)
        if action not in ACTIONS:
            raise ConfigurationError(
                f"There is no edit {action!r}; allowed: {', '.join(ACTIONS)}.", key="action", value=action
            )
        if not isinstance(rows, list) or not all(type(row) is int and 0 <= row < layers for row in rows):
            raise ConfigurationError(
                f"An edit's rows must be indices of the {layers:,} layers.", key="rows", value=rows
            )
        if action not in ("undo", "redo") and not rows:
            raise ConfigurationError("An edit needs a layer: choose one first.", key="rows", value=rows)
        if type(bits) is not int:
            raise ConfigurationError(f"bits must be a whole number, not {bits!r}.", key="bits", value=bits)
        return cls(action, tuple(rows), bits)

    def make(self, session: Session, names: Sequence[str]) -> str:
        """Edit the session; returns what to tell, if anything."""
        layers = [names[row] for row in self.rows]
        match self.action:
            case "bits":
                session.set_bits(layers, self.bits)
            case "keep":
                session.keep(layers)
            case "lock":
                session.lock(layers)
            case "unlock":
                session.unlock(layers)
            case "undo":
                return "" if session.undo() else "There is nothing to undo."
            case "redo":
                return "" if session.redo() else "There is nothing to redo."
        return ""
