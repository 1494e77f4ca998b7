"""Extended Parquet V2 against independent readers: pyarrow with a decoder of its own, and DuckDB."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.config import GROUP_SIZES
from workbench.errors import MetadataError
from workbench.formats import target_named

SOURCE_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16, "I64": "<i8", "I32": "<i4",
    "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def decode_independently(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Decode an export with the words of arrowquant_api.md alone: no code of the workbench."""
    rows = pq.read_table(sorted(folder.glob("part-*.parquet"))).to_pylist()
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["layer_name"], row["block_index"])):
        shape, data = row["shape"], row["data"]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        cols = math.prod(shape[1:])
        if row["quant_type"] == "none":
            block = np.frombuffer(data, SOURCE_DTYPES[row["dtype"]]).reshape(row["rows"], cols)
        else:
            bits, group = row["bit_width"], row["group_size"]
            stream = np.frombuffer(data, np.uint8).reshape(row["rows"], -1)
            ones = np.unpackbits(stream, axis=1, bitorder="little")[:, : cols * bits]
            codes = (ones.reshape(row["rows"], cols, bits) << np.arange(bits)).sum(-1).astype(np.float32)
            groups = -(-cols // group)
            of_column = np.arange(cols) // group
            scales = np.array(row["scales"], np.float32).reshape(-1, groups)[:, of_column]
            zero_points = np.array(row["zero_points"], np.float32).reshape(-1, groups)[:, of_column]
            block = (codes - zero_points) * scales
        name = row["layer_name"]
        tensors[name] = block if name not in tensors else np.concatenate([tensors[name], block])
    shapes = {row["layer_name"]: row["shape"] for row in rows}
    return {name: array.reshape(shapes[name]) for name, array in tensors.items()}


def export(source: Path, output: Path, **settings: Any) -> Path:
    settings = {"min_accuracy": 0.0, **settings}
    wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(**settings)).run(source, output)
    return output


@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.usefixtures("small_parts")
def test_an_independent_decoder_agrees_exactly(
    make_checkpoint: Callable[..., Path], tmp_path: Path, bits: int, scheme: str
) -> None:
    group = GROUP_SIZES[bits % len(GROUP_SIZES)]
    out = export(make_checkpoint(), tmp_path / "out", bit_width=bits, scheme=scheme, group_size=group)
    independent, ours = decode_independently(out), wb.load(out)
    assert set(independent) == set(ours)
    for name, array in ours.items():
        assert array.dtype == independent[name].dtype
        assert array.tobytes() == independent[name].tobytes(), name


