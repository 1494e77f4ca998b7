"""Guards the file of records: it comes back bit for bit, and no file made to mislead gets past the reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.calibration import CalibrationRecords
from workbench.calibration.layer_record import STEP_FIELDS
from workbench.errors import ArrowQuantError, MetadataError, ModelNotFoundError, ValidationError

Rewrite = Callable[..., Path]


@pytest.fixture
def path(records: CalibrationRecords, tmp_path: Path) -> Path:
    path = tmp_path / "calibration.parquet"
    records.save(path)
    return path


@pytest.fixture
def rewrite(path: Path) -> Rewrite:
    """Write the file again, its rows and metadata changed by a function of both."""

    def rewrite(change: Callable[[list[dict[str, Any]], dict[str, str]], None], schema: Any = None) -> Path:
        table = pq.read_table(path)
        rows = table.to_pylist()
        text = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        change(rows, text)
        schema = (schema or table.schema).with_metadata(text)
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
        return path

    return rewrite


def test_records_come_back_bit_for_bit(records: CalibrationRecords, path: Path) -> None:
    loaded = CalibrationRecords.load(path)
    assert (loaded.fingerprint, loaded.time) == (records.fingerprint, records.time)
    assert dict(loaded.made_by) == dict(records.made_by)
    for axis in ("steps", "step_calls", "buckets", "bucket_calls"):
        np.testing.assert_array_equal(getattr(loaded, axis), getattr(records, axis))
    assert list(loaded.layers) == list(records.layers)
    for name, record in records.layers.items():
        twin = loaded.layers[name]
        assert twin.kind == record.kind
        for field in ("count", "mean", "second_moment", "absmax", "output_energy"):
            ours, theirs = getattr(record, field), getattr(twin, field)
            assert ours.dtype == theirs.dtype
            assert ours.tobytes() == theirs.tobytes()
        for field in STEP_FIELDS:
            np.testing.assert_array_equal(getattr(record.steps, field), getattr(twin.steps, field))
        assert twin.sensitivity.keys() == record.sensitivity.keys()
        for estimator, values in record.sensitivity.items():
            np.testing.assert_array_equal(values, twin.sensitivity[estimator])
    assert loaded.digest == records.digest


def test_steps_never_observed_stay_missing(path: Path) -> None:
    loaded = CalibrationRecords.load(path)
    late = loaded.layers["late.weight"]
    assert late.steps.count.tolist() == [18, 18, 18, 0, 0]
    assert np.isnan(late.steps.mean).tolist() == [False] * 3 + [True] * 2
    assert np.isnan(loaded.second_moment("late.weight")).all(axis=1).tolist() == [False] * 3 + [True] * 2


def test_the_same_records_give_the_same_bytes(records: CalibrationRecords, path: Path) -> None:
    again = path.with_name("again.parquet")
    CalibrationRecords.load(path).save(again)
    assert again.read_bytes() == path.read_bytes()


def test_the_columns_are_plain_parquet(path: Path) -> None:
    table = pq.read_table(path)
    assert set(table["scope"].to_pylist()) == {"step", "bucket"}
    assert table.schema.metadata[b"format"] == b"arrowquant-calibration"
    assert json.loads(table.schema.metadata[b"buckets"])[0] == [100.0, 100.0]


def test_there_has_to_be_a_file(tmp_path: Path) -> None:
    for missing in (tmp_path / "nothing.parquet", tmp_path):
        with pytest.raises(ModelNotFoundError, match=r"workbench\.live\.capture") as raised:
            CalibrationRecords.load(missing)
        assert raised.value.path == missing


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calibration.parquet"
    path.write_bytes(content)
    with pytest.raises(MetadataError, match="not usable as calibration records"):
        CalibrationRecords.load(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_half_a_file_is_refused(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MetadataError):
        CalibrationRecords.load(path)


def test_flipped_bytes_are_found(records: CalibrationRecords, path: Path) -> None:
    """In the pages, whose values have checksums: what is not refused is no value, but a statistic or the like."""
    data = path.read_bytes()
    pages = len(data) - int.from_bytes(data[-8:-4], "little") - 8
    refused = 0
    places = np.random.default_rng(0).integers(4, pages, 60).tolist()
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            loaded = CalibrationRecords.load(path)
        except ArrowQuantError:
            refused += 1
        else:
            assert loaded.digest == records.digest
    assert refused > len(places) / 2


def test_other_parquet_files_are_refused(path: Path, rewrite: Rewrite) -> None:
    pq.write_table(pa.table({"a": [1]}), path.with_name("other.parquet"))
    with pytest.raises(MetadataError, match="format=arrowquant-calibration"):
        CalibrationRecords.load(path.with_name("other.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["absmax_p99"]), path)
    with pytest.raises(MetadataError, match="columns are not those of the format"):
        CalibrationRecords.load(path)


DEEP = "[" * 100_000
METADATA: dict[str, tuple[dict[str, str], str]] = {
    "format": ({"format": "something-else"}, "format="),
    "version": ({"version": "2"}, "version is '2' and this release reads 1"),
    "no JSON": ({"steps": "[[1,"}, "'steps' is not a list of numbers"),
    "deep JSON": ({"buckets": DEEP}, "'buckets' is not a list"),
    "words": ({"bucket_calls": '["a"]'}, "'bucket_calls' is not"),
    "mapping": ({"step_calls": "{}"}, "'step_calls' is not"),
    "null": ({"step_calls": "[null, 1, 1, 1, 1]"}, "'step_calls'"),
    "NaN": ({"step_calls": "[NaN, 1, 1, 1, 1]"}, "NaN or Inf"),
    "Inf": ({"step_calls": "[1e999, 1, 1, 1, 1]"}, "NaN or Inf"),
    "enormous": ({"step_calls": f"[1{'0' * 400}, 1, 1, 1, 1]"}, "'step_calls' is not"),
    "ragged": ({"steps": "[[1, 2], [3]]"}, "'steps' is not"),
    "empty": ({"steps": "[]", "step_calls": "[]"}, "the axis 'steps'"),
    "fewer calls": ({"step_calls": "[1, 1]"}, "the axis 'steps'"),
    "three ends": ({"steps": "[[1, 2, 3]]", "step_calls": "[1]"}, "the axis 'steps'"),
    "too many": ({"buckets": json.dumps([[i, i] for i in range(65)]), "bucket_calls": str([1] * 65)}, "'buckets'"),
    "no calls": ({"step_calls": "[1, 1, 0, 1, 1]"}, "without calls"),
    "negative calls": ({"bucket_calls": "[1, 1, -1, 1, 1]"}, "without calls"),
    "descending": ({"steps": "[[1,1],[3,3],[2,2],[4,4],[5,5]]"}, "does not ascend"),
    "backwards": ({"steps": "[[1,1],[3,2],[4,4],[5,5],[6,6]]"}, "does not ascend"),
    "overlapping": ({"buckets": "[[1,2],[2,3],[4,4],[5,5],[6,6]]"}, "does not ascend"),
    "doubled": ({"buckets": "[[1,1],[1,1],[4,4],[5,5],[6,6]]"}, "does not ascend"),
    "made_by": ({"made_by": "{"}, "made_by is not JSON"),
    "deep made_by": ({"made_by": DEEP}, "made_by is not JSON"),
    "made_by list": ({"made_by": "[]"}, "made_by is not a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("case", METADATA)
def test_metadata_that_cannot_be_are_refused(rewrite: Rewrite, case: str) -> None:
    changes, message = METADATA[case]
    path = rewrite(lambda rows, text: text.update(changes))
    with pytest.raises(MetadataError, match=message) as raised:
        CalibrationRecords.load(path)
    assert raised.value.path == path


@pytest.mark.parametrize("missing", ["steps", "step_calls", "buckets", "bucket_calls", "format", "version"])
def test_metadata_that_are_missing_are_refused(rewrite: Rewrite, missing: str) -> None:
    path = rewrite(lambda rows, text: text.pop(missing))
    with pytest.raises(MetadataError):
        CalibrationRecords.load(path)


def first(rows: list[dict[str, Any]], scope: str) -> dict[str, Any]:
    return next(row for row in rows if row["layer"] == "falling.weight" and row["scope"] == scope)


BAD = (float("nan"), float("inf"), -float("inf"))
NOT_NEGATIVE = {"variance", "absmax_p99", "absmax_p999", "second_moment", "absmax"}


def impossible(*fields: str) -> list[tuple[str, float | None]]:
    bad = [(field, value) for field in fields for value in (*BAD, None)]
    return bad + [(field, -1.0) for field in fields if field in NOT_NEGATIVE]


@pytest.mark.parametrize(("field", "value"), impossible(*STEP_FIELDS[1:]))
def test_scalars_that_cannot_be_are_refused_with_their_layer(
    rewrite: Rewrite, field: str, value: float | None
) -> None:
    path = rewrite(lambda rows, text: first(rows, "step").update({field: value}))
    with pytest.raises(ValidationError, match=rf"{field} of 'falling\.weight' is") as raised:
        CalibrationRecords.load(path)
    assert raised.value.tensor == "falling.weight"


@pytest.mark.parametrize(("field", "value"), impossible("mean", "second_moment", "absmax"))
def test_channels_that_cannot_be_are_refused_with_their_layer(
    rewrite: Rewrite, field: str, value: float | None
) -> None:
    def change(rows: list[dict[str, Any]], text: dict[str, str]) -> None:
        first(rows, "bucket")[f"channel_{field}"][3] = value

    with pytest.raises(ValidationError, match=f"channel_{field} of 'falling") as raised:
        CalibrationRecords.load(rewrite(change))
    assert raised.value.tensor == "falling.weight"


@pytest.mark.parametrize("value", [*BAD, None, -1.0])
@pytest.mark.parametrize("field", ["output_energy", "sensitivity"])
def test_energies_and_sensitivities_that_cannot_be_are_refused(
    rewrite: Rewrite, field: str, value: float | None
) -> None:
    given = [("fisher:step", value)] if field == "sensitivity" else value
    path = rewrite(lambda rows, text: first(rows, "bucket").update({field: given}))
    with pytest.raises(ValidationError, match=rf"{field}.* of 'falling\.weight' is") as raised:
        CalibrationRecords.load(path)
    assert raised.value.tensor == "falling.weight"


def doubled(rows: list[dict[str, Any]], scope: str) -> None:
    rows.append(dict(first(rows, scope)))


def without(rows: list[dict[str, Any]], scope: str) -> None:
    rows[:] = [row for row in rows if (row["layer"], row["scope"]) != ("falling.weight", scope)]


ROWS: dict[str, tuple[Callable[[list[dict[str, Any]], str], Any], str]] = {
    "doubled": (doubled, "is doubled, out of place or empty"),
    "beyond the axis": (lambda rows, scope: first(rows, scope).update(index=5), "for (step|bucket) 5 is"),
    "before the axis": (lambda rows, scope: first(rows, scope).update(index=-1), "for (step|bucket) -1 is"),
    "no count": (lambda rows, scope: first(rows, scope).update(count=0), "or empty"),
    "negative count": (lambda rows, scope: first(rows, scope).update(count=-3), "or empty"),
    "no rows of a scope": (without, "lacks steps or buckets"),
    "unknown scope": (
        lambda rows, scope: first(rows, scope).update(scope="group"),
        "or has a row of neither",
    ),
    "two kinds": (lambda rows, scope: first(rows, scope).update(kind="conv"), "has the kinds"),
}


@pytest.mark.parametrize("scope", ["step", "bucket"])
@pytest.mark.parametrize("case", ROWS)
def test_rows_that_cannot_be_are_refused_with_their_layer(rewrite: Rewrite, case: str, scope: str) -> None:
    change, message = ROWS[case]
    with pytest.raises(MetadataError, match=message) as raised:
        CalibrationRecords.load(rewrite(lambda rows, text: change(rows, scope)))
    assert raised.value.tensor == "falling.weight"


def shortened(row: dict[str, Any]) -> None:
    row["channel_absmax"] = row["channel_absmax"][:-1]


def test_channels_of_several_lengths_are_refused(rewrite: Rewrite) -> None:
    with pytest.raises(MetadataError, match=r"'falling\.weight' has channels of several numbers, \[5, 6\]"):
        CalibrationRecords.load(rewrite(lambda rows, text: shortened(first(rows, "bucket"))))


@pytest.mark.parametrize("value", [None, []])
def test_channels_that_are_missing_are_refused(rewrite: Rewrite, value: Any) -> None:
    def change(rows: list[dict[str, Any]], text: dict[str, str]) -> None:
        for row in rows:
            if row["layer"] == "falling.weight" and row["scope"] == "bucket":
                row |= dict.fromkeys(("channel_mean", "channel_second_moment", "channel_absmax"), value)

    with pytest.raises(MetadataError, match=r"'falling\.weight'"):
        CalibrationRecords.load(rewrite(change))


def test_a_least_value_above_the_greatest_is_refused(rewrite: Rewrite) -> None:
    path = rewrite(lambda rows, text: first(rows, "step").update(minimum=2.0, maximum=1.0))
    with pytest.raises(ValidationError, match=r"'falling\.weight' is above"):
        CalibrationRecords.load(path)


def test_an_unknown_kind_is_refused(rewrite: Rewrite) -> None:
    def change(rows: list[dict[str, Any]], text: dict[str, str]) -> None:
        for row in rows:
            row["kind"] = "attention"

    with pytest.raises(MetadataError, match=r"the kinds \['attention'\]"):
        CalibrationRecords.load(rewrite(change))


def test_a_layer_in_two_row_groups_is_refused(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path, row_group_size=table.num_rows)
    with pytest.raises(MetadataError, match="stands in it twice"):
        CalibrationRecords.load(path)


@pytest.mark.parametrize("where", ["nowhere/calibration.parquet", "file.txt/calibration.parquet", "folder"])
def test_a_path_that_cannot_be_written_leaves_nothing(
    records: CalibrationRecords, tmp_path: Path, where: str
) -> None:
    (tmp_path / "file.txt").write_text("in the way")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValidationError, match=r"cannot be written: [A-Z]") as raised:
        records.save(tmp_path / where)
    assert "None" not in str(raised.value)
    assert raised.value.path == tmp_path / where
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_save_leaves_the_older_file(
    records: CalibrationRecords, path: Path, monkeypatch: Any
) -> None:
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(ValidationError, match="No space left"):
        records.save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
