"""Guards what is said of who loads an export: the target chosen for a family, and that the lines given load it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.formats import named
from workbench.formats.compressed_tensors.loading import DECODED, NOT_READ
from workbench.formats.loading import (
    best_target,
    loading_language,
    loading_lines,
    readers,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:You passed `quantization_config`"
)

LINEAR = (64, 256)


def write(
    folder: Path, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any] | None = None
) -> Path:
    """A checkpoint of random bfloat16 tensors; one file without config.json, else a folder."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    tensors = {
        name: (0.1 * rng.standard_normal(shape)).astype(ml_dtypes.bfloat16) for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    if config is None:
        return folder / "model.safetensors"
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def qwen2(folder: Path) -> Path:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=131, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder, max_shard_size="60KB")
    return folder


def diffusers_folder(folder: Path, model: Any, pipeline: str) -> Path:
    model.to(torch.bfloat16).save_pretrained(folder / "transformer")
    index = {"_class_name": pipeline, "transformer": ["diffusers", type(model).__name__]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


SDXL = dict.fromkeys(
    (
        "input_blocks.3.0.op.weight", "input_blocks.6.0.op.weight", "output_blocks.2.2.conv.weight",
        "output_blocks.5.2.conv.weight",
    ),
    (8, 8, 3, 3),
)  # fmt: skip


@pytest.mark.parametrize(
    ("shapes", "config", "target"),
    [
        ({"double_blocks.0.img_attn.proj.weight": LINEAR}, None, "gguf"),
        ({f"model.diffusion_model.{name}": shape for name, shape in SDXL.items()}, None, "gguf"),
        ({"mid_block.conv.weight": (8, 8, 3, 3)}, {"_class_name": "UNet2DConditionModel"}, "parquet"),
        ({"proj.weight": LINEAR}, None, "parquet"),
        (
            {"model.layers.0.mlp.up_proj.weight": LINEAR},
            {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
            "compressed-tensors",
        ),
        # llama.cpp wants numbers and a tokenizer that are not there, and transformers has no such class of its own.
        (
            {"model.layers.0.mlp.up_proj.weight": LINEAR},
            {"architectures": ["DreamModel"], "model_type": "Dream"},
            "parquet",
        ),
        (
            {"model.layers.0.mlp.up_proj.weight": LINEAR},
            {
                "architectures": ["DreamModel"],
                "model_type": "Dream",
                "auto_map": {"AutoModel": "modeling_dream.DreamModel"},
            },
            "compressed-tensors",
        ),
        ({**SDXL, "a" * 128 + ".weight": LINEAR}, None, "parquet"),
    ],
    ids=["flux", "sdxl", "unet", "unknown", "qwen2", "dream", "dream-with-code", "name-too-long"],
)
def test_the_target_is_one_that_the_familys_runtime_loads(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], config: dict[str, Any] | None, target: str
) -> None:
    with open_checkpoint(write(tmp_path / "model", shapes, config)) as checkpoint:
        assert best_target(checkpoint) == target


def test_the_models_of_the_zoo() -> None:
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        assert best_target(checkpoint) == "parquet"
        assert any("archive" in sentence for sentence in readers(checkpoint, "parquet"))
    with open_checkpoint("zoo:stdlib-mdlm") as checkpoint:
        assert best_target(checkpoint) == "gguf"
        assert loading_language(checkpoint, "gguf") == "sh"
        assert loading_lines(checkpoint, "gguf", "my out").startswith(
            "llama-diffusion-cli -m 'my out/model.gguf' "
        )


def run(lines: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(lines, names)
    return names


def export(source: Path, output: Path, target: str, **settings: Any) -> str:
    """Export, and give the lines that load it."""
    given = {"bit_width": 4, "group_size": 32, "min_accuracy": 0.0, "target": target, **settings}
    wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(**given)).run(source, output)
    with open_checkpoint(source) as opened:
        checkpoint, _ = named(opened, None, target)
        assert loading_language(checkpoint, target) == "python"
        return loading_lines(checkpoint, target, output)


def test_diffusers_loads_a_gguf_by_the_lines(tmp_path: Path, sd3_model: Callable[..., Any]) -> None:
    source = diffusers_folder(tmp_path / "source", sd3_model(), "StableDiffusion3Pipeline")
    with open_checkpoint(source) as checkpoint:
        assert best_target(checkpoint) == "gguf"
    lines = export(source, tmp_path / "out", "gguf")
    assert "# ComfyUI" in lines
    loaded = run(lines)["model"]
    assert type(loaded).__name__ == "SD3Transformer2DModel"
    assert any(type(module).__name__ == "GGUFLinear" for module in loaded.modules())


def test_five_axes_are_not_promised_to_diffusers(tmp_path: Path, wan_model: Callable[..., Any]) -> None:
    """It refuses the patch embedding of a video, which GGUF stores with two."""
    source = diffusers_folder(tmp_path / "source", wan_model(), "WanPipeline")
    with open_checkpoint(source) as opened:
        assert best_target(opened) == "gguf"
        checkpoint, _ = named(opened, None, "gguf")
        assert "Unet Loader (GGUF)" in loading_lines(checkpoint, "gguf", "out")
        told = readers(checkpoint, "gguf")
        assert not any("diffusers" in sentence for sentence in told if sentence.startswith("Known"))
        assert any(sentence.startswith("Not known") and "diffusers" in sentence for sentence in told)
        assert "from_single_file" not in loading_lines(opened, "gguf", "out")


def test_a_width_that_diffusers_does_not_convert_is_not_promised(
    tmp_path: Path, flux_model: Callable[..., Any]
) -> None:
    source = diffusers_folder(tmp_path / "source", flux_model(), "FluxPipeline")
    with open_checkpoint(source) as opened:
        checkpoint, _ = named(opened, None, "gguf")
        assert not any("diffusers" in sentence for sentence in readers(checkpoint, "gguf"))
        assert "Unet Loader (GGUF)" in loading_lines(checkpoint, "gguf", "out")
        # Its own names diffusers loads at any width.
        assert "FluxTransformer2DModel.from_single_file(" in loading_lines(opened, "gguf", "out")


@pytest.mark.parametrize(
    ("scheme", "widths"), [("asymmetric", {}), ("symmetric", {}), ("symmetric", {"*mlp*": 8})]
)
def test_transformers_loads_compressed_tensors_by_the_lines(
    tmp_path: Path, scheme: str, widths: dict[str, int]
) -> None:
    source = qwen2(tmp_path / "source")
    lines = export(source, tmp_path / "out", "compressed-tensors", scheme=scheme, layer_bit_widths=widths)
    loaded = run(lines)["model"].eval()
    decoded = wb.load(tmp_path / "out")
    reference = Qwen2ForCausalLM.from_pretrained(source).eval()
    reference.load_state_dict({name: torch.tensor(np.asarray(decoded[name])) for name in decoded})
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, reference(tokens).logits)


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ({}, "Known to load it: transformers (Qwen2ForCausalLM), with compressed-tensors installed."),
        ({"scheme": "asymmetric"}, DECODED.format("Qwen2ForCausalLM")),
        ({"scheme": "asymmetric", "layer_bit_widths": {"*mlp*": 8}}, NOT_READ),
    ],
    ids=["as-it-is", "asymmetric", "asymmetric-of-two-widths"],
)
def test_what_loads_compressed_tensors_is_said_the_same_before_and_after(
    tmp_path: Path, asked: dict[str, Any], first: str
) -> None:
    """transformers (5.24) loads asymmetric codes of several widths with wrong weights, and without a word."""
    source = qwen2(tmp_path / "source")
    lines = export(source, tmp_path / "out", "compressed-tensors", **asked)
    with open_checkpoint(source) as checkpoint:
        plan = wb.load(tmp_path / "out").plan
        assert readers(checkpoint, "compressed-tensors", plan)[0] == first
        ahead = loading_lines(checkpoint, "compressed-tensors", tmp_path / "later", plan)
        assert ahead == lines.replace(str(tmp_path / "out"), str(tmp_path / "later"))
        if "layer_bit_widths" not in asked:  # the only thing that a scheme alone does not say
            assert readers(checkpoint, "compressed-tensors", scheme=asked.get("scheme"))[0] == first
    assert ("from transformers" in lines) == (first != NOT_READ)
    assert ("dequantize=True" in lines) == (first == DECODED.format("Qwen2ForCausalLM"))


