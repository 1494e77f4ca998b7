"""Opening a session for a page that is served alone: a progress bar at once, and later the panel in its place."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import ipywidgets

from workbench.errors import ArrowQuantError, CancelledError
from workbench.session import open_session
from workbench.session.opening import STEPS, source_bytes
from workbench.ui.panel import Panel
from workbench.ui.progress import ProgressBar, Tracker


def opening(
    model: str, *, folder: str | os.PathLike[str], component: str | None = None, **settings: Any
) -> ipywidgets.VBox:
    """A box with a progress bar, which becomes the panel of the model.

    The measuring runs in a thread of its own, so that the page is there at once and its button works, whatever
    serves the page. An error is shown in the bar's place.

    Parameters
    ----------
    model : str
        As for `workbench.open`.
    folder : path-like
        Where exports and plans go, and nowhere else.
    component, **settings
        Further arguments of `workbench.open`.
    """
    cancel = threading.Event()
    bar = ProgressBar(f"Opening {Path(model).name}", cancel.set)
    box = ipywidgets.VBox([bar])

    def work() -> None:
        tracker = Tracker(STEPS, bar.show)
        try:
            tracker.nbytes = source_bytes(model, component)
            session = open_session(model, component=component, callback=tracker, cancel=cancel, **settings)
            panel = Panel(session, folder=folder, confined=True)
        except CancelledError:
            bar.ended = (
                "Cancelled. What was measured is remembered: load this page again to go on from there."
            )
        except Exception as error:  # noqa: BLE001 - in a thread, where nobody else would see it
            known = isinstance(error, ArrowQuantError | OSError)
            bar.ended = (
                str(error) if known else f"{type(error).__name__}: {error}. This is a bug; please report it."
            )
        else:
            box.children = [panel]
            bar.close()

    threading.Thread(target=work, name="workbench opening", daemon=True).start()
    return box
