"""A head that config.json ties to the embedding is stored once, whatever the checkpoint stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import workbench as wb
from workbench.checkpoint import open_checkpoint

HEAD, TABLE = "lm_head.weight", "model.embed_tokens.weight"
TOKENS = torch.arange(24).reshape(2, 12) * 7 % 131


def llama(folder: Path, *, tied: bool = True, head: str = "twin") -> Path:
    """transformers' own Llama, saved with its head as older tools do."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=131, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tensors = dict(load_file(folder / "model.safetensors"))
    if head == "none":
        tensors.pop(HEAD, None)
    else:
        tensors[HEAD] = tensors[TABLE].copy() if head == "twin" else tensors[TABLE][::-1].copy()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def export(source: Path, output: Path, target: Any, **settings: Any) -> wb.Report:
    fixed: dict[str, Any] = {"bit_width": 4, "group_size": 32, "scheme": "symmetric", "min_accuracy": 0.0}
    config = wb.DiffusionQuantConfig(target=target, **{**fixed, **settings})
    return wb.DiffusionOrchestrator(config).run(source, output)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(TOKENS).logits
    return found.float()


@pytest.mark.parametrize("head", ["twin", "other"])
def test_transformers_loads_a_tied_model_from_compressed_tensors(tmp_path: Path, head: str) -> None:
    """With a quantized head it fails: "Linear has no attribute weight"."""
    source = llama(tmp_path / "model", head=head)
    report = export(source, tmp_path / "out", "compressed-tensors")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True
    reference = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    decoded = wb.load(tmp_path / "out")
    state = {name: torch.from_numpy(np.asarray(decoded[name], np.float32)) for name in decoded}
    reference.load_state_dict({**state, HEAD: state[TABLE]})
    assert torch.equal(logits(loaded), logits(reference))
    (note,) = [note for note in report.notes if HEAD in note]
    assert "left out" in note
    assert ("set tie_word_embeddings to false" in note) == (head == "other")
    assert wb.verify(tmp_path / "out", source).ok


@pytest.mark.parametrize("target", ["mlx", "parquet", "safetensors", "compressed-tensors"])
def test_a_tied_pair_is_stored_once(tmp_path: Path, target: str) -> None:
    twin, single = llama(tmp_path / "twin"), llama(tmp_path / "single", head="none")
    reports = [export(source, tmp_path / f"{source.name}-out", target) for source in (twin, single)]
    assert {layer.name for layer in reports[0].layers} == {layer.name for layer in reports[1].layers}
    assert list(wb.load(tmp_path / "twin-out")) == list(wb.load(tmp_path / "single-out"))
    if target == "mlx":  # what mlx-lm does not know of a tied model
        found: Any = mx.load(str(tmp_path / "twin-out" / "model.safetensors"))
        assert not [name for name in found if name.startswith("lm_head")]
        assert f"{TABLE.removesuffix('.weight')}.scales" in found
    assert wb.verify(tmp_path / "twin-out", twin).ok
    assert not [note for note in reports[1].notes if "ties" in note]


def test_only_what_is_tied_is_left_out(tmp_path: Path) -> None:
    with open_checkpoint(llama(tmp_path / "untied", tied=False)) as checkpoint:
        assert checkpoint.tied_head is None
        assert HEAD in checkpoint.tensors
        assert checkpoint.tie_note is None
    with open_checkpoint(llama(tmp_path / "tied")) as checkpoint:
        assert HEAD not in checkpoint.tensors
        assert HEAD not in {layer.name for layer in checkpoint.layers}
        assert TABLE in checkpoint.tensors
        with pytest.raises(wb.ValidationError, match="no tensor"):
            checkpoint.read_rows(HEAD, 0, 1)


def test_llama_cpp_finds_one_table_for_both_ends(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "wte": (64, 256), "ff_out": (64, 256), "ln_f": (256,), "blocks.0.q_proj": (256, 256),
        "blocks.0.k_proj": (256, 256), "blocks.0.v_proj": (256, 256), "blocks.0.attn_out": (256, 256),
        "blocks.0.ff_proj": (512, 256), "blocks.0.up_proj": (512, 256), "blocks.0.ff_out": (256, 512),
        "blocks.0.attn_norm": (256,), "blocks.0.ff_norm": (256,),
    }  # fmt: skip
    tensors = {
        f"model.transformer.{name}.weight": rng.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    config = {
        "architectures": ["LLaDAModelLM"], "model_type": "llada", "d_model": 256, "n_layers": 1, "n_heads": 4,
        "mlp_hidden_size": 512, "vocab_size": 64, "max_sequence_length": 128, "rope_theta": 5e5, "rms_norm_eps": 1e-5,
        "weight_tying": True,
    }  # fmt: skip
    (tmp_path / "model").mkdir()
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    report = export(tmp_path / "model", tmp_path / "out", "gguf")
    names = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "out" / "model.gguf").tensors}
    assert "token_embd.weight" in names
    assert "output.weight" not in names
    assert "blk.0.ffn_down.weight" in names, "a feed-forward is no head"
    assert any("ff_out.weight" in note and "weight_tying to false" in note for note in report.notes)
