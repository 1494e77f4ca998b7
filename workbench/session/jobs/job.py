"""Work in the background: its progress, its result, and stopping it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Literal, TypeVar

from workbench.errors import CancelledError
from workbench.work import ProgressCallback, Waiting

T = TypeVar("T")

State = Literal["running", "done", "failed", "cancelled"]


class Job(Generic[T]):
    """A call that runs in a thread of its own.

    Parameters
    ----------
    name : str
        What it is, for people.
    work : callable
        Takes a progress callback and an event that asks it to stop.
    """

    def __init__(self, name: str, work: Callable[[ProgressCallback, threading.Event], T]) -> None:
        self.name = name
        self.fraction = 0.0
        self.message = ""
        self._followers: list[ProgressCallback] = []
        self._cancel = threading.Event()
        self._future: Future[T] = Future()
        # A daemon would leave a half-written folder behind when the interpreter exits.
        self._thread = threading.Thread(target=self._run, args=(work,), name=f"workbench job: {name}")
        self._thread.start()

    def _run(self, work: Callable[[ProgressCallback, threading.Event], T]) -> None:
        try:
            result = work(self._hear, self._cancel)
        except BaseException as error:  # noqa: BLE001 - handed over to result()
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    def _hear(self, fraction: float, message: str) -> None:
        self.fraction, self.message = fraction, message
        for follower in list(self._followers):
            follower(fraction, message)

    def follow(self, follower: ProgressCallback) -> Callable[[], None]:
        """Tell a function too, in the job's thread, how far the job is; returns what ends it."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    @property
    def state(self) -> State:
        """How far it is."""
        if not self._future.done():
            return "running"
        error = self._future.exception()
        if error is None:
            return "done"
        return "cancelled" if isinstance(error, CancelledError) else "failed"

    def cancel(self) -> None:
        """Ask it to stop; `result` then raises `CancelledError`."""
        self._cancel.set()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        TimeoutError
            If it is not done by then; it goes on.
        ArrowQuantError
            Whatever ended the work.
        """
        if self._future.done():
            return self._future.result()
        with Waiting.watch(self):
            return self._future.result(timeout)

    def __repr__(self) -> str:
        return f"<Job {self.name!r}: {self.state}, {self.fraction:.0%}>"
