"""Which layers are meant by a name, a glob or a role."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from workbench.errors import ConfigurationError
from workbench.plan import Layer

Patterns = str | Iterable[str]
"""Layer names, globs (``"*attn*"``) or roles (``"role:attention.*"``); one or several."""

ROLE = "role:"
"""Before a glob on roles."""


def rows_matching(layers: Sequence[Layer], patterns: Patterns) -> list[int]:
    """Places of the layers that match, in order.

    Parameters
    ----------
    layers : sequence of Layer
    patterns : str or iterable of str
        A layer's name, else a glob on names (case counts, ``*`` crosses dots), or a glob on roles after ``role:``.

    Raises
    ------
    ConfigurationError
        If one of them matches no layer; the message suggests the nearest that does.
    """
    rows: set[int] = set()
    by_name = {layer.name: row for row, layer in enumerate(layers)}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if pattern in by_name:
            rows.add(by_name[pattern])
            continue
        found = [row for row, layer in enumerate(layers) if _matches(layer, pattern)]
        if not found:
            near = _nearest(layers, pattern)
            suggestion = f" Did you mean {near!r}?" if near else ""
            raise ConfigurationError(
                f"{pattern!r} matches no layer.{suggestion}", key="pattern", value=pattern, nearest=near
            )
        rows |= set(found)
    return sorted(rows)


def _matches(layer: Layer, pattern: str) -> bool:
    if pattern.startswith(ROLE):
        return fnmatchcase(layer.role, pattern.removeprefix(ROLE))
    return fnmatchcase(layer.name, pattern)


def _nearest(layers: Sequence[Layer], pattern: str) -> str | None:
    """A pattern like one that matches nothing, which does match."""
    if pattern.startswith(ROLE):
        roles = sorted({layer.role for layer in layers})
        close = difflib.get_close_matches(pattern.removeprefix(ROLE), roles, n=1)
        return ROLE + close[0] if close else None
    # Names are compared part by part, so that the globs around a misspelt part stay as they are.
    words = sorted(
        {part for layer in layers for part in [*layer.name.split("."), *re.split(r"[._]", layer.name)]}
    )
    parts = re.split(r"([.*?\[\]]+)", pattern)
    for place, part in enumerate(parts):
        if not part or re.fullmatch(r"[.*?\[\]]+", part) or any(part in word for word in words):
            continue
        close = difflib.get_close_matches(part, words, n=1)
        if close:
            parts[place] = close[0]
    suggestion = "".join(parts)
    if suggestion != pattern and any(_matches(layer, suggestion) for layer in layers):
        return suggestion
    close = difflib.get_close_matches(pattern, [layer.name for layer in layers], n=1)
    return close[0] if close else None
