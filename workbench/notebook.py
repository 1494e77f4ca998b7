"""What a notebook or a terminal shows by itself: how far opening is, sessions as panels, comparisons with a figure.

Neither plotly nor a widget is loaded before it is needed.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import CancelledError
from workbench.session import Job, Session, open_session
from workbench.session.opening import STEPS, source_bytes
from workbench.work import REFRESH_SECONDS, ProgressCallback


def register() -> None:
    """In a kernel that can show widgets, let sessions show themselves as the panel and comparisons
    with a figure; elsewhere do nothing."""
    shell = _kernel_shell()
    if shell is None:
        return
    Job.watch = _watching
    # By itself, for what it displays are two outputs: the panel, and what the notebook keeps of it.
    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type_by_name("workbench.session.session", "Session", _show)
    formatter = shell.display_formatter.mimebundle_formatter
    formatter.for_type_by_name("workbench.live.comparison", "Comparison", _show_comparison)


@functools.wraps(open_session)
def open_shown(
    path: str | os.PathLike[str],
    *arguments: Any,
    component: str | None = None,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    **settings: Any,
) -> Session:
    """`open_session` that shows how far it is, unless there is a callback that hears of it."""
    given = {"component": component, "cancel": cancel or threading.Event(), **settings}
    if callback is not None:
        return open_session(path, *arguments, callback=callback, **given)
    with _progress(path, component, given["cancel"]) as shown:
        return open_session(path, *arguments, callback=shown, **given)


@contextmanager
def _progress(
    path: str | os.PathLike[str], component: str | None, cancel: threading.Event
) -> Iterator[ProgressCallback | None]:
    """What shows how far opening is: a bar in the cell, one on a terminal, or nothing."""
    title = f"Opening {Path(path).name}"
    if threading.current_thread() is not threading.main_thread():  # its cell, if any, may be long over
        yield None
    elif _kernel_shell() is not None:
        from workbench.ui.progress import bar_in_cell

        try:
            with bar_in_cell(title, STEPS, cancel.set) as tracker:
                tracker.nbytes = source_bytes(path, component)
                yield tracker
        except (KeyboardInterrupt, CancelledError):
            raise CancelledError(
                f"{title} was cancelled. What was measured until then is remembered: the same line goes on from there.",
                path=os.fspath(path),
            ) from None
    else:
        from workbench import terminal

        if not sys.stderr.isatty():
            yield None
            return
        with terminal.progress_bar(title, source_bytes(path, component)) as hear:
            yield hear


@contextmanager
def _watching(job: Job[Any]) -> Iterator[None]:
    """A bar in the cell that waits for a job; interrupting the cell cancels the job."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    from workbench.ui.progress import bar_in_cell

    try:
        with bar_in_cell(job.name, 1, job.cancel) as tracker:
            unfollow = job.follow(tracker)
            try:
                yield
            finally:
                unfollow()
    except KeyboardInterrupt:
        job.cancel()
        while job.state == "running":
            time.sleep(REFRESH_SECONDS)
        if job.state != "cancelled":
            raise
        raise CancelledError(f"{job.name} was cancelled; nothing was left half-written.") from None


def _kernel_shell() -> Any:
    """IPython's shell where it has a kernel, that is, where widgets may be shown; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "kernel") else None


def _show(session: Any) -> None:
    from workbench.ui.display import show

    show(session)


def _show_comparison(comparison: Any, include: object = None, exclude: object = None) -> dict[str, Any]:
    from workbench.figures import predicted_against_measured

    figure = predicted_against_measured(comparison).update_layout(height=420)
    return {
        **comparison._repr_mimebundle_(),
        "application/vnd.plotly.v1+json": json.loads(figure.to_display_json()),
    }