def test_widths_that_old_vllm_lacks_are_told(tmp_path: Path) -> None:
    source = qwen2(tmp_path / "source")
    with open_checkpoint(source) as checkpoint:
        for widths, told in (({}, False), ({"*mlp*": 8}, False), ({"*mlp*": 2}, True)):
            out = tmp_path / f"out-{len(widths)}-{told}"
            export(source, out, "compressed-tensors", layer_bit_widths=widths)
            (sentence,) = (
                one for one in readers(checkpoint, "compressed-tensors", wb.load(out).plan) if "vLLM" in one
            )
            assert ("2 bits need a version that has the Humming kernels" in sentence) == told


def test_dequantized_weights_load_as_the_source_does(tmp_path: Path, sd3_model: Callable[..., Any]) -> None:
    source = diffusers_folder(tmp_path / "source", sd3_model(), "StableDiffusion3Pipeline")
    assert (
        type(run(export(source, tmp_path / "out", "safetensors"))["model"]).__name__
        == "SD3Transformer2DModel"
    )
    source = qwen2(tmp_path / "qwen2")
    assert (
        type(run(export(source, tmp_path / "out-2", "safetensors"))["model"]).__name__ == "Qwen2ForCausalLM"
    )


def test_arrays_load_where_no_runtime_is_known(tmp_path: Path) -> None:
    source = write(tmp_path / "model", {"proj.weight": LINEAR})
    assert "proj.scales" in run(export(source, tmp_path / "mlx", "mlx"))["arrays"]
    for target in ("parquet", "gguf", "compressed-tensors", "safetensors"):
        weights = run(export(source, tmp_path / target, target))["weights"]
        assert weights["proj.weight"].shape == LINEAR


def test_names_that_are_too_long_are_told(tmp_path: Path) -> None:
    names = {"double_blocks.0.img_attn.proj.weight": LINEAR}
    with open_checkpoint(write(tmp_path / "long", {**names, "b" * 70 + ".weight": LINEAR})) as checkpoint:
        (told,) = (one for one in readers(checkpoint, "gguf") if "77 bytes" in one)
        assert "llama.cpp" in told
        assert "ComfyUI" not in told
    with open_checkpoint(write(tmp_path / "longer", {**names, "b" * 130 + ".weight": LINEAR})) as checkpoint:
        (told,) = (one for one in readers(checkpoint, "gguf") if "137 bytes" in one)
        assert "ComfyUI-GGUF" in told
