"""Who loads a GGUF file is told by what is in it, and it holds in blocks only what loaders decode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import workbench as wb
from workbench.formats.gguf.tokenizer import CONTROL, NORMAL, UNUSED, USER_DEFINED

Tensors = dict[str, np.ndarray[Any, Any]]
BF16 = ml_dtypes.bfloat16
RNG = np.random.default_rng(0)


def normal(*shape: int, dtype: Any = BF16) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(dtype)


FLUX: Mapping[str, np.ndarray[Any, Any]] = {"double_blocks.0.img_attn.proj.weight": normal(256, 256)}
HUNYUAN: Mapping[str, np.ndarray[Any, Any]] = {
    "double_blocks.0.img_attn_proj.weight": normal(256, 256),
    "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.weight": normal(768, 256),
    "cond_type_embedding.weight": normal(3, 2048),
    "img_in.proj.weight": normal(256, 65, 1, 1, 1),
    "vace_patch_embedding.weight": normal(256, 16, 1, 2, 2),
}


def export(folder: Path, tensors: Mapping[str, np.ndarray[Any, Any]], bits: int = 4) -> wb.Report:
    folder.mkdir(exist_ok=True)
    save_file(dict(tensors), folder / "source.safetensors")
    config = wb.DiffusionQuantConfig(target="gguf", bit_width=bits, min_accuracy=0.0)
    return wb.DiffusionOrchestrator(config).run(folder / "source.safetensors", folder / "out")


def told(report: wb.Report) -> list[str]:
    return [note for note in report.notes if "load" in note]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_loaders_take_as_it_is_stays_in_float(tmp_path: Path, bits: int) -> None:
    """An embedding of 2048 columns came back with 2176, the bytes of its blocks."""
    report = export(tmp_path, HUNYUAN, bits)
    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    table = tensors["cond_type_embedding.weight"]
    assert table.tensor_type.name == "F32"
    assert table.data.shape == (3, 2048)
    assert np.array_equal(table.data, HUNYUAN["cond_type_embedding.weight"].astype(np.float32))
    for name in ("img_in.proj.weight", "vace_patch_embedding.weight"):
        assert tensors[name].tensor_type.name in ("F16", "F32")
        assert reader.fields[f"comfy.gguf.orig_shape.{name}"].contents() == list(HUNYUAN[name].shape)
    assert tensors["double_blocks.0.img_attn_proj.weight"].tensor_type.name not in ("F16", "F32")
    assert {layer.name: layer.scheme for layer in report.layers}["cond_type_embedding.weight"] == "keep"


def test_a_linear_that_is_called_an_embedding_is_quantized(tmp_path: Path) -> None:
    tensors = {**FLUX, "text_embedding.weight": normal(256, 256), "text_embedding.bias": normal(256)}
    report = export(tmp_path, tensors)
    assert {layer.name: layer.scheme for layer in report.layers}["text_embedding.weight"] == "Q4_K"


def test_all_that_load_a_sound_file_are_named(tmp_path: Path) -> None:
    (note,) = told(export(tmp_path, FLUX))
    assert note.startswith("Known to load flux files: ComfyUI-GGUF, stable-diffusion.cpp, diffusers by")


@pytest.mark.parametrize(
    ("extra", "loads", "reason"),
    [
        ({"position": np.arange(4)}, "", "the type I64 of 'position' is not one"),
        ({f"{'a' * 128}.bias": normal(8)}, "", "has 133 bytes, and no more than 127"),
        (
            {"patch.proj.weight": normal(16, 4, 1, 2, 2)},
            "ComfyUI-GGUF",
            "'patch.proj.weight' is stored with fewer axes",
        ),
    ],
    ids=["integers", "long-name", "five-axes"],
)
def test_what_keeps_a_program_from_loading_it_is_said(
    tmp_path: Path, extra: Tensors, loads: str, reason: str
) -> None:
    notes = told(export(tmp_path, {**FLUX, **extra}))
    if loads:
        assert notes[0] == f"Known to load flux files: {loads}."
    else:
        assert notes[0] == "No runtime is known to load this file; workbench.load does."
        assert "ComfyUI-GGUF" in notes[1]
    assert notes[1].startswith("Not known to load it")
    assert reason in notes[1]


def byte_alphabet() -> list[str]:
    """GPT-2's letters for the 256 bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [code for code in range(256) if code not in shown]
    return [*(chr(code) for code in shown), *(chr(256 + place) for place in range(len(hidden)))]


