"""What was done to a session, as the Python that does it again."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.plan import Option


def call(method: str, *arguments: Any, **named: Any) -> str:
    """A call of a session's method as a line of Python; what is None or empty is left out of the named arguments."""
    parts = [
        *map(_written, arguments),
        *(f"{key}={_written(value)}" for key, value in named.items() if value is not None and value != ()),
    ]
    return f"s.{method}({', '.join(parts)})"


def _written(value: Any) -> str:
    match value:
        case Option():
            return f"wb.{value!r}"
        case np.generic():
            return repr(value.item())
        case str() | int() | float() | None | dict():
            return repr(value)
        case _:
            return repr(list(value))
