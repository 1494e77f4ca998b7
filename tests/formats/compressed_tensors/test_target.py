"""compressed-tensors exports against the package's own decompression, and their sizes against the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.formats import TargetSettings, target_named
from workbench.formats.compressed_tensors.codec import ALL_BITS, GROUP_SIZES, WIDE_NOTE

Make = Callable[..., Path]
Tensors = dict[str, np.ndarray[Any, Any]]
TARGET = "compressed-tensors"
DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]
SHAPES = [(1, 64), (33, 128), (40, 96), (31, 50), (7, 1), (1, 1), (64, 4097), (65, 4224)]
"""One row, one column, rows that fill no word, rows that divide into no group, rows longer than a kernel's block."""


def export(source: Path, output: Path, plan: wb.Plan | None = None, **settings: Any) -> Path:
    settings = {"target": TARGET, "min_accuracy": 0.0, **settings}
    wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(**settings)).run(source, output, plan=plan)
    return output


def decompress(folder: Path) -> dict[str, torch.Tensor]:
    """Every module that config.json names, decompressed by the package; the other tensors as they are."""
    config = QuantizationConfig(**json.loads((folder / "config.json").read_text())["quantization_config"])
    packer = BaseCompressor.get_value_from_registry(config.format)
    tensors = {
        name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_torch(file).items()
    }
    decoded: dict[str, torch.Tensor] = {}
    for scheme in config.config_groups.values():
        for module in scheme.targets:
            own = {
                key: tensors.pop(f"{module}.{key}")
                for key in ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")
                if f"{module}.{key}" in tensors
            }
            decoded[f"{module}.weight"] = packer.decompress(own, scheme)["weight"]
    return decoded | tensors


