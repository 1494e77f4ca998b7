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
    scheme: str | None = None
    """The target's own name of a scheme, for ``bits``; None leaves it to the session."""
    group_size: int | None = None
    """Weights that share a scale, for ``bits``; None leaves it to the session."""

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
        scheme, group_size = message.get("scheme"), message.get("group_size")
        if not isinstance(scheme, str | None) or type(group_size) not in (int, type(None)):
            raise ConfigurationError(
                f"scheme must be a name and group_size a whole number, not {scheme!r} and {group_size!r}.",
                key="scheme",
            )
        return cls(action, tuple(rows), bits, scheme, group_size)

    def make(self, session: Session, names: Sequence[str]) -> str:
        """Edit the session; returns what to tell, if anything."""
        layers = [names[row] for row in self.rows]
        match self.action:
            case "bits":
                given = session.set_bits(layers, self.bits, scheme=self.scheme, group_size=self.group_size)
                if given:
                    return f"{session.target.name} has no {self.bits} bits there: {'; '.join(given)}."
            case "keep":
                session.keep(layers)
            case "lock":
                session.lock(layers)
            case "unlock":
                session.unlock(layers)
            case "undo" | "redo":
                return _moved(session, self.action)
        return ""


def _moved(session: Session, action: str) -> str:
    """Undo or redo; says what the table alone does not show."""
    before = session.target.name, session.names
    if not (session.undo() if action == "undo" else session.redo()):
        return f"There is nothing to {action}."
    after = session.target.name, session.names
    return "" if after == before else f"The export format is {after[0]} again, with {after[1]} names."
