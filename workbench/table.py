"""`Table`: a pyarrow.Table that people can read, in a notebook and on a terminal."""

from __future__ import annotations

import functools
import html
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from workbench.old_names import warn_renamed

ROWS = 20
"""Rows shown at most: of more, the first and the last ten."""

WIDTH = 120
"""Characters of a line of text at most; columns that do not fit are named below."""

ITEMS = 4
"""Items of a list shown at most."""

OLD_COLUMNS = {
    "weight_nsr": "nsr",
    "nsr_stderr": "damage_stderr",
    "nsr_by_group": "error_by_group",
    "distortion": "damage",
    "solver_nsr": "solver_damage",
}
"""Columns that had another name in version 0.1."""


class Table:
    """A pyarrow.Table that shows itself readably.

    It has the attributes and methods of a pyarrow.Table; those that return a table return one that shows itself too.
    pyarrow's own functions take what `to_arrow` returns. Whatever reads the Arrow C stream (``pa.table(t)``, polars,
    duckdb) takes the table itself.

    Parameters
    ----------
    arrow : pyarrow.Table

    Examples
    --------
    >>> s.layers.sort_by("entropy").select(["name", "entropy"]).slice(0, 5)  # doctest: +SKIP
    """

    __slots__ = ("_arrow",)
    __hash__ = None  # type: ignore[assignment]  # as pyarrow's

    def __init__(self, arrow: pa.Table) -> None:
        self._arrow = arrow

    def to_arrow(self) -> pa.Table:
        """The pyarrow.Table itself."""
        return self._arrow

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._arrow.__arrow_c_stream__(requested_schema)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_arrow":  # copying and pickling ask before there is a table
            raise AttributeError(name)
        found = getattr(self._arrow, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def method(*arguments: Any, **named: Any) -> Any:
            return _wrapped(
                found(*map(_plain, arguments), **{key: _plain(value) for key, value in named.items()})
            )

        return method

    def __getitem__(self, key: int | str | slice) -> Any:
        if isinstance(key, str) and key in OLD_COLUMNS and key not in self._arrow.column_names:
            warn_renamed(f"The column {key}", OLD_COLUMNS[key])
            key = OLD_COLUMNS[key]
        return _wrapped(self._arrow[key])

    def __len__(self) -> int:
        return len(self._arrow)

    def __eq__(self, other: object) -> bool:
        other = _plain(other)
        return isinstance(other, pa.Table) and bool(self._arrow.equals(other))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._arrow)})

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (self._arrow,)

    def __repr__(self) -> str:
        names, rows = self._arrow.column_names, list(self._shown())
        columns = list(zip(names, *rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        fitting, used = 0, 0
        for width in widths:
            used += width + 2
            if fitting and used - 2 > WIDTH:
                break
            fitting += 1
        aligned = [
            [
                cell.rjust(width) if is_number else cell.ljust(width)
                for cell, width, is_number in zip(row[:fitting], widths, self._are_numbers, strict=False)
            ]
            for row in (names, *rows)
        ]
        more = f"More columns: {', '.join(names[fitting:])}." if fitting < len(names) else ""
        return "\n".join([*("  ".join(row).rstrip() for row in aligned), *filter(None, [self._size, more])])

    def _repr_html_(self) -> str:
        style = [
            " style='text-align:right'" if one else " style='text-align:left'" for one in self._are_numbers
        ]

        def line(cells: Sequence[str], tag: str) -> str:
            inner = "".join(
                f"<{tag}{how}>{html.escape(cell)}</{tag}>" for cell, how in zip(cells, style, strict=True)
            )
            return f"<tr>{inner}</tr>"

        body = "".join(line(row, "td") for row in self._shown())
        head = line(self._arrow.column_names, "th")
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table><p>{self._size}</p>"

    @property
    def _are_numbers(self) -> list[bool]:
        kinds = (field.type for field in self._arrow.schema)
        return [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds]

    @property
    def _size(self) -> str:
        rows, columns = self._arrow.num_rows, self._arrow.num_columns
        return f"{rows:,} row{'' if rows == 1 else 's'}, {columns} column{'' if columns == 1 else 's'}"

    def _shown(self) -> Iterator[Sequence[str]]:
        """The cells of the rows that are shown."""
        count = self._arrow.num_rows
        parts = [(0, count)] if count <= ROWS else [(0, ROWS // 2), (count - ROWS // 2, ROWS // 2)]
        for place, (start, length) in enumerate(parts):
            if place:
                yield ["…"] * self._arrow.num_columns
            columns = (column.to_pylist() for column in self._arrow.slice(start, length).columns)
            for row in zip(*columns, strict=True):
                yield list(map(_cell, row))


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.3g}"
        case list():
            shown = ", ".join(map(_cell, value[:ITEMS]))
            return f"[{shown}, …]" if len(value) > ITEMS else f"[{shown}]"
    return str(value)


def _plain(value: Any) -> Any:
    return value.to_arrow() if isinstance(value, Table) else value


def _wrapped(value: Any) -> Any:
    return Table(value) if isinstance(value, pa.Table) else value