def dream(folder: Path, *, tokenizer_class: str = "DreamTokenizer") -> Path:
    """A Dream whose tokenizer is in parts, with fewer tokens than rows, and a hole."""
    shapes = {
        "model.embed_tokens": (300, 256), "lm_head": (300, 256), "model.norm": (256,),
        **{f"model.layers.0.self_attn.{name}_proj": (256, 256) for name in "qkvo"},
        "model.layers.0.mlp.gate_proj": (256, 256), "model.layers.0.mlp.up_proj": (256, 256),
        "model.layers.0.mlp.down_proj": (256, 256), "model.layers.0.input_layernorm": (256,),
        "model.layers.0.post_attention_layernorm": (256,),
    }  # fmt: skip
    config = {
        "architectures": ["DreamModel"], "model_type": "Dream", "hidden_size": 256, "intermediate_size": 256,
        "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 300, "mask_token_id": 270,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 128,
    }  # fmt: skip
    folder.mkdir()
    save_file(
        {f"{name}.weight": normal(*shape) for name, shape in shapes.items()}, folder / "model.safetensors"
    )
    vocabulary = {letter: number for number, letter in enumerate(byte_alphabet())} | {"th": 256, "the": 257}
    settings = {
        "tokenizer_class": tokenizer_class,
        "added_tokens_decoder": {"270": {"content": "<|mask|>", "special": True}},
        "eos_token": {"content": "<|endoftext|>"},
    }
    for name, document in (
        ("config.json", config),
        ("vocab.json", vocabulary),
        ("added_tokens.json", {"<|mask|>": 270, "<|endoftext|>": 260, "  ": 272}),
        ("tokenizer_config.json", settings),
    ):
        (folder / name).write_text(json.dumps(document))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    return folder


def run(source: Path, output: Path) -> tuple[wb.Report, gguf.GGUFReader]:
    report = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target="gguf")).run(source, output)
    return report, gguf.GGUFReader(output / "model.gguf")


def test_a_tokenizer_in_parts_is_written(tmp_path: Path) -> None:
    report, reader = run(dream(tmp_path / "model"), tmp_path / "out")
    assert reader.fields["tokenizer.ggml.model"].contents() == "gpt2"
    assert reader.fields["tokenizer.ggml.pre"].contents() == "qwen2"
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert len(tokens) == len(set(tokens)) == 300
    assert tokens[:258] == [*byte_alphabet(), "th", "the"]
    assert (tokens[260], tokens[270], tokens[272]) == ("<|endoftext|>", "<|mask|>", "  ")
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    assert [kinds[number] for number in (0, 257, 258, 260, 270, 272, 299)] == [
        NORMAL, NORMAL, UNUSED, CONTROL, CONTROL, USER_DEFINED, UNUSED,
    ]  # fmt: skip
    assert reader.fields["tokenizer.ggml.merges"].contents() == ["t h", "th e"]
    assert reader.fields["tokenizer.ggml.mask_token_id"].contents() == 270
    assert reader.fields["tokenizer.ggml.eos_token_id"].contents() == 260
    assert told(report)[0] == "Known to load dream files: llama.cpp (llama-diffusion-cli)."


@pytest.mark.parametrize("missing", ["merges.txt", "class"])
def test_without_a_tokenizer_llama_cpp_is_not_said_to_load_it(tmp_path: Path, missing: str) -> None:
    source = dream(
        tmp_path / "model", tokenizer_class="CLIPTokenizer" if missing == "class" else "DreamTokenizer"
    )
    if missing == "merges.txt":
        (source / "merges.txt").unlink()
    report, reader = run(source, tmp_path / "out")
    assert "tokenizer.ggml.model" not in reader.fields
    notes = told(report)
    assert notes[0] == "No runtime is known to load this file; workbench.load does."
    assert "Not known to load it: llama.cpp" in notes[1]
    assert "tokenizer.ggml.model" in notes[1]


def test_a_broken_part_is_named(tmp_path: Path) -> None:
    source = dream(tmp_path / "model")
    (source / "merges.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(wb.MetadataError, match=r"merges\.txt cannot be read"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
