"""The observers of a session, and the order in which they are notified."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable

from workbench.session.snapshot import Change

Observer = Callable[[Change], None]


class ObserverWarning(UserWarning):
    """An observer raised an exception; the edit stands."""


class Observers:
    """Functions that are called after changes, in the order of their versions, from one thread at a time."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []
        self._untold: deque[Change] = deque()
        self._telling = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def add(self, observer: Observer) -> Callable[[], None]:
        """Tell a function of changes from now on; returns what ends it."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer) if observer in self._observers else None

    def note(self, change: Change) -> None:
        """Remember a change to notify of; called in the order of versions."""
        self._untold.append(change)

    def notify(self) -> None:
        """Tell what was noted; what another thread is telling, or an observer that edits adds, is left to it."""
        while self._untold and self._telling.acquire(blocking=False):
            try:
                while self._untold:
                    self._tell_all(self._untold.popleft())
            finally:
                self._telling.release()

    def _tell_all(self, change: Change) -> None:
        for observer in list(self._observers):
            if observer not in self._observers:  # one before it ended it
                continue
            try:
                observer(change)
            except Exception as error:  # noqa: BLE001 - an observer cannot undo an edit
                warnings.warn(f"An observer failed: {error!r}", ObserverWarning, stacklevel=6)
