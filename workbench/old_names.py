"""Public names that have another name now: they still work, and say so once."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)


def warn_renamed(old: str, new: str, level: int = 2) -> None:
    """Warn that a name is an old one; Python shows it once for each place that uses it.

    Parameters
    ----------
    old, new : str
        As the reader writes them.
    level : int
        Calls between here and the reader's line, as for `warnings.warn`.
    """
    warnings.warn(
        f"{old} is called {new} now; the old name will go.", DeprecationWarning, stacklevel=level + 1
    )


def renamed_argument(old: str, new: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator by which a function takes an argument by its old name too.

    Parameters
    ----------
    old, new : str
        The argument's names.

    Examples
    --------
    >>> @renamed_argument("nsr", "damage")
    ... def shown(damage): return damage
    >>> shown(damage=1)
    1
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{function.__name__}() got {old} and {new}, which are one argument.")
                warn_renamed(old, new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapped

    return wrap


def old_names(**names: str) -> Callable[[C], C]:
    """A decorator by which a class has attributes by their old names too.

    Parameters
    ----------
    **names : str
        The new name of each old one.

    Examples
    --------
    >>> @old_names(nsr="damage")
    ... class Totals: damage = 0.5
    """

    def add(cls: C) -> C:
        for old, new in names.items():
            setattr(cls, old, property(functools.partial(_attribute, cls.__name__, old, new)))
        return cls

    return add


def _attribute(owner: str, old: str, new: str, self: Any) -> Any:
    warn_renamed(f"{owner}.{old}", new)
    return getattr(self, new)
