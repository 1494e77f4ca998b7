"""`ProgressBar`: how far long work is, what it does, how long it still takes, and a button that stops it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anywidget
import traitlets

from workbench.ui.jobs import duration
from workbench.ui.module import bundle

VIEW = "application/vnd.jupyter.widget-view+json"

SETTLED = 0.5
"""Seconds of a step after which its rate says something."""


class Tracker:
    """How far work in several steps is; what runs it calls the tracker with a fraction of the step and a message.

    Parameters
    ----------
    steps : int
        Number of steps; each but the first begins where the fraction falls.
    show : callable
        Takes the fraction of the whole, 0 to 1, and a text.
    """

    def __init__(self, steps: int, show: Callable[[float, str], None]) -> None:
        self.nbytes = 0
        """Bytes of source that a step goes through; without them there is no rate."""
        self._steps, self._show = steps, show
        self._step = 0
        self._last = self._started = self._first = 0.0

    def __call__(self, fraction: float, message: str) -> None:
        now = time.monotonic()
        if self._step == 0 or fraction < self._last:
            self._step = min(self._step + 1, self._steps)
            # What was done before, such as layers that are remembered, says nothing of the rate.
            self._started, self._first = now, fraction
        self._last = fraction
        place = f"{message} (step {self._step} of {self._steps})" if self._steps > 1 else message
        facts = ", ".join([f"{fraction:.0%}", *self._speed(fraction, now - self._started)])
        self._show((self._step - 1 + fraction) / self._steps, f"{place}: {facts}" if place else facts)

    def _speed(self, fraction: float, seconds: float) -> list[str]:
        """The rate and the time left, where they are known."""
        done = fraction - self._first
        if seconds < SETTLED or done <= 0 or fraction >= 1:
            return []
        rate = done * self.nbytes / seconds / 1e6
        parts = [f"{rate:,.0f} MB/s" if rate >= 10 else f"{rate:.1f} MB/s"] if self.nbytes else []
        return [*parts, f"{duration(seconds * (1 - fraction) / done)} left"]


class ProgressBar(anywidget.AnyWidget):  # type: ignore[misc]
    """A bar with a text and a button *Cancel*.

    Parameters
    ----------
    title : str
        What is done.
    cancel : callable
        Called by the button.
    """

    _esm = bundle("progress.js")
    _css = bundle("progress.css")

    title = traitlets.Unicode().tag(sync=True)
    """What is done."""
    status = traitlets.Dict({"fraction": 0.0, "text": "starting"}).tag(sync=True)
    """``fraction`` of the whole and ``text``."""
    stopping = traitlets.Bool(False).tag(sync=True)
    """Whether the button was pressed, and the kernel knows."""
    ended = traitlets.Unicode().tag(sync=True)
    """Why there is no result; stands in place of the bar. Empty while the work goes on."""

    def __init__(self, title: str, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        super().__init__(title=title)
        self.on_msg(self._on_message)

    def open(self) -> None:
        """Open the comm, whose messages go to the shell that they are addressed to, see `LayerTable.open`."""
        super().open()
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda data, addressed: addressed

    def show(self, fraction: float, text: str) -> None:
        """Show how far it is."""
        self.status = {"fraction": fraction, "text": text}

    def _on_message(self, widget: object, message: Any, buffers: object) -> None:
        if message == {"type": "cancel"}:
            self._cancel()
            self.stopping = True


@contextmanager
def bar_in_cell(title: str, steps: int, cancel: Callable[[], None]) -> Iterator[Tracker]:
    """A bar in the output of the cell that runs, which is gone at the end.

    A front end that shows no widgets gets nothing to show, and nothing of it is stored in a notebook.

    Parameters
    ----------
    title, steps, cancel
        As for `ProgressBar` and `Tracker`.

    Yields
    ------
    Tracker
        To be called as the work goes on.
    """
    from IPython.display import display

    bar = ProgressBar(title, cancel)
    data = bar._repr_mimebundle_()[0]
    handle: Any = display({VIEW: data[VIEW]}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
    try:
        yield Tracker(steps, bar.show)
    finally:
        handle.update({}, raw=True)
        bar.close()
