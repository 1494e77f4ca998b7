"""The bar of the job that is running: how far, how long still, and a way to stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from workbench.session import Job
from workbench.ui.strip import Strip
from workbench.work import REFRESH_SECONDS


class JobBar:
    """Follows one job at a time.

    Parameters
    ----------
    strip : Strip
        Where a failure is told.
    """

    def __init__(self, strip: Strip) -> None:
        self._strip = strip
        self._bar = widgets.FloatProgress(min=0, max=1, layout=widgets.Layout(width="240px"))
        self._text = widgets.Label()
        self._cancel = widgets.Button(description="Cancel", icon="stop", layout=widgets.Layout(width="90px"))
        self._cancel.on_click(lambda _: self.cancel())
        self.widget = widgets.HBox(
            [self._bar, self._text, self._cancel], layout=widgets.Layout(display="none", align_items="center")
        )
        self.widget.add_class("aq-jobs")
        self.job: Job[Any] | None = None

    def run(
        self,
        start: Callable[[], Job[Any]],
        done: Callable[[Any], None],
        undone: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a job and show it until it ends; then tell its result. Another that runs is not disturbed.

        Parameters
        ----------
        start : callable
            Makes the job.
        done : callable
            Takes the result, in a thread of the bar's own.
        undone : callable
            Called instead if there is no result: another job runs, or this one fails or is cancelled.
        """
        if self.job is not None and self.job.state == "running":
            self._strip.error(f"{self.job.name} is still running. Wait for it, or cancel it.")
            undone()
            return
        job = self.job = start()
        self._cancel.disabled = False
        self.widget.layout.display = ""
        threading.Thread(
            target=self._follow, args=(job, done, undone), name=f"workbench bar: {job.name}", daemon=True
        ).start()

    def cancel(self) -> None:
        """Stop the job."""
        if self.job is not None:
            self._cancel.disabled = True
            self._text.value = f"{self.job.name}: stopping …"
            self.job.cancel()

    def _follow(self, job: Job[Any], done: Callable[[Any], None], undone: Callable[[], None]) -> None:
        started = time.monotonic()
        while job.state == "running":
            if not self._cancel.disabled:
                self._bar.value = job.fraction
                self._text.value = _told(job, time.monotonic() - started)
            time.sleep(REFRESH_SECONDS)
        self.widget.layout.display = "none"
        self._bar.value = 0
        if job.state != "done":
            self._strip.guard(undone)()
        match job.state:
            case "cancelled":
                self._strip.note(f"{job.name} was cancelled; nothing was left half-written.")
            case "failed":
                self._strip.guard(job.result)()
            case _:
                self._strip.guard(done)(job.result())


def _told(job: Job[Any], seconds: float) -> str:
    text = f"{job.name}: {job.message or 'starting'}, {job.fraction:.0%}"
    if seconds > 1 and job.fraction > 0.02:
        text += f", {seconds * (1 - job.fraction) / job.fraction:.0f} s left"
    return text
