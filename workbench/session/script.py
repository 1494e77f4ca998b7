"""What was done to a session, as the Python that does it again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from workbench.plan import Option


def call(method: str, *arguments: Any, **named: Any) -> str:
    """A call of a session's method as a line of Python; what is None or empty is left out of the named arguments."""
    parts = [
        *map(_written, arguments),
        *(f"{key}={_written(value)}" for key, value in named.items() if not _left_out(value)),
    ]
    return f"s.{method}({', '.join(parts)})"


def _left_out(value: Any) -> bool:
    return value is None or (isinstance(value, tuple) and not value)


def _written(value: Any) -> str:
    match value:
        case Option():
            return f"wb.{value!r}"
        case np.generic():
            return _written(value.item())
        case float() if not math.isfinite(value):
            return f"float('{value}')"
        case str() | int() | float() | None | dict():
            return repr(value)
        case _:
            return f"[{', '.join(map(_written, value))}]"
