"""Running independent tasks on an executor, with progress, cancelling and a sample of the memory in use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, TypeVar

from workbench.errors import CancelledError
from workbench.system import anonymous_bytes, usable_cores

T = TypeVar("T")

ProgressCallback = Callable[[float, str], None]
"""Called with the fraction done and a message, at most 10 times a second, on the side of the caller."""

REFRESH_SECONDS = 0.1

Watch = Callable[[Any], AbstractContextManager[Any]]
"""Takes a job, and is entered while somebody waits for its result."""


class Waiting:
    """How waiting for a job shows; a notebook's kernel sets it."""

    watch: ClassVar[Watch] = nullcontext


class InlineExecutor(Executor):
    """An executor that runs each task in the calling thread, at once."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - what a future is for
            future.set_exception(error)
        return future


class Progress:
    """The progress that workers report, the caller's callback, and a request to stop.

    Workers only add to a sum and look at a flag; the thread that waits for them calls `pump`.

    Parameters
    ----------
    total : int
        The sum that means done, in bytes of source.
    callback : callable, optional
        Hears of the fraction and a message. An exception in it ends the work and is raised to the caller.
    cancel : threading.Event, optional
        Set from outside to stop the work.
    """

    def __init__(
        self, total: int, callback: ProgressCallback | None = None, cancel: threading.Event | None = None
    ) -> None:
        self.total = max(total, 1)
        self.message = ""
        # What the callback raised, so that it is not taken for a failure of the work.
        self.raised: BaseException | None = None
        self.peak_anonymous = 0
        self._done = 0
        self._callback = callback
        self.cancelled = cancel or threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._last_call = -1.0

    def advance(self, amount: int) -> None:
        """Count work done; called by workers.

        Raises
        ------
        CancelledError
            If the work is to stop.
        """
        if self.cancelled.is_set() or self._stop.is_set():
            raise CancelledError("The work was cancelled; nothing was left half-written.")
        with self._lock:
            self._done += amount

    def extend(self, amount: int) -> None:
        """There is more to do than was thought; the fraction done is less then."""
        with self._lock:
            self.total += amount

    def follow(self, amount: int) -> ProgressCallback:
        """A callback for other work that this thread waits for; all of it counts as so much of this."""
        done = 0

        def report(fraction: float, message: str) -> None:
            nonlocal done
            self.message = message
            now = round(fraction * amount)
            self.advance(now - done)
            done = now
            self.pump()

        return report

    def stop(self) -> None:
        """Make workers stop at their next `advance`."""
        self._stop.set()

    def pump(self, finished: bool = False) -> None:
        """Call the callback, unless it was called just now; done by the thread that waits."""
        self.peak_anonymous = max(self.peak_anonymous, anonymous_bytes())
        now = time.monotonic()
        if self._callback and (finished or now - self._last_call >= REFRESH_SECONDS):
            self._last_call = now
            try:
                self._callback(1.0 if finished else min(self._done / self.total, 0.999), self.message)
            except BaseException as error:
                self.raised = error
                raise
        if self.cancelled.is_set():
            raise CancelledError("The work was cancelled; nothing was left half-written.")


def run_tasks(
    tasks: Iterable[Callable[[], T]],
    executor: Executor,
    in_flight: int,
    progress: Progress,
    on_result: Callable[[T], None],
) -> None:
    """Run tasks, a bounded number at a time; results are handed over as they come, in the calling thread.

    Whatever goes wrong, in a task, in the callback or by Ctrl-C, is raised after all running tasks have ended.
    """
    waiting = iter(tasks)
    running: set[Future[T]] = set()
    finished: set[Future[T]] = set()
    exhausted = False
    try:
        while running or finished or not exhausted:
            # Before results are handed over, so that no worker waits for that.
            while not exhausted and len(running) < in_flight:
                task = next(waiting, None)
                if task is None:
                    exhausted = True
                else:
                    running.add(executor.submit(task))
                    progress.pump()
            for future in finished:
                on_result(future.result())
            finished, running = wait(running, timeout=REFRESH_SECONDS, return_when=FIRST_COMPLETED)
            progress.pump()
    finally:
        if running:
            progress.stop()
            for future in running:
                future.cancel()
            wait(running)


def disk_workers() -> int:
    """Threads that keep all cores busy while one of them waits for the disk."""
    return usable_cores() + 1
