"""Running models without the code that torch.compile made of them, which does not look for hooks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_stances: list[Any] = []
_users = 0


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run everything eagerly that was compiled, as a whole, in place or block by block; afterwards it is used again."""
    end = run_uncompiled()
    try:
        yield
    finally:
        end()


def run_uncompiled() -> Callable[[], None]:
    """The same until what it gives is called.

    It holds for the whole process: torch knows one stance. Uses may overlap in any order; the last one to end gives
    back the stance that was there before the first.
    """
    global _users
    with _lock:
        if _users == 0:
            _stances.append(torch.compiler.set_stance("force_eager"))
        _users += 1
    return _end


def _end() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            _stances.pop().__exit__(None, None, None)
