"""What was done to a session, as the Python that does it again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.config import DiffusionQuantConfig
from workbench.plan import Option


class Name(str):
    """A variable of the reader's, written as it is."""


def call(method: str, *arguments: Any, on: str = "s", **named: Any) -> str:
    """A call of a session's method as a line of Python; what is None, False or empty is left out of the named."""
    parts = [
        *map(_written, arguments),
        *(f"{key}={_written(value)}" for key, value in named.items() if not _left_out(value)),
    ]
    return f"{on}.{method}({', '.join(parts)})"


def config_of(config: DiffusionQuantConfig) -> Name:
    """A configuration as the call that makes it."""
    fields = type(config).model_fields
    changed = {
        key: value
        for key in fields
        if (value := getattr(config, key)) != fields[key].get_default(call_default_factory=True)
    }
    return Name(f"wb.DiffusionQuantConfig(**{changed!r})")


def _left_out(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, tuple | Mapping) and not value)


def _written(value: Any) -> str:
    match value:
        case Name():
            return str(value)
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
