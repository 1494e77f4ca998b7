"""`MessageBar`: the panel's last error or note."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from workbench.errors import ArrowQuantError

MessageKind = Literal["error", "note"]


class MessageBar:
    """The panel's last message; it stays, over a reload of the page too, until it is dismissed.

    Parameters
    ----------
    changed : callable
        Called when there is another message.
    text : str, optional
        The first message, a note.
    """

    def __init__(self, changed: Callable[[], None], text: str = "") -> None:
        self._changed = changed
        self.text = text
        self.kind: MessageKind = "note"

    def error(self, error: BaseException | str) -> None:
        """Show an error. What is no error of ours nor of the system's is a bug, and says so."""
        known = isinstance(error, str | ArrowQuantError | OSError)
        text = str(error) if known else f"{type(error).__name__}: {error}. This is a bug; please report it."
        self._show(text, "error")

    def note(self, *sentences: str) -> None:
        """Show what is worth knowing."""
        self._show(" ".join(sentences), "note")

    def clear(self) -> None:
        """Show nothing; what was said before is over."""
        if self.text:
            self._show("", "note")

    def guard(self, action: Callable[..., Any]) -> Callable[..., None]:
        """The action as a callback: what it raises is shown here, for in a callback nobody else would see it."""

        def guarded(*arguments: Any) -> None:
            try:
                action(*arguments)
            except Exception as error:  # noqa: BLE001 - shown to the user
                self.error(error)

        return guarded

    def _show(self, text: str, kind: MessageKind) -> None:
        self.text, self.kind = text, kind
        self._changed()
