"""Tables are pyarrow's for code, and readable for people."""

from __future__ import annotations

import copy
import pickle

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from workbench.table import ROWS, WIDTH, Table

ARROW = pa.table(
    {
        "name": ["a", "<b>", "c"],
        "bytes": [1_234_567, 2, None],
        "damage": [0.000123456, 1.5, float("nan")],
        "shape": [[64, 32], [1, 2, 3, 4, 5, 6], []],
        "kept": [True, False, None],
    }
)


@pytest.fixture
def table() -> Table:
    return Table(ARROW)


def test_code_uses_it_as_pyarrows(table: Table) -> None:
    assert table.num_rows == len(table) == 3
    assert table.column_names == ARROW.column_names
    assert table["name"].to_pylist() == table.column("name").to_pylist() == ["a", "<b>", "c"]
    assert (
        table.to_pylist() == ARROW.to_pylist()
        or table["damage"].to_pylist()[2] != table["damage"].to_pylist()[2]
    )
    narrow = table.filter(pc.greater(table["bytes"], 10)).select(["name", "bytes"]).sort_by("bytes")
    assert isinstance(narrow, Table)
    assert narrow.to_pylist() == [{"name": "a", "bytes": 1_234_567}]
    assert isinstance(table[1:], Table)
    assert table.select(["name"]).equals(table.select(["name"]))
    assert table.select(["name"]) == ARROW.select(["name"])
    assert table.select(["name"]).join(table.select(["name", "bytes"]), "name").num_rows == 3
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = table.nothing


def test_others_take_it(table: Table) -> None:
    assert table.to_arrow() is ARROW
    assert pa.table(table).schema == ARROW.schema
    shown = table.select(["name", "bytes"])
    assert duckdb.sql("select sum(bytes) from shown").fetchall() == [(1_234_569,)]
    for other in (copy.deepcopy(shown), pickle.loads(pickle.dumps(shown))):  # noqa: S301 - our own
        assert other == shown


def test_it_is_read_in_a_notebook(table: Table) -> None:
    page = table._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    for text in ("1,234,567", "0.000123", "[64, 32]", "[1, 2, 3, 4, …]", "3 rows, 5 columns"):
        assert text in page


def test_it_is_read_on_a_terminal(table: Table) -> None:
    assert repr(table.select(["name", "bytes", "damage"])).splitlines() == [
        "name      bytes    damage",
        "a     1,234,567  0.000123",
        "<b>           2       1.5",
        "c                     nan",
        "3 rows, 3 columns",
    ]


def test_a_long_or_wide_one_says_what_it_leaves_out() -> None:
    long = Table(pa.table({"row": list(range(1000))}))
    lines = repr(long).splitlines()
    assert len(lines) == 1 + ROWS + 1 + 1
    assert "…" in lines[11]
    assert (lines[1].strip(), lines[-2].strip(), lines[-1]) == ("0", "999", "1,000 rows, 1 column")
    wide = Table(pa.table({f"column_{number}": ["x" * 30] for number in range(6)}))
    lines = repr(wide).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[-1] == "More columns: column_3, column_4, column_5."
    assert all(f"column_{number}" in wide._repr_html_() for number in range(6))
