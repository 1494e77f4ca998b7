"""What a target keeps of each dtype a checkpoint may have, as the runtime's own loader gives it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import mlx.core as mx
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import workbench as wb
from workbench.checkpoint.tensors import DTYPES

Array = np.ndarray[Any, Any]
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
KEPT = "blocks.0.norm1.weight"
LAYER = "blocks.0.attn.to_q.weight"


def write(path: Path, tensors: Mapping[str, tuple[str, Array]]) -> Path:
    """A safetensors file, of dtypes that the package for NumPy does not write; with a layer in any case."""
    header: dict[str, Any] = {}
    data = b""
    layer = {LAYER: ("F32", np.random.default_rng(0).standard_normal((32, 64)))}
    for name, (dtype, array) in {**layer, **tensors}.items():
        raw = array.astype(DTYPES[dtype]).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def checkpoint(folder: Path, dtype: str) -> tuple[Path, Array]:
    """A file with a kept vector of the dtype and a layer, of a float of the same; and the vector's values."""
    rng = np.random.default_rng(0)
    values = np.array([0, 1, 0, 1, 1] if dtype == "BOOL" else [0, 1, 2, 3, 96]).astype(DTYPES[dtype])
    tensors = {KEPT: (dtype, values), "position": ("F32", np.array(3.0))}
    if dtype in FLOATS:
        tensors[LAYER] = (dtype, rng.standard_normal((32, 64)))
    return write(folder / "model.safetensors", tensors), values.astype(np.float64)


def by_mlx(out: Path) -> Array:
    found: Any = mx.load(str(out / "model.safetensors"))
    assert LAYER not in found or found[LAYER].dtype == mx.uint32
    return np.array(found[KEPT].astype(mx.float32))


def by_gguf(out: Path) -> Array:
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(out / "model.gguf").tensors}
    data = tensors[KEPT].data
    assert data.dtype not in (np.float64, np.uint8), "no loader of images' models reads it"
    return np.asarray(data)


def by_torch(out: Path) -> Array:
    found = load_file(out / "model.safetensors")[KEPT]
    return np.asarray(found.to(torch.float64).numpy())


def by_pyarrow(out: Path) -> Array:
    for path in out.glob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            if row["layer_name"] == KEPT:
                raw = np.frombuffer(row["data"], np.uint8)
                return raw.view(DTYPES[row["dtype"]]).astype(np.float64)
    raise AssertionError("it is not there")


READERS: Mapping[str, Callable[[Path], Array]] = {
    "mlx": by_mlx,
    "compressed-tensors": by_torch,
    "safetensors": by_torch,
    "gguf": by_gguf,
    "parquet": by_pyarrow,
}


def export(source: Path, out: Path, target: Any, **settings: Any) -> wb.Report:
    config = wb.DiffusionQuantConfig(target=target, min_accuracy=0.0, **settings)
    return wb.DiffusionOrchestrator(config).run(source, out)


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "U64"])
@pytest.mark.parametrize("target", READERS)
def test_the_runtimes_loader_gives_the_values(tmp_path: Path, target: str, dtype: str) -> None:
    source, values = checkpoint(tmp_path, dtype)
    report = export(source, tmp_path / "out", target)
    assert report.actual_bytes <= report.predicted_bytes
    assert report.actual_bytes == report.predicted_bytes or target == "parquet"
    assert np.array_equal(READERS[target](tmp_path / "out"), values)
    outcome = wb.verify(tmp_path / "out", source)
    assert outcome.ok, outcome.problems
    loaded = wb.load(tmp_path / "out")
    assert loaded[KEPT].dtype == DTYPES[dtype]
    assert np.array_equal(loaded[KEPT].astype(np.float64), values)


def test_gguf_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    source, _ = checkpoint(tmp_path, "U64")
    with pytest.raises(wb.ValidationError, match="dtype U64, which GGUF cannot hold"):
        export(source, tmp_path / "out", "gguf")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_every_8_bit_float_is_exact_in_mlx(tmp_path: Path, dtype: str) -> None:
    codes = np.arange(256, dtype=np.uint8).view(DTYPES[dtype])
    source = write(tmp_path / "model.safetensors", {"table": (dtype, codes)})
    report = export(source, tmp_path / "out", "mlx")
    arrays: Any = mx.load(str(tmp_path / "out" / "model.safetensors"))
    found = arrays["table"]
    assert np.array_equal(np.array(found.astype(mx.float32)), codes.astype(np.float32), equal_nan=True)
    assert any(dtype in note and "BF16" in note for note in report.notes)


@pytest.mark.parametrize("target", ["mlx", "gguf"])
def test_what_is_rounded_is_named(tmp_path: Path, target: str) -> None:
    source = write(
        tmp_path / "model.safetensors", {"sigmas": ("F64", np.array([0.1, 1e-3, math.nan, math.inf]))}
    )
    report = export(source, tmp_path / "out", target)
    assert any("rounded to F32" in note and "sigmas" in note for note in report.notes)
    if target == "mlx":
        arrays: Any = mx.load(str(tmp_path / "out" / "model.safetensors"))
        found = np.array(arrays["sigmas"])
    else:
        tensors = gguf.GGUFReader(tmp_path / "out" / "model.gguf").tensors
        found = next(tensor.data for tensor in tensors if tensor.name == "sigmas")
    assert np.array_equal(found, np.array([0.1, 1e-3, math.nan, math.inf], np.float32), equal_nan=True)
    assert wb.verify(tmp_path / "out", source).ok


@pytest.mark.parametrize("target", ["mlx", "gguf"])
def test_a_number_beyond_float32_is_refused(tmp_path: Path, target: str) -> None:
    source = write(tmp_path / "model.safetensors", {"sigmas": ("F64", np.array([0.1, 1e300]))})
    with pytest.raises(wb.ValidationError, match=r"'sigmas' has the F64 value 1e\+300"):
        export(source, tmp_path / "out", target)
    assert not (tmp_path / "out").exists()


def test_a_kept_layer_of_8_bit_floats_has_the_bytes_of_its_bfloat16(tmp_path: Path) -> None:
    source, _ = checkpoint(tmp_path, "F8_E4M3")
    report = export(
        source, tmp_path / "out", "mlx", sensitive_layer_names=[LAYER], skip_sensitive_layers=True
    )
    (layer,) = report.layers
    assert (layer.scheme, layer.bits, layer.nbytes) == ("keep", 16, 32 * 64 * 2)
    arrays: Any = mx.load(str(tmp_path / "out" / "model.safetensors"))
    found = arrays[LAYER]
    expected = np.random.default_rng(0).standard_normal((32, 64)).astype(ml_dtypes.float8_e4m3fn)
    assert found.dtype == mx.bfloat16
    assert np.array_equal(np.array(found.astype(mx.float32)), expected.astype(np.float32))


def test_an_export_that_its_runtime_cannot_load_is_not_verified(tmp_path: Path) -> None:
    """As exports were written before: 8-bit floats of the source, which MLX takes for bytes or refuses."""
    source, _ = checkpoint(tmp_path, "F8_E4M3")
    export(source, tmp_path / "out", "mlx")
    path = tmp_path / "out" / "model.safetensors"
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    for dtype, problem in (("U16", "bfloat16"), ("F8_E5M2", "cannot read the export")):
        header = json.loads(raw[8 : 8 + size])
        header[KEPT]["dtype"] = dtype
        header[KEPT]["shape"] = [5] if dtype == "U16" else [10]
        text = json.dumps(header, separators=(",", ":")).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
        outcome = wb.verify(tmp_path / "out", source)
        assert not outcome.ok, problem
