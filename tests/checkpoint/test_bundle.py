"""All-in-one files: the models in them are told apart, and only the denoiser has layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.errors import ValidationError
from workbench.session import open_session

UNET = {
    "input_blocks.3.0.op.weight": (64, 32, 3, 3),
    "input_blocks.6.0.op.weight": (64, 64, 3, 3),
    "output_blocks.2.2.conv.weight": (64, 64, 3, 3),
    "output_blocks.5.2.conv.weight": (64, 64, 3, 3),
    "middle_block.1.transformer_blocks.0.attn1.to_q.weight": (256, 256),
    "time_embed.0.bias": (64,),
}
PREFIX = "model.diffusion_model."


def half(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float16)


BESIDE = {
    "first_stage_model.decoder.conv_in.weight": (64, 4, 3, 3),
    "first_stage_model.decoder.mid.attn_1.q.weight": (64, 64, 1, 1),
    "conditioner.embedders.0.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight": half(128, 128),
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": np.arange(77)[None],
    "denoiser.sigmas": (1000,),
    "model_ema.num_updates": np.array(470000, np.int32),
}


@pytest.fixture
def all_in_one(write: Callable[..., Path]) -> Path:
    tensors = {PREFIX + name: half(*shape) for name, shape in UNET.items()}
    averages = {f"model_ema.diffusion_model{name.replace('.', '')}": shape for name, shape in UNET.items()}
    return write("all-in-one.safetensors", {**tensors, **BESIDE, **averages})


def test_the_parts_are_told_apart(all_in_one: Path) -> None:
    with open_checkpoint(all_in_one) as checkpoint:
        parts = {part.name: part for part in checkpoint.bundle}
        assert list(parts) == [
            "denoiser",
            "EMA copy of the denoiser",
            "autoencoder (VAE)",
            "text encoders",
            "constants and the rest",
        ]
        assert {layer.name for layer in checkpoint.layers} == {
            PREFIX + n for n in UNET if n.endswith("weight")
        }
        assert sum(part.nbytes for part in checkpoint.bundle) == checkpoint.nbytes
        assert sum(len(part.tensors) for part in checkpoint.bundle) == len(checkpoint.tensors)
        assert parts["text encoders"].nbytes == 2 * 128 * 128 + 8 * 77
        (first, second) = checkpoint.notes
        assert "autoencoder (VAE) (2 tensors" in first
        assert "text encoders (2 tensors, 0.033 MB)" in first
        assert "EMA copy" in second


def test_depths_are_those_of_the_denoiser_alone(all_in_one: Path, write: Callable[..., Path]) -> None:
    alone = write("unet.safetensors", {PREFIX + name: half(*shape) for name, shape in UNET.items()})
    with open_checkpoint(all_in_one) as checkpoint, open_checkpoint(alone) as unet:
        assert set(checkpoint.layers) == set(unet.layers)
        assert unet.bundle == ()


@pytest.mark.parametrize(
    ("tensors", "layers"),
    [
        ({"first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3)}, 1),
        ({"text_encoder.q.weight": (8, 8), "vision_model.blocks.0.q.weight": (8, 8)}, 2),
        ({"encoder.conv_in.weight": (8, 4, 3, 3), "decoder.conv_in.weight": (8, 4, 3, 3)}, 2),
        ({"diffusion_model.blocks.0.q.weight": (8, 8), "vae.decoder.conv.weight": (8, 4, 3, 3)}, 1),
        ({"transformer.transformer_blocks.0.attn.to_q.weight": (8, 8), "text_encoder.q.weight": (8, 8)}, 1),
        ({"blocks.0.attn.to_q.weight": (8, 8), "vae.decoder.conv.weight": (8, 4, 3, 3)}, 1),
        (
            {
                "model.model.transformer.layers.0.to_q.weight": (8, 8),
                "pretransform.model.conv.weight": (8, 8, 3),
            },
            1,
        ),
    ],
    ids=["VAE alone", "CLIP", "VAE", "prefixed", "diffusers", "bare", "Stable Audio"],
)
def test_what_is_a_denoiser_among_others(
    write: Callable[..., Path], tensors: dict[str, tuple[int, ...]], layers: int
) -> None:
    with open_checkpoint(write("m.safetensors", tensors)) as checkpoint:
        assert len(checkpoint.layers) == layers


CODES: dict[str, np.ndarray] = {
    "weight": np.ones((64, 64), np.int8),
    "weight_scale": np.ones((64, 1), np.float32),
}


def test_a_quantized_text_encoder_beside_a_plain_denoiser_is_kept(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = {f"text_encoders.t5xxl.block.0.q.{leaf}": array for leaf, array in CODES.items()}
    path = write("m.safetensors", {PREFIX + "double_blocks.0.img_attn.proj.weight": (64, 64), **encoder})
    export(path, tmp_path / "out", "mlx")
    found = wb.load(tmp_path / "out")
    assert all(found[name].tobytes() == array.tobytes() for name, array in encoder.items())


def test_a_quantized_denoiser_beside_plain_encoders_is_refused(write: Callable[..., Path]) -> None:
    denoiser = {f"{PREFIX}double_blocks.0.img_attn.proj.{leaf}": array for leaf, array in CODES.items()}
    path = write("m.safetensors", {**denoiser, "text_encoders.t5xxl.block.0.q.weight": (8, 8)})
    with pytest.raises(ValidationError, match=r"already quantized.*double_blocks\.0\.img_attn\.proj"):
        open_checkpoint(path)


def test_a_class_that_is_named_describes_all_tensors(
    write: Callable[..., Path], write_json: Callable[..., Path], tmp_path: Path
) -> None:
    write("m/model.safetensors", {"text_encoder.q.weight": (8, 8), "decoder.layers.0.q.weight": (8, 8)})
    write_json("m/config.json", {"architectures": ["MusicgenForConditionalGeneration"]})
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert len(checkpoint.layers) == 2
        assert checkpoint.bundle == ()


def export(path: Path, output: Path, target: Any) -> wb.Report:
    return wb.DiffusionOrchestrator(
        wb.DiffusionQuantConfig(target=target, bit_width=4, min_accuracy=0.0)
    ).run(path, output)


def test_gguf_holds_the_denoiser_alone_and_says_what_was_left_out(all_in_one: Path, tmp_path: Path) -> None:
    report = export(all_in_one, tmp_path / "out", "gguf")
    reader = gguf.GGUFReader(tmp_path / "out/model.gguf")
    assert {tensor.name for tensor in reader.tensors} == set(UNET)
    assert report.predicted_bytes == report.actual_bytes
    with open_checkpoint(all_in_one) as checkpoint:
        denoiser = checkpoint.bundle[0].nbytes
    assert report.source_bytes == denoiser, "the ratio is not against what is not there"
    (note,) = [note for note in report.notes if note.startswith("Left out of the file")]
    assert "autoencoder (VAE) (2 tensors, 0.026 MB)" in note
    assert any("Known to load sdxl files: ComfyUI-GGUF" in note for note in report.notes)
    verification = wb.verify(tmp_path / "out", all_in_one)
    assert verification.ok, verification.problems
    assert verification.tensors == len(UNET)


@pytest.mark.parametrize("target", ["parquet", "mlx", "compressed-tensors", "safetensors"])
def test_other_targets_keep_the_rest_to_the_byte(all_in_one: Path, tmp_path: Path, target: str) -> None:
    report = export(all_in_one, tmp_path / "out", target)
    source, found = load_file(all_in_one), wb.load(tmp_path / "out")
    assert set(found) == set(source)
    for name in source:
        if not name.startswith(PREFIX):
            assert found[name].tobytes() == source[name].tobytes(), name
            assert found[name].dtype == source[name].dtype
    assert any("This file holds several models" in note for note in report.notes)
    assert any("Only the denoiser has layers" in note for note in report.notes)


def test_a_session_goes_over_to_gguf_and_back(all_in_one: Path, tmp_path: Path) -> None:
    with open_session(all_in_one, "mlx", cache=tmp_path / "cache") as session:
        whole = session.checkpoint.nbytes
        session.retarget("gguf")
        assert any("Left out of the file" in note for note in session.notes)
        assert session.predict().nbytes == sum(session.predict().files.values())
        assert session.checkpoint.nbytes < whole / 2, "ratio and time are those of the denoiser"
        session.retarget("mlx")
        assert session.checkpoint.nbytes == whole
        assert any("holds several models" in note for note in session.notes)


def test_a_plan_for_gguf_is_executed_as_it_is(all_in_one: Path, tmp_path: Path) -> None:
    with open_session(all_in_one, "gguf", cache=tmp_path / "cache") as session:
        session.plan.save(tmp_path / "plan.yaml")
        ahead = session.predict()
    plan = wb.Plan.load(tmp_path / "plan.yaml")
    report = wb.DiffusionOrchestrator().run(all_in_one, tmp_path / "out", plan=plan)
    assert report.actual_bytes == ahead.nbytes
    assert wb.verify(tmp_path / "out", all_in_one).ok
