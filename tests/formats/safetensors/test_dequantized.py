"""Dequantized exports: the source's files with exactly the weights that another format's export decodes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.formats import TargetSettings, plan_for, target_named

Make = Callable[..., Path]
Tensors = dict[str, np.ndarray[Any, Any]]
REAL = ("parquet", "mlx", "compressed-tensors")


def run(source: Any, output: Path, plan: wb.Plan | None = None, **settings: Any) -> wb.Report:
    config = wb.DiffusionQuantConfig(**{"min_accuracy": 0.0, **settings})
    return wb.DiffusionOrchestrator(config).run(source, output, plan=plan)


def plan_of(source: Path, target: str, draw: Callable[[list[wb.Option]], wb.Option]) -> wb.Plan:
    made = target_named(target, TargetSettings(all_widths=True, scheme="asymmetric"))
    with open_checkpoint(source) as checkpoint:
        choices = {layer.name: draw(list(made.options(layer))) for layer in checkpoint.layers if layer.params}
        return wb.Plan(target, choices, checkpoint.fingerprint)


@pytest.mark.parametrize("target", REAL)
def test_the_plan_of_another_target_is_written_decoded(
    make_checkpoint: Make, tmp_path: Path, target: str, small_parts: None
) -> None:
    source = make_checkpoint()
    rng = np.random.default_rng(0)
    plan = plan_of(source, target, lambda options: options[rng.integers(len(options))])
    run(source, tmp_path / "real", plan)
    report = run(source, tmp_path / "plain", plan, target="safetensors")
    decoded, stored = wb.load(tmp_path / "real"), load_file(tmp_path / "plain" / "model.safetensors")
    original = load_file(source / "model.safetensors")
    assert list(stored) == list(original)
    for name, array in original.items():
        assert (stored[name].dtype, stored[name].shape) == (array.dtype, array.shape)
        assert stored[name].tobytes() == decoded[name].astype(array.dtype).tobytes(), name
    plain = wb.load(tmp_path / "plain")
    assert all(plain[name].astype(array.dtype).tobytes() == array.tobytes() for name, array in stored.items())
    written = plain.plan
    assert written.made_by["decoded_from"] == target
    for name, option in written.choices.items():
        assert option.nbytes == original[name].nbytes, "nothing gets smaller"
        assert option.scheme == ("keep" if option.is_kept else f"{target}/{plan.choices[name].scheme}")
    assert report.compression_ratio < 1 < report.bpw
    assert wb.verify(tmp_path / "plain", source).ok


def test_rounding_is_reported(make_checkpoint: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors: Tensors = {
        "blocks.0.fc1.weight": rng.standard_normal((64, 128)).astype(ml_dtypes.bfloat16),
        "blocks.1.fc1.weight": rng.standard_normal((64, 128)).astype(np.float32),
    }
    report = run(make_checkpoint(tensors), tmp_path / "out", target="safetensors", bit_width=8)
    (note,) = [note for note in report.notes if "rounded" in note]
    assert "moves 1 layers" in note
    assert "blocks.0.fc1.weight" in note
    real = run(tmp_path / "model", tmp_path / "real", target="parquet", bit_width=8)
    exact = wb.load(tmp_path / "real")["blocks.0.fc1.weight"].astype(np.float64)
    lost = np.square(exact - exact.astype(ml_dtypes.bfloat16).astype(np.float64)).sum()
    nsr = lost / np.square(tensors["blocks.0.fc1.weight"].astype(np.float64)).sum()
    assert f"{nsr:.2g} at most" in note
    by_name = {layer.name: layer.nsr for layer in real.layers}
    for layer in report.layers:
        is_exact = layer.name == "blocks.1.fc1.weight"
        assert layer.nsr == pytest.approx(by_name[layer.name] + (0 if is_exact else nsr), rel=0.01)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_plan_has_exactly_the_predicted_size(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("exact")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    tensors: Tensors = {}
    for i in range(data.draw(st.integers(1, 4))):
        shape = data.draw(st.integers(1, 40)), data.draw(st.sampled_from([1, 7, 32, 50, 96, 4097]))
        dtype = data.draw(st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16, np.float64]))
        tensors[f"blocks.{i}.fc1.weight"] = rng.standard_normal(shape).astype(dtype)
        tensors[f"blocks.{i}.fc1.bias"] = rng.standard_normal(shape[0]).astype(dtype)
    source = folder / "weights.safetensors"
    save_file(tensors, source, {"made": "by hand"})
    target = data.draw(st.sampled_from([*REAL, "safetensors"]))
    plan = plan_of(source, target, lambda options: data.draw(st.sampled_from(options)))
    with open_checkpoint(source) as checkpoint:
        plain = plan_for("safetensors", plan, checkpoint.layers)
        layout = target_named("safetensors").layout(checkpoint, plain)
    report = run(source, folder / "out", plan, target="safetensors")
    assert (folder / "out" / "weights.safetensors").stat().st_size == layout.nbytes
    assert layout.files == {"weights.safetensors": report.actual_bytes}
    with safe_open(folder / "out" / "weights.safetensors", "numpy") as file:
        assert file.metadata()["made"] == "by hand"
    assert wb.verify(folder / "out", source).ok


def test_shards_are_those_of_the_source(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = tmp_path / "model"
    source.mkdir()
    names = [f"model-0000{k}-of-00003.safetensors" for k in (1, 2, 3)]
    weight_map: dict[str, str] = {}
    for k, name in enumerate(names):
        weights = {f"blocks.{k}.fc1.weight": rng.standard_normal((20, 64)).astype(np.float32)}
        save_file(weights, source / name, {"format": "pt"})
        weight_map |= dict.fromkeys(weights, name)
    index = {"metadata": {"total_size": 3 * 5120}, "weight_map": weight_map}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    report = run(source, tmp_path / "out", target="safetensors", bit_width=3)
    assert json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text()) == index
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors")) == names
    assert report.actual_bytes == report.predicted_bytes
    assert wb.verify(tmp_path / "out", source).ok


def test_a_component_stays_in_its_folder(tmp_path: Path) -> None:
    run("zoo:digits-dit", tmp_path / "out", target="safetensors")
    assert (tmp_path / "out" / "transformer" / "diffusion_pytorch_model.safetensors").exists()
    assert (tmp_path / "out" / "transformer" / "config.json").exists()
    assert (tmp_path / "out" / "model_index.json").exists()
    assert wb.verify(tmp_path / "out", "zoo:digits-dit").ok


def test_a_size_cannot_be_met_and_the_error_says_why(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    with wb.open(source, target="safetensors", cache=tmp_path) as session:
        with pytest.raises(wb.ConfigurationError, match="are the least"):
            session.solve("10kB")
        full = session.predict().nbytes
        session.solve(full + 1000)
        assert all(option.is_kept for option in session.plan.choices.values()), "keeping costs nothing here"


def test_no_weight_overflows(make_checkpoint: Make, tmp_path: Path) -> None:
    largest = float(np.finfo(np.float16).max)
    weights = np.linspace(-largest, largest, 512).reshape(4, 128).astype(np.float16)
    source = make_checkpoint({"blocks.0.fc1.weight": weights})
    for target in REAL:
        plan = plan_of(source, target, lambda options: options[0])
        run(source, tmp_path / target, plan, target="safetensors")
        stored = load_file(tmp_path / target / "model.safetensors")["blocks.0.fc1.weight"]
        assert np.isfinite(stored).all()


def test_damage_is_found(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    run(source, tmp_path / "out", target="safetensors")
    path = tmp_path / "out" / "model.safetensors"
    with open_checkpoint(source) as checkpoint, safe_open(path, "numpy") as file:
        header = path.stat().st_size - sum(tensor.nbytes for tensor in checkpoint.tensors.values())
        assert set(file.keys()) == set(checkpoint.tensors)
    data = bytearray(path.read_bytes())
    for name, entry in json.loads(data[8:header]).items():
        if name != "__metadata__" and name.endswith("attn1.to_q.weight"):
            data[header + entry["data_offsets"][0]] ^= 0x01  # the last bit of one weight
            path.write_bytes(data)
            outcome = wb.verify(tmp_path / "out", source)
            assert any(name in problem for problem in outcome.problems)
            return
    raise AssertionError("there is no such layer")
