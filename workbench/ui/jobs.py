"""The job that is running: how far it is, how long it still takes, and a way to stop it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from workbench.session import Job
from workbench.ui.message_bar import MessageBar
from workbench.work import REFRESH_SECONDS


class Jobs:
    """Follows one job at a time.

    Parameters
    ----------
    message_bar : MessageBar
        Shows how it ended.
    changed : callable
        Called when `shown` is another.
    """

    def __init__(self, message_bar: MessageBar, changed: Callable[[], None]) -> None:
        self._message_bar, self._changed = message_bar, changed
        self._stopping, self._place = False, ""
        self.job: Job[Any] | None = None
        self.shown: dict[str, Any] | None = None
        """What there is to see of it: ``fraction``, ``text``, whether it is ``stopping``, and the ``place`` in the
        panel where it was started; None without a job."""

    def run(
        self,
        start: Callable[[], Job[Any]],
        done: Callable[[Any], None],
        undone: Callable[[], None] = lambda: None,
        *,
        place: str = "",
    ) -> None:
        """Start a job and show it until it ends; then show its result. Another that runs is not disturbed.

        Parameters
        ----------
        start : callable
            Makes the job.
        done : callable
            Takes the result, in a thread of its own.
        undone : callable
            Called instead if there is no result: another job runs, or this one fails or is cancelled.
        place : str
            Where in the panel it was started: ``"target"``, ``"export"`` or ``"validation"``.
        """
        if self.job is not None and self.job.state == "running":
            self._message_bar.error(f"{self.job.name} is still running. Wait for it, or cancel it.")
            undone()
            return
        job = self.job = start()
        self._stopping, self._place = False, place
        self._show(job.fraction, _told(job, 0))
        threading.Thread(
            target=self._follow, args=(job, done, undone), name=f"workbench bar: {job.name}", daemon=True
        ).start()

    def cancel(self) -> None:
        """Stop the job."""
        if self.job is not None and self.job.state == "running":
            self._stopping = True
            self._show(self.job.fraction, f"{self.job.name}: stopping …")
            self.job.cancel()

    def _follow(self, job: Job[Any], done: Callable[[Any], None], undone: Callable[[], None]) -> None:
        started = time.monotonic()
        while job.state == "running":
            if not self._stopping:
                self._show(job.fraction, _told(job, time.monotonic() - started))
            time.sleep(REFRESH_SECONDS)
        self.shown = None
        self._changed()
        if job.state != "done":
            self._message_bar.guard(undone)()
        match job.state:
            case "cancelled":
                self._message_bar.note(f"{job.name} was cancelled; nothing was left half-written.")
            case "failed":
                self._message_bar.guard(job.result)()
            case _:
                self._message_bar.guard(done)(job.result())

    def _show(self, fraction: float, text: str) -> None:
        shown = {"fraction": fraction, "text": text, "stopping": self._stopping, "place": self._place}
        if shown != self.shown:
            self.shown = shown
            self._changed()


def _told(job: Job[Any], seconds: float) -> str:
    text = f"{job.name}: {job.message or 'starting'}, {job.fraction:.0%}"
    if seconds > 1 and job.fraction > 0.02:
        text += f", {duration(seconds * (1 - job.fraction) / job.fraction)} left"
    return text


def between(least: float, most: float) -> str:
    """A time of which the order of magnitude is known."""
    low, high = duration(least), duration(most)
    return f"about {low}" if low == high else f"roughly {low} to {high}"


def duration(seconds: float) -> str:
    """A time as people say it, upwards: ``"40 s"``, ``"7 min"``, ``"2 h 10 min"``."""
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = math.ceil(whole / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
