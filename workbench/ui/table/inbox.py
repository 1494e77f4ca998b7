"""`Inbox`: takes each request of a view once, in the order in which the view made them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

Request = Mapping[str, Any]


class Inbox:
    """Puts the requests of views in order, and takes none of them twice.

    JupyterLab sends a widget's first messages to the kernel's main shell, where they wait for the cell that runs, and
    later ones to a subshell. A view therefore asks again until it is answered: a request may come late, early or
    several times. It carries its ``view`` and its ``turn``, which counts from 1; one without is taken as it comes.

    Parameters
    ----------
    take : callable
        Handles a request; must not raise.
    again : callable
        Told of a request that was handled before.
    """

    def __init__(self, take: Callable[[Request], None], again: Callable[[Request], None]) -> None:
        self._take, self._again = take, again
        # Held while a request is handled: one that comes in another thread waits for those before it.
        self._lock = threading.RLock()
        self._taken: dict[str, int] = {}
        self._early: dict[tuple[str, int], Request] = {}

    def put(self, request: Request) -> None:
        """Handle a request, unless one before it is missing; then all that waited for it."""
        view, turn = request.get("view"), request.get("turn")
        with self._lock:
            if not isinstance(view, str) or type(turn) is not int:
                self._take(request)
                return
            if turn <= self._taken.get(view, 0):
                self._again(request)
                return
            self._early[view, turn] = request
            while (due := self._early.pop((view, self._taken.get(view, 0) + 1), None)) is not None:
                self._taken[view] = self._taken.get(view, 0) + 1
                self._take(due)
