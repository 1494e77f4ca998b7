"""`open` and `verify` as the package offers them: they show how far they are, in a cell or on a terminal."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.engine import Verification, verify
from workbench.errors import CancelledError
from workbench.notebook.display import kernel_shell
from workbench.session import Session, open_session
from workbench.session.opening import STEPS, source_bytes
from workbench.work import ProgressCallback

if TYPE_CHECKING:
    from workbench.ui.cells.sessions import CellSessions


@functools.wraps(open_session)
def open_shown(
    path: str | os.PathLike[str],
    *arguments: Any,
    component: str | None = None,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    fresh: bool = False,
    **settings: Any,
) -> Session:
    """`open_session` that shows how far it is, unless there is a callback that reports it.

    In a cell that runs again it goes on with the session of the cell's last run, unless a `fresh` one is asked for.
    """
    given = {"component": component, "cancel": cancel or threading.Event(), **settings}
    if callback is not None:
        return _gone_on(open_session(path, *arguments, callback=callback, **given), fresh)
    title = f"Opening {Path(path).name}"
    after = "What was measured until then is remembered: the same line goes on from there."
    with _progress(title, STEPS, path, component, given["cancel"], after) as shown:
        session = open_session(path, *arguments, callback=shown, **given)
    return _gone_on(session, fresh)


def _gone_on(session: Session, fresh: bool) -> Session:
    """The session, or in a cell that runs again the one that it opened before, and a line that says so."""
    shell = kernel_shell()
    if shell is None or threading.current_thread() is not threading.main_thread():
        return session
    request = shell.get_parent()
    cell = request.get("metadata", {}).get("cellId")
    if not cell:
        return session
    found = _cell_sessions().take(cell, request["header"]["msg_id"], session, fresh=fresh)
    if found is not session:
        edits = f"{found.version:,} edit{'' if found.version == 1 else 's'}"
        print(
            f"This session goes on from the cell's last run: its plan after {edits}, with undo. "
            "To start afresh: wb.open(…, fresh=True)."
        )
    return found


@functools.cache
def _cell_sessions() -> CellSessions:
    from workbench.ui.cells.sessions import CellSessions

    return CellSessions()


@functools.wraps(verify)
def verify_shown(
    output: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    component: str | None = None,
    callback: ProgressCallback | None = None,
    **settings: Any,
) -> Verification:
    """`verify` that shows how far it is, unless there is a callback that reports it."""
    if callback is not None:
        return verify(output, source, component=component, callback=callback, **settings)
    title, cancel = f"Verifying {Path(output).name}", threading.Event()
    with _progress(title, 1, source, component, cancel, "The export is as it was.") as shown:

        def report(fraction: float, message: str) -> None:
            if shown is not None:
                shown(fraction, message)
            if cancel.is_set():
                raise CancelledError(title)

        return verify(output, source, component=component, callback=report, **settings)


@contextmanager
def _progress(
    title: str,
    steps: int,
    source: str | os.PathLike[str],
    component: str | None,
    cancel: threading.Event,
    after: str,
) -> Iterator[ProgressCallback | None]:
    """What shows how far work on a checkpoint is: a bar in the cell, one on a terminal, or nothing.

    Parameters
    ----------
    title : str
        What is done.
    steps : int
        As for `workbench.ui.progress.Tracker`.
    source, component
        The checkpoint, all of which each step goes through.
    cancel : threading.Event
        Set by the bar's button.
    after : str
        What is the case when the work was cancelled.
    """
    if threading.current_thread() is not threading.main_thread():  # its cell, if any, may be long over
        yield None
    elif kernel_shell() is not None:
        from workbench.ui.progress import bar_in_cell

        try:
            with bar_in_cell(title, steps, cancel.set) as tracker:
                tracker.nbytes = source_bytes(source, component)
                yield tracker
        except (KeyboardInterrupt, CancelledError):
            raise CancelledError(f"{title} was cancelled. {after}") from None
    else:
        from workbench import terminal

        if not sys.stderr.isatty():
            yield None
            return
        with terminal.progress_bar(title, source_bytes(source, component)) as report:
            yield report