@pytest.mark.usefixtures("small_parts")
def test_kept_tensors_are_the_source_to_the_byte(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_checkpoint()
    loaded, original = wb.load(export(source, tmp_path / "out")), load_file(source / "model.safetensors")
    assert set(loaded) == set(original)
    kept = [name for name in original if name not in loaded.plan.choices]
    assert {"step", "mask", "empty.weight", "proj_out.bias"} <= set(kept)
    for name in kept:
        assert loaded[name].dtype == original[name].dtype
        assert loaded[name].shape == original[name].shape
        assert loaded[name].tobytes() == original[name].tobytes()


@pytest.mark.usefixtures("small_parts")
def test_duckdb_reads_and_sums_it(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    source = make_checkpoint()
    out = export(source, tmp_path / "out", bit_width=3)
    original = load_file(source / "model.safetensors")
    rows = duckdb.execute(
        f"SELECT layer_name, any_value(quant_type), sum(num_params), sum(octet_length(data)), "
        f"sum(len(scales)) FROM '{out}/part-*.parquet' GROUP BY layer_name"
    ).fetchall()
    assert {row[0]: row[2] for row in rows} == {name: array.size for name, array in original.items()}
    quantized = {row[0]: row[3:] for row in rows if row[1] == "int3"}
    assert set(quantized) == set(wb.load(out).plan.choices)
    # 130 rows of 129 weights: 49 bytes and 2 groups of 128 a row.
    assert quantized["transformer_blocks.0.attn1.to_out.0.weight"] == (130 * 49, 130 * 2)


@pytest.mark.usefixtures("small_parts")
def test_blocks_share_row_groups(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    out = export(make_checkpoint(), tmp_path / "out")
    stated = [pq.ParquetFile(path).metadata for path in sorted(out.glob("part-*.parquet"))]
    rows = [part.row_group(i).num_rows for part in stated for i in range(part.num_row_groups)]
    assert len(stated) < len(rows) < sum(rows)


def test_the_file_says_what_it_is(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    source = make_checkpoint()
    out = export(source, tmp_path / "out", modality="audio")
    file = pq.ParquetFile(out / "part-00000.parquet")
    metadata = {key.decode(): value.decode() for key, value in file.metadata.metadata.items()}
    assert metadata["arrowquant.format"] == "extended-parquet"
    assert metadata["arrowquant.format_version"] == "2.0"
    with open_checkpoint(source) as checkpoint:
        assert metadata["arrowquant.fingerprint"] == checkpoint.fingerprint
    assert json.loads(metadata["arrowquant.plan"]) == wb.load(out).plan.to_dict()
    table = file.read()
    assert table.schema.field("data").type == pa.large_binary()
    assert table.schema.field("scales").type == pa.list_(pa.float32())
    assert set(table["modality"].to_pylist()) == {"audio"}
    assert all(
        file.metadata.row_group(0).column(i).compression == "ZSTD" for i in range(file.metadata.num_columns)
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_prediction_bounds_the_payload(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shapes = data.draw(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 700)), min_size=1, max_size=6))
    bits = data.draw(st.integers(2, 8))
    group = data.draw(st.sampled_from(GROUP_SIZES))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    folder = tmp_path_factory.mktemp("bound")
    names = [f"blocks.{i}.{'x' * data.draw(st.integers(1, 200))}.weight" for i in range(len(shapes))]
    save_file(
        {
            # One that is a layer in any case: a single weight could be a norm's gain.
            "proj_out.weight": rng.standard_normal((4, 32)).astype(ml_dtypes.bfloat16),
        }
        | {
            name: (rng.integers(0, 65536, shape).astype(np.uint16) & 0xBFFF).view(ml_dtypes.bfloat16)
            for name, shape in zip(names, shapes, strict=True)
        },
        folder / "model.safetensors",
    )
    out = export(folder / "model.safetensors", folder / "out", bit_width=bits, group_size=group)
    report = wb.load(out).report
    written = sum(path.stat().st_size for path in out.glob("part-*.parquet"))
    assert report["actual_bytes"] == written
    assert written <= report["predicted_bytes"]


def test_the_bound_is_close_where_data_dominate(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    uniform = rng.uniform(-1, 1, (2048, 2048)).astype(np.float32)
    source = make_checkpoint({"blocks.0.fc.weight": uniform})
    report = wb.load(export(source, tmp_path / "out", bit_width=8)).report
    assert report["actual_bytes"] <= report["predicted_bytes"] <= 1.1 * report["actual_bytes"]


def test_every_option_is_priced_exactly(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    target = target_named("parquet")
    with open_checkpoint(make_checkpoint()) as checkpoint:
        layer = next(layer for layer in checkpoint.layers if layer.cols == 129)
    options = target.options(layer)
    assert [option.nbytes for option in options] == sorted(option.nbytes for option in options)
    assert {option.bits for option in options} == {2, 3, 4, 5, 6, 7, 8, 16}
    for option in options:
        if option.is_kept:
            assert option.nbytes == 130 * 129 * 2
        else:
            groups = math.ceil(129 / option.group_size)
            assert option.nbytes == 130 * (math.ceil(129 * option.bits / 8) + 8 * groups)


# ---- refusals -------------------------------------------------------------------------------------------------


def rewrite(
    path: Path,
    change: Callable[[pa.Table], pa.Table],
    metadata: dict[str, str] | None = None,
    row_group_size: int = 1,
) -> None:
    """Write a part again, changed, as another program might."""
    table = pq.read_table(path)
    stated = {k.decode(): v.decode() for k, v in pq.ParquetFile(path).metadata.metadata.items()}
    stated.pop("ARROW:schema", None)
    table = change(table).replace_schema_metadata({**stated, **(metadata or {})})
    pq.write_table(table, path, row_group_size=row_group_size)


@pytest.fixture
def exported(make_checkpoint: Callable[..., Path], tmp_path: Path, small_parts: None) -> Path:
    return export(make_checkpoint(), tmp_path / "out")


def test_an_unknown_major_version_is_refused(exported: Path) -> None:
    rewrite(exported / "part-00000.parquet", lambda t: t, {"arrowquant.format_version": "3.1"})
    with pytest.raises(MetadataError, match=r"part-00000.*'3\.1' is unknown"):
        wb.load(exported)


def test_a_newer_minor_version_is_read(exported: Path) -> None:
    before = wb.load(exported)["proj_out.weight"]
    rewrite(exported / "part-00000.parquet", lambda t: t, {"arrowquant.format_version": "2.7"})
    assert np.array_equal(wb.load(exported)["proj_out.weight"], before)


def test_a_missing_part_is_refused(exported: Path) -> None:
    (exported / "part-00001.parquet").unlink()
    with pytest.raises(MetadataError, match="part-00001"):
        wb.load(exported)


def test_a_missing_block_is_refused_by_its_tensor(exported: Path) -> None:
    name = pq.read_table(exported / "part-00001.parquet")["layer_name"][0].as_py()
    rewrite(exported / "part-00001.parquet", lambda table: table.slice(1))
    with pytest.raises(MetadataError, match="missing") as caught:
        wb.load(exported)
    assert caught.value.tensor == name


def test_a_doubled_block_is_refused_by_its_tensor(exported: Path) -> None:
    rewrite(exported / "part-00001.parquet", lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    with pytest.raises(MetadataError, match="twice"):
        wb.load(exported)


def test_a_flipped_bit_is_refused_by_its_tensor(exported: Path) -> None:
    def flip(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        rows[0]["data"] = bytes([rows[0]["data"][0] ^ 1]) + rows[0]["data"][1:]
        return pa.Table.from_pylist(rows, table.schema)

    part = exported / "part-00001.parquet"
    name = pq.read_table(part)["layer_name"][0].as_py()
    rewrite(part, flip)
    loaded = wb.load(exported)
    with pytest.raises(MetadataError, match="checksum") as caught:
        loaded[name]
    assert caught.value.tensor == name


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("rows", 10**15), ("rows", -1), ("row_start", -4), ("shape", [10**12, 10**12]), ("shape", [-1, 4]),
        ("dtype", "F13"), ("quant_type", "int9"), ("bit_width", 99), ("group_size", 7), ("packing", "msb"),
        ("scales", [1.0]), ("zero_points", []), ("block_index", 5), ("layer_name", "another"),
    ],
)  # fmt: skip
def test_impossible_rows_are_refused_and_nothing_is_allocated(
    exported: Path, column: str, value: object
) -> None:
    name = "transformer_blocks.1.attn1.to_k.weight"
    part = next(
        path
        for path in sorted(exported.glob("part-*.parquet"))
        if name in pq.read_table(path)["layer_name"].to_pylist()
    )

    def spoil(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        for row in rows:
            if row["layer_name"] == name:
                row[column] = value
                break
        return pa.Table.from_pylist(rows, table.schema)

    rewrite(part, spoil)
    with pytest.raises(MetadataError):
        wb.load(exported)[name]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("data", pa.binary()),
        ("scales", pa.list_(pa.float64())),
        ("rows", pa.int32()),
        ("sha256", pa.binary()),
    ],
)
def test_a_column_of_another_type_is_refused(exported: Path, column: str, kind: pa.DataType) -> None:
    def spoil(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(column)
        return table.set_column(index, column, table[column].cast(kind))

    rewrite(exported / "part-00000.parquet", spoil)
    with pytest.raises(MetadataError, match=f"part-00000.*'{column}' is of the type"):
        wb.load(exported)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_parts_never_decode_to_something_else(exported: Path, data: st.DataObject) -> None:
    part = data.draw(st.sampled_from(sorted(exported.glob("part-*.parquet"))))
    whole = part.read_bytes()
    reference = decode_independently(exported)
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        part.write_bytes(damaged)
        try:
            loaded = wb.load(exported)
            decoded = {name: loaded[name] for name in loaded}
        except MetadataError:
            return
        for name, array in reference.items():
            assert decoded[name].tobytes() == array.tobytes(), name
    finally:
        part.write_bytes(whole)
