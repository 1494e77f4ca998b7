"""How sessions, comparisons and jobs show themselves in a notebook's kernel.

It is registered when the package is imported, by the names of the classes: neither they nor a widget nor plotly are
loaded before something is shown.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workbench.errors import CancelledError
from workbench.work import REFRESH_SECONDS, Waiting

if TYPE_CHECKING:
    from workbench.session import Job


def kernel_shell() -> Any:
    """IPython's shell where it has a kernel, that is, where widgets may be shown; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "kernel") else None


def register() -> None:
    """In a kernel, let sessions, comparisons and jobs show themselves; elsewhere do nothing.

    A session is the panel, a comparison has a figure, a job that is waited for is a bar.
    """
    shell = kernel_shell()
    if shell is None:
        return
    Waiting.watch = _watching
    # By itself, for what it displays are two outputs: the panel, and what the notebook keeps of it.
    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type_by_name("workbench.session.session", "Session", _show)
    formatter = shell.display_formatter.mimebundle_formatter
    formatter.for_type_by_name("workbench.live.validation.comparison", "Comparison", _show_comparison)


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


def _show(session: Any) -> None:
    from workbench.ui.cells.display import show

    show(session)


def _show_comparison(comparison: Any, include: object = None, exclude: object = None) -> dict[str, Any]:
    from workbench.figures import predicted_against_measured

    figure = predicted_against_measured(comparison).update_layout(height=420)
    return {
        **comparison._repr_mimebundle_(),
        "application/vnd.plotly.v1+json": json.loads(figure.to_display_json()),
    }
