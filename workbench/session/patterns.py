"""Which layers are meant by a name, a glob or a role."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workbench.errors import ArgumentError
from workbench.layer_names import matching, nearest, unmatched
from workbench.plan import Layer

Patterns = str | Iterable[str]
"""Layer names, globs (``"*attn*"``) or roles (``"role:attention.*"``); one or several."""


def rows_matching(layers: Sequence[Layer], patterns: Patterns) -> list[int]:
    """Places of the layers that match, in order.

    Parameters
    ----------
    layers : sequence of Layer
    patterns : str or iterable of str
        As for `workbench.layer_names.matching`.

    Raises
    ------
    ArgumentError
        If one of them matches no layer; the message suggests the nearest that does.
    """
    names, roles = [layer.name for layer in layers], [layer.role for layer in layers]
    rows: set[int] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = matching(pattern, names, roles)
        if not found:
            raise ArgumentError(
                unmatched(pattern, names, roles),
                key="pattern",
                value=pattern,
                nearest=nearest(pattern, names, roles),
            )
        rows.update(found)
    return sorted(rows)