def rounded(array: np.ndarray[Any, Any], like: torch.Tensor) -> torch.Tensor:
    """Ours in the dtype in which the package computes, that of the scale."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.dtype)


def check_against_the_package(folder: Path) -> None:
    theirs, ours = decompress(folder), wb.load(folder)
    assert set(theirs) == set(ours)
    for name, option in ours.plan.choices.items():
        if not option.is_kept:
            assert torch.isfinite(theirs[name]).all(), name
            assert torch.equal(rounded(ours[name], theirs[name]), theirs[name]), name


def layers(seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors: Tensors = {
        "conv_in.weight": rng.standard_normal((8, 4, 3, 3)).astype(np.float32),
        "model.embed_tokens.weight": rng.standard_normal((16, 64)).astype(np.float16),
    }
    for i, shape in enumerate(SHAPES):
        for dtype in DTYPES:
            name = f"blocks.{i}.{np.dtype(dtype).name}.fc1"
            tensors[f"{name}.weight"] = rng.standard_normal(shape).astype(dtype)
            tensors[f"{name}.bias"] = rng.standard_normal(shape[0]).astype(dtype)
    return tensors


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("bits", ALL_BITS)
def test_the_package_decompresses_to_our_arrays(
    make_checkpoint: Make, tmp_path: Path, bits: int, scheme: str
) -> None:
    source = make_checkpoint(layers())
    out = export(source, tmp_path / "out", bit_width=bits, scheme=scheme, group_size=64, all_widths=True)
    check_against_the_package(out)
    choices = wb.load(out).plan.choices
    found = {tuple(open_shape): option for open_shape, option in shapes_of(source, choices)}
    assert {option.bits for option in found.values() if not option.is_kept} == {bits}
    assert found[33, 128].group_size == 64
    assert found[1, 64].group_size == 64, "the whole row is the group wished for"
    assert found[40, 96].group_size == 32, "the next smaller that divides"
    assert found[31, 50].group_size == 50, "a whole row where none divides"
    assert found[64, 4097].group_size == 4097
    assert choices["conv_in.weight"].is_kept
    assert choices["model.embed_tokens.weight"].is_kept
    assert wb.verify(out, source).ok


def shapes_of(source: Path, choices: Any) -> list[tuple[tuple[int, ...], wb.Option]]:
    with open_checkpoint(source) as checkpoint:
        return [(layer.shape, choices[layer.name]) for layer in checkpoint.layers]


def test_every_option_of_every_layer_is_exact_in_bytes(make_checkpoint: Make) -> None:
    """Bytes of an option are those of the tensors that would store it, and the groups are the legal ones."""
    target = target_named(TARGET, TargetSettings(all_widths=True, scheme="asymmetric"))
    with open_checkpoint(make_checkpoint(layers())) as checkpoint:
        for layer in checkpoint.layers:
            kept, *packed = sorted(target.options(layer), key=lambda option: not option.is_kept)
            assert kept.is_kept
            assert all(target.stores(layer, option) for option in [kept, *packed])
            if layer.kind != "linear":
                assert not packed
                continue
            groups = {g for g in GROUP_SIZES if layer.cols % g == 0} | {layer.cols}
            assert {(o.bits, o.scheme, o.group_size) for o in packed} == {
                (b, s, g)
                for b in ALL_BITS
                for s in ("symmetric", "asymmetric")
                for g in groups
                if (b, s) != (4, "asymmetric") or layer.rows > 8  # the package cannot unpack those
            }


@pytest.mark.parametrize("asked", [None, "symmetric"])
def test_zero_points_are_offered_only_where_asked_for(make_checkpoint: Make, asked: str | None) -> None:
    """transformers loads none; but a plan that has some was made by somebody who asked, and is executed."""
    target = target_named(TARGET, TargetSettings(all_widths=True, scheme=asked))
    everything = target_named(TARGET, TargetSettings(all_widths=True, scheme="asymmetric"))
    with open_checkpoint(make_checkpoint(layers())) as checkpoint:
        for layer in checkpoint.layers:
            offered, there = target.options(layer), everything.options(layer)
            assert {o.scheme for o in offered} <= {"symmetric", "keep"}
            assert set(offered) == {o for o in there if o.scheme != "asymmetric"}
            assert all(target.stores(layer, option) for option in there)
            assert target.quantized(layer, 4, "asymmetric", 64) in offered


def test_other_widths_need_the_flag_and_are_said_in_the_config(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint({"blocks.0.fc1.weight": np.ones((4, 64), np.float32) * np.arange(64)})
    plain = export(source, tmp_path / "plain", bit_width=3)
    assert wb.load(plain).plan.choices["blocks.0.fc1.weight"].bits == 4
    written = json.loads((plain / "config.json").read_text())["quantization_config"]
    assert "note" not in written
    wide = export(source, tmp_path / "wide", bit_width=3, all_widths=True)
    plan = wb.load(wide).plan
    assert plan.choices["blocks.0.fc1.weight"].bits == 3
    assert json.loads((wide / "config.json").read_text())["quantization_config"]["note"] == WIDE_NOTE
    # A plan that has such a width was made with the flag, and is executed without it.
    again = export(source, tmp_path / "again", plan)
    assert (again / "model.safetensors").read_bytes() == (wide / "model.safetensors").read_bytes()


def test_config_has_a_group_for_each_kind(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint(layers())
    target = target_named(TARGET, TargetSettings(scheme="asymmetric"))
    with open_checkpoint(source) as checkpoint:
        choices = {layer.name: target.quantized(layer, 4, "symmetric", 64) for layer in checkpoint.layers}
        kept = next(layer for layer in checkpoint.layers if layer.shape == (33, 128))
        choices[kept.name] = next(option for option in target.options(kept) if option.is_kept)
        other = next(layer for layer in checkpoint.layers if layer.shape == (65, 4224))
        choices[other.name] = target.quantized(other, 8, "asymmetric", 128)
        plan = wb.Plan(TARGET, choices, checkpoint.fingerprint)
    out = export(source, tmp_path / "out", plan)
    document = json.loads((out / "config.json").read_text())
    assert document["_class_name"] == "DiTTransformer2DModel"
    written = document["quantization_config"]
    assert written["quant_method"] == "compressed-tensors"
    assert (written["format"], written["quantization_status"]) == ("pack-quantized", "compressed")
    kinds = {
        (group["weights"]["num_bits"], group["weights"]["symmetric"], group["weights"]["group_size"]): group
        for group in written["config_groups"].values()
    }
    assert set(kinds) == {(4, True, 64), (4, True, 32), (4, True, None), (8, False, 128)}
    assert kinds[8, False, 128]["targets"] == [other.name.removesuffix(".weight")]
    assert kinds[4, True, None]["weights"]["strategy"] == "channel"
    assert kept.name.removesuffix(".weight") in written["ignore"]
    targets = [target for group in kinds.values() for target in group["targets"]]
    assert len(targets) == len(set(targets)) == sum(not option.is_kept for option in choices.values())
    check_against_the_package(out)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_plan_has_exactly_the_predicted_size(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("exact")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    tensors: Tensors = {}
    for i in range(data.draw(st.integers(1, 5))):
        shape = (
            data.draw(st.integers(1, 70)),
            data.draw(st.integers(1, 9)) * data.draw(st.sampled_from([1, 32])),
        )
        dtype = data.draw(st.sampled_from([*DTYPES, np.float64]))
        size = 10.0 ** data.draw(st.integers(-6, 4))
        tensors[f"blocks.{i}.fc1.weight"] = (rng.standard_normal(shape) * size).astype(dtype)
        tensors[f"blocks.{i}.fc1.bias"] = rng.standard_normal(shape[0]).astype(dtype)
    save_file(tensors, folder / "model.safetensors")
    shards = data.draw(st.sampled_from([5_000.0, 0.002]))
    target = target_named(TARGET, TargetSettings(int(shards * 1e6), all_widths=True, scheme="asymmetric"))
    with open_checkpoint(folder / "model.safetensors") as checkpoint:
        choices = {
            layer.name: data.draw(st.sampled_from(list(target.options(layer)))) for layer in checkpoint.layers
        }
        plan = wb.Plan(TARGET, choices, checkpoint.fingerprint)
        layout = target.layout(checkpoint, plan)
    out = export(folder / "model.safetensors", folder / "out", plan, shard_size_mb=shards)
    names = [*out.glob("*.safetensors"), *out.glob("*.index.json")]
    assert {path.name: path.stat().st_size for path in names} == layout.files
    loaded = wb.load(out)
    assert sum(layout.files.values()) == layout.nbytes
    assert loaded.report["predicted_bytes"] == loaded.report["actual_bytes"] == layout.nbytes
    stored = {name: array for path in out.glob("*.safetensors") for name, array in load_file(path).items()}
    for name, option in choices.items():
        module = name.removesuffix(".weight")
        parts = [array for key, array in stored.items() if key.startswith(f"{module}.weight")]
        assert sum(array.nbytes for array in parts) == option.nbytes
    check_against_the_package(out)
    assert wb.verify(out, folder / "model.safetensors").ok


def groups(dtype: Any) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Rows of 32 weights: huge, tiny, subnormal, constant, one-sided, with outliers."""
    finfo = ml_dtypes.finfo(dtype)
    largest, smallest = float(finfo.max), float(finfo.smallest_subnormal)
    values = st.one_of(
        st.sampled_from([0.0, -0.0, largest, -largest, smallest, -smallest, 3 * smallest, float(finfo.tiny)]),
        st.floats(-largest, largest, allow_nan=False),
        st.floats(-1, 1),
    )
    rows = st.one_of(
        st.lists(values, min_size=32, max_size=32),
        values.map(lambda value: [value] * 32),
        st.tuples(st.floats(-1, 1), values).map(lambda pair: [pair[0]] * 31 + [pair[1]]),
        st.floats(0.5, 1).map(lambda value: [value + k / 64 for k in range(32)]),
        st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).standard_normal(32).tolist()),
    )
    return st.lists(rows, min_size=1, max_size=6).map(
        lambda found: np.clip(np.array(found), -largest, largest).astype(dtype)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_values_stay_finite_and_agree(
    tmp_path_factory: pytest.TempPathFactory, dtype: Any, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    weights = data.draw(groups(dtype))
    bits, scheme = (
        data.draw(st.sampled_from(ALL_BITS)),
        data.draw(st.sampled_from(["symmetric", "asymmetric"])),
    )
    # Two columns of groups; the layer's second half is plain.
    save_file({"blocks.0.fc1.weight": np.hstack([weights, weights[::-1]])}, folder / "model.safetensors")
    source = folder / "model.safetensors"
    out = export(source, folder / "out", bit_width=bits, scheme=scheme, group_size=32, all_widths=True)
    if wb.load(out).plan.choices["blocks.0.fc1.weight"].is_kept:
        return  # a few rows of wide codes take more bytes than the source
    check_against_the_package(out)
    decoded = wb.load(out)["blocks.0.fc1.weight"][:, :32]
    exact = weights.astype(np.float64)
    low, high = np.minimum(exact.min(axis=1), 0), np.maximum(exact.max(axis=1), 0)
    is_symmetric = wb.load(out).plan.choices["blocks.0.fc1.weight"].scheme == "symmetric"
    span = 2 * np.maximum(-low, high) if is_symmetric else high - low
    # A step, and what rounding the scale moves the farthest code by; at the top of the dtype the range is cut.
    step = span / (2**bits - 1)
    slack = (
        float(ml_dtypes.finfo(dtype).eps) * span + float(ml_dtypes.finfo(dtype).smallest_subnormal) * 2**bits
    )
    cut = np.where(np.maximum(-low, high) > float(ml_dtypes.finfo(dtype).max) / 4, 2 * step, 0)
    assert (np.abs(decoded - exact) <= (1.01 * step + slack + cut)[:, None]).all()
    assert wb.load(out).report["layers"][0]["nsr"] is not None
    assert wb.verify(out, source).ok


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("bits", ALL_BITS)
def test_constant_groups_are_exact(
    make_checkpoint: Make, tmp_path: Path, dtype: Any, scheme: str, bits: int
) -> None:
    finfo = ml_dtypes.finfo(dtype)
    values = np.array([0, -0.0, 1.7, -1.7, float(finfo.smallest_subnormal), 1e-3, -30_000, 60_000], dtype)
    weights = np.repeat(values, 256).reshape(8, 256)
    out = export(
        make_checkpoint({"blocks.0.fc1.weight": weights}), tmp_path / "out", bit_width=bits, scheme=scheme,
        group_size=128, all_widths=True,
    )  # fmt: skip
    assert not wb.load(out).plan.choices["blocks.0.fc1.weight"].is_kept or bits == 8
    assert np.array_equal(wb.load(out)["blocks.0.fc1.weight"].astype(dtype), weights)


def test_the_codes_suit_the_rounded_scale(make_checkpoint: Make, tmp_path: Path) -> None:
    """No other code of the same group would decode nearer to its weight."""
    weights = np.random.default_rng(3).standard_normal((16, 64)).astype(ml_dtypes.bfloat16)
    out = export(
        make_checkpoint({"blocks.0.fc1.weight": weights}), tmp_path / "out", bit_width=2, group_size=32,
        scheme="asymmetric",
    )  # fmt: skip
    stored = load_file(out / "model.safetensors")
    scales = np.repeat(stored["blocks.0.fc1.weight_scale"].astype(np.float32), 32, 1)
    words = stored["blocks.0.fc1.weight_zero_point"].view(np.uint32)
    zeros = np.repeat([[(words[0, g] >> (2 * row)) & 3 for g in range(2)] for row in range(16)], 32, 1)
    w = weights.astype(np.float32)
    nearest = np.min([np.abs((q - zeros.astype(np.float32)) * scales - w) for q in range(4)], axis=0)
    assert np.abs(wb.load(out)["blocks.0.fc1.weight"] - w) == pytest.approx(nearest, abs=1e-7)


def test_blocks_of_rows_share_no_word(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer written in many blocks, by many threads, is the one written in one."""
    source = make_checkpoint({"blocks.0.fc1.weight": np.random.default_rng(0).standard_normal((515, 64))})
    whole = export(source, tmp_path / "whole", bit_width=3, group_size=32, all_widths=True)
    monkeypatch.setattr("workbench.checkpoint.blocks.BLOCK_WEIGHTS", 2_500)
    monkeypatch.setattr("workbench.formats.placed.UNIT_BYTES", 20_000)
    pieces = export(source, tmp_path / "pieces", bit_width=3, group_size=32, all_widths=True)
    assert (whole / "model.safetensors").read_bytes() == (pieces / "model.safetensors").read_bytes()
    assert wb.verify(pieces, source).ok
    check_against_the_package(pieces)


def test_a_damaged_file_is_refused(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint({"blocks.0.fc1.weight": np.random.default_rng(0).standard_normal((64, 64))})
    out = export(source, tmp_path / "out", group_size=64, scheme="asymmetric")
    path = out / "model.safetensors"
    sound = path.read_bytes()
    data = bytearray(sound)
    data[-16 - 32 - 1] ^= 0x40  # the last scale, before the zero points and the shape
    path.write_bytes(data)
    assert not wb.verify(out, source).ok
    data = bytearray(sound)
    data[-16] ^= 0x01  # in the shape, which is last
    path.write_bytes(data)
    with pytest.raises(wb.MetadataError, match="weight_shape"):
        wb.load(out)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('\\"group_size\\":64', '\\"group_size\\":0'), ('\\"group_size\\":64', '\\"group_size\\":-8'),
        ('[\\"F32\\",[64,64]]', '[\\"F32\\",[4096]]'), ('[\\"F32\\",[64,64]]', '[\\"F32\\",[64,128]]'),
        ('\\"bits\\":4', '\\"bits\\":9'), ('\\"bits\\":4', '\\"bits\\":-4'),
    ],
)  # fmt: skip
def test_impossible_metadata_are_refused(make_checkpoint: Make, tmp_path: Path, old: str, new: str) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    out = export(make_checkpoint({"blocks.0.fc1.weight": weights}), tmp_path / "out", group_size=64)
    path = out / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].decode()
    assert old in header
    header = header.replace(old, new).rstrip()
    header += " " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + data[8 + length :])
    with pytest.raises(wb.ArrowQuantError):
        wb.load(out)
