"""MLX exports against MLX's own decoder, and their sizes against the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.formats import target_named
from workbench.formats.mlx.codec import BITS, GROUP_SIZES

Make = Callable[..., Path]
Tensors = dict[str, np.ndarray[Any, Any]]


def export(source: Path, output: Path, plan: wb.Plan | None = None, **settings: Any) -> Path:
    settings = {"target": "mlx", "min_accuracy": 0.0, **settings}
    wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(**settings)).run(source, output, plan=plan)
    return output


def decode_by_mlx(folder: Path) -> Tensors:
    """Every quantized layer by `mx.dequantize`, with scales and biases as float32; the rest as it is."""
    config = json.loads((folder / "config.json").read_text())["quantization"]
    files = sorted(folder.glob("*.safetensors"))
    tensors: Tensors = {name: array for file in files for name, array in load_file(file).items()}
    decoded: Tensors = {}
    for name, array in tensors.items():
        module = name.removesuffix(".weight")
        if f"{module}.scales" in tensors and name.endswith(".weight"):
            own = config.get(module, config)
            scales, biases = (
                mx.array(tensors[f"{module}.{part}"].astype(np.float32)) for part in ("scales", "biases")
            )
            decoded[name] = np.array(
                mx.dequantize(
                    mx.array(array),
                    scales,
                    biases,
                    group_size=own["group_size"],
                    bits=own["bits"],
                    mode=config["mode"],
                )
            )
        elif not name.endswith((".scales", ".biases")):
            assert config.get(module, False) is False
            decoded[name] = array
    return decoded


def layers(seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors: Tensors = {"conv_in.weight": rng.standard_normal((8, 4, 3, 3)).astype(np.float32)}
    for i, (dtype, cols) in enumerate(
        [
            (ml_dtypes.bfloat16, 256),
            (np.float16, 96),
            (np.float32, 64),
            (ml_dtypes.bfloat16, 4224),
            (np.float32, 50),
        ]
    ):
        tensors[f"transformer_blocks.{i}.ff.net.2.weight"] = rng.standard_normal((33, cols)).astype(dtype)
        tensors[f"transformer_blocks.{i}.ff.net.2.bias"] = rng.standard_normal(33).astype(dtype)
    return tensors


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("group_size", [16, 64, 256])
def test_mlx_decodes_to_our_arrays(make_checkpoint: Make, tmp_path: Path, bits: int, group_size: int) -> None:
    out = export(make_checkpoint(layers()), tmp_path / "out", bit_width=bits, group_size=group_size)
    referee, ours = decode_by_mlx(out), wb.load(out)
    assert set(referee) == set(ours)
    for name, array in ours.items():
        assert referee[name].dtype == array.dtype
        assert np.array_equal(referee[name], array), name
    widths = {name.split(".")[1]: option.bits for name, option in ours.plan.choices.items() if "net" in name}
    assert widths["0"] == (8 if bits == 7 else bits)
    assert widths["4"] == 32  # 50 columns divide into no group
    assert ours.plan.choices["conv_in.weight"].is_kept


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_plan_has_exactly_the_predicted_size(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("exact")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    tensors: Tensors = {}
    for i in range(data.draw(st.integers(1, 5))):
        rows, cols = data.draw(st.integers(1, 40)), 32 * data.draw(st.integers(1, 9))
        dtype = data.draw(st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16, np.float64]))
        size = 10.0 ** data.draw(st.integers(-6, 4))
        tensors[f"blocks.{i}.fc1.weight"] = (rng.standard_normal((rows, cols)) * size).astype(dtype)
    save_file(tensors, folder / "model.safetensors")
    target = target_named("mlx")
    with open_checkpoint(folder / "model.safetensors") as checkpoint:
        choices = {
            layer.name: data.draw(st.sampled_from(list(target.options(layer)))) for layer in checkpoint.layers
        }
        plan = wb.Plan("mlx", choices, checkpoint.fingerprint)
        predicted = target.layout(checkpoint, plan).nbytes
    out = export(folder / "model.safetensors", folder / "out", plan)
    assert (out / "model.safetensors").stat().st_size == predicted
    assert wb.load(out).report["predicted_bytes"] == wb.load(out).report["actual_bytes"] == predicted
    stored = load_file(out / "model.safetensors")
    for name, option in choices.items():
        module = name.removesuffix(".weight")
        parts = [array for key, array in stored.items() if key.startswith(module + ".")]
        assert sum(array.nbytes for array in parts) == option.nbytes
    for name, array in decode_by_mlx(out).items():
        assert np.array_equal(array, wb.load(out)[name])
    assert wb.verify(out, folder / "model.safetensors").ok


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_hostile_values_stay_finite_and_agree(make_checkpoint: Make, tmp_path: Path, dtype: Any) -> None:
    largest, smallest = ml_dtypes.finfo(dtype).max, ml_dtypes.finfo(dtype).smallest_subnormal
    rows = [
        [0.0, -0.0] * 32, [largest, -largest] * 32, [smallest, -smallest] * 32, [0.0, smallest] * 32,
        [largest] * 64, [-3.0] * 64, [1.0] * 63 + [1000.0], [smallest] * 63 + [largest],
    ]  # fmt: skip
    weights = np.array(rows, dtype)
    out = export(make_checkpoint({"blocks.0.fc1.weight": weights}), tmp_path / "out", group_size=64)
    decoded = wb.load(out)["blocks.0.fc1.weight"]
    assert np.isfinite(decoded).all()
    assert np.array_equal(decode_by_mlx(out)["blocks.0.fc1.weight"], decoded)
    for constant in (0, 4, 5):
        assert np.array_equal(decoded[constant], weights[constant].astype(np.float32))


def test_the_codes_suit_the_rounded_scale(make_checkpoint: Make, tmp_path: Path) -> None:
    """No other code of the same group would decode nearer to its weight."""
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((16, 64)).astype(ml_dtypes.bfloat16)
    out = export(
        make_checkpoint({"blocks.0.fc1.weight": weights}), tmp_path / "out", bit_width=3, group_size=32
    )
    stored = load_file(out / "model.safetensors")
    scales, biases = (
        np.repeat(stored[f"blocks.0.fc1.{p}"].astype(np.float32), 32, 1) for p in ("scales", "biases")
    )
    w = weights.astype(np.float32)
    nearest = np.min([np.abs(q * scales + biases - w) for q in range(8)], axis=0)
    assert np.abs(wb.load(out)["blocks.0.fc1.weight"] - w) == pytest.approx(nearest, abs=1e-7)


def test_config_names_what_differs(make_checkpoint: Make, tmp_path: Path) -> None:
    out = export(
        make_checkpoint(layers()), tmp_path / "out", bit_width=4, group_size=64,
        layer_bit_widths={"transformer_blocks.2.*": 6},
    )  # fmt: skip
    config = json.loads((out / "config.json").read_text())
    assert config["_class_name"] == "DiTTransformer2DModel"
    assert config["quantization"] == config["quantization_config"]
    assert config["quantization"] == {
        "group_size": 64, "bits": 4, "mode": "affine",
        "transformer_blocks.1.ff.net.2": {"group_size": 32, "bits": 4},
        "transformer_blocks.2.ff.net.2": {"group_size": 64, "bits": 6},
        "transformer_blocks.4.ff.net.2": False,
    }  # fmt: skip


def test_large_models_are_sharded_with_an_index(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint(layers())
    out = export(source, tmp_path / "out", shard_size_mb=0.01)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in out.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert sorted(set(index["weight_map"].values())) == shards
    for name, array in decode_by_mlx(out).items():
        assert np.array_equal(array, wb.load(out)[name])
    assert wb.verify(out, source).ok


def test_every_width_and_group_is_offered_where_rows_divide(make_checkpoint: Make) -> None:
    target = target_named("mlx")
    with open_checkpoint(make_checkpoint(layers())) as checkpoint:
        by_cols = {layer.cols: target.options(layer) for layer in checkpoint.layers if layer.kind == "linear"}
    offered = {
        cols: {(o.bits, o.group_size) for o in options if not o.is_kept} for cols, options in by_cols.items()
    }
    assert offered[256] == {(b, g) for b in BITS for g in GROUP_SIZES}
    assert offered[96] == {(b, 32) for b in BITS}
    assert offered[50] == set()


def test_a_damaged_file_is_refused(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint(layers())
    out = export(source, tmp_path / "out")
    path = out / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5_000] ^= 0xFF  # in the weights
    path.write_bytes(data)
    outcome = wb.verify(out, source)
    assert not outcome.ok
    path.write_bytes(data[:-1])
    with pytest.raises(wb.ArrowQuantError):
        wb.load(out)


def test_units_are_read_back_while_others_are_written(
    tmp_path: Path, make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.formats.placed.UNIT_BYTES", 4_096)
    monkeypatch.setattr("workbench.checkpoint.blocks.BLOCK_WEIGHTS", 2_048)
    rng = np.random.default_rng(0)
    source = make_checkpoint(
        {f"blocks.{i}.proj.weight": rng.standard_normal((64, 256)).astype(np.float32) for i in range(40)}
    )
    export(source, tmp_path / "out", num_threads=4)
    assert wb.verify(tmp_path / "out", source).ok
