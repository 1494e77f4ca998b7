"""Columns that people add to the table by an expression."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import ConfigurationError
from workbench.expressions.evaluation import evaluate
from workbench.session.tables.columns import HEADINGS

MOST = 12
"""Extra columns of a table."""


@dataclass(frozen=True)
class ExtraColumn:
    """A column by an expression."""

    title: str
    """What stands above it; no two are equal."""
    expression: str
    """See `workbench.expressions.evaluation`."""


def added(
    columns: tuple[ExtraColumn, ...], new: ExtraColumn, known: Mapping[str, NDArray[Any]]
) -> tuple[ExtraColumn, ...]:
    """The columns with one more, which takes the place of one of its title.

    Raises
    ------
    ConfigurationError
        If it has no title, its expression is none over the known columns, or there are too many.
    """
    if not new.title or len(new.title) > 40:
        raise ConfigurationError("A column needs a title of 1 to 40 letters.", key="title", value=new.title)
    evaluate(new.expression, known, HEADINGS)
    others = tuple(column for column in columns if column.title != new.title)
    if len(others) >= MOST:
        raise ConfigurationError(
            f"A table has at most {MOST} extra columns; remove one first.", key="title", value=new.title
        )
    return (*others, new)


def evaluated(
    columns: tuple[ExtraColumn, ...], known: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[dict[str, str], NDArray[np.float64]]]:
    """Each column as the browser takes it: title, expression and kind, number or truth; and its float64 values."""
    for column in columns:
        values = evaluate(column.expression, known, HEADINGS)
        kind = "truth" if values.dtype == np.bool_ else "number"
        yield (
            {"title": column.title, "expression": column.expression, "kind": kind},
            values.astype(np.float64),
        )
