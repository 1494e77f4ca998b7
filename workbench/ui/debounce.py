"""`Debouncer`: work that waits until the edits pause, and is then done once."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Debouncer:
    """Runs a function in a thread of its own some time after it was last asked for, never twice at once.

    Parameters
    ----------
    work : callable
        What to do; it must look for itself at what is the case by then.
    seconds : float
        How long nobody must have asked.
    failed : callable
        Told of what the work raised.
    """

    def __init__(
        self, work: Callable[[], None], seconds: float, failed: Callable[[BaseException], None]
    ) -> None:
        self._work = work
        self._seconds = seconds
        self._failed = failed
        self._lock = threading.Lock()
        self._running = threading.Lock()
        self._timer: threading.Timer | None = None
        self._ended = False

    def ask(self, seconds: float | None = None) -> None:
        """Ask for the work; after other seconds than usual, if they are given."""
        with self._lock:
            if self._ended:
                return
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(self._seconds if seconds is None else seconds, self._run)
            self._timer.daemon = True  # an interpreter that ends does not wait for a chart
            self._timer.start()

    def end(self) -> None:
        """Ask no more."""
        with self._lock:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()

    def _run(self) -> None:
        with self._running:
            try:
                self._work()
            except BaseException as error:  # noqa: BLE001 - a thread has nobody else to tell
                self._failed(error)
