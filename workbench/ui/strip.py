"""The strip that says what went wrong, and the way out; and what else is worth a sentence."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from workbench.errors import ArrowQuantError

_STYLE = (
    "border-left: 4px solid {colour}; padding: 4px 10px; margin: 2px 0; background: var(--jp-layout-color2, #eee); "
    "color: var(--jp-ui-font-color1, #222); font-size: 13px; line-height: 1.35;"
)


class Strip:
    """A line of the panel for messages; empty it takes no room."""

    def __init__(self) -> None:
        self._text = widgets.HTML()
        self._close = widgets.Button(
            icon="times", tooltip="Dismiss the message", layout=widgets.Layout(width="34px", height="26px")
        )
        self._close.on_click(lambda _: self.clear())
        self.widget = widgets.HBox([self._text, self._close], layout=widgets.Layout(display="none"))
        self.widget.add_class("aq-strip")
        self.text = ""

    def error(self, error: BaseException | str) -> None:
        """Show an error. What is no error of ours nor of the system's is a bug, and says so."""
        known = isinstance(error, str | ArrowQuantError | OSError)
        text = str(error) if known else f"{type(error).__name__}: {error}. This is a bug; please report it."
        self._show(text, "#d55e00", "alert")

    def note(self, *sentences: str) -> None:
        """Show what is worth knowing."""
        self._show(" ".join(sentences), "#0072b2", "status")

    def clear(self) -> None:
        """Show nothing."""
        self.text = ""
        self.widget.layout.display = "none"

    def guard(self, action: Callable[..., Any]) -> Callable[..., None]:
        """The action as a callback: what it raises is shown here, for in a callback nobody else would see it."""

        def guarded(*arguments: Any) -> None:
            try:
                action(*arguments)
            except Exception as error:  # noqa: BLE001 - shown to the user
                self.error(error)

        return guarded

    def _show(self, text: str, colour: str, role: str) -> None:
        self.text = text
        style = _STYLE.format(colour=colour)
        self._text.value = f'<div role="{role}" style="{style}">{html.escape(text)}</div>'
        self.widget.layout.display = ""
