"""transformers loads a compressed-tensors export with the package's own code, and computes with our decoded weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, CompressedTensorsConfig, Qwen2Config, Qwen2ForCausalLM

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.formats import TargetSettings, target_named

TOKENS = torch.arange(24).reshape(2, 12) * 7 % 131


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(TOKENS).logits
    return found.float()


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=131, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("qwen2") / "model"
    Qwen2ForCausalLM(config).to(request.param).save_pretrained(folder)
    return folder


def mixed_plan(source: Path) -> wb.Plan:
    """Every width, groups and whole rows, and layers that are kept."""
    target = target_named("compressed-tensors", TargetSettings(all_widths=True))
    rng = np.random.default_rng(1)
    choices = {}
    with open_checkpoint(source) as checkpoint:
        for layer in checkpoint.layers:
            options = target.options(layer)
            choices[layer.name] = options[int(rng.integers(len(options)))]
        return wb.Plan("compressed-tensors", choices, checkpoint.fingerprint)


def export(source: Path, output: Path, scheme: Any, plan: wb.Plan | None = None) -> torch.Tensor:
    """Write it, and give the logits of the source's own model with our decoded weights."""
    config = wb.DiffusionQuantConfig(
        target="compressed-tensors", bit_width=4, group_size=32, scheme=scheme, min_accuracy=0.0
    )
    wb.DiffusionOrchestrator(config).run(source, output, plan=plan)
    return logits_of_decoded(source, output)


def logits_of_decoded(source: Path, output: Path) -> torch.Tensor:
    """The logits of the source's own model with our decoded weights."""
    reference = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    before = logits(reference)
    dtypes = {name: tensor.dtype for name, tensor in reference.state_dict().items()}
    decoded = wb.load(output)
    state = {
        name: torch.from_numpy(np.asarray(decoded[name], np.float32)).to(dtypes[name]) for name in decoded
    }
    reference.load_state_dict(state)
    expected = logits(reference)
    assert float((expected - before).abs().max()) > 1e-3, "quantizing changes something"
    return expected


@pytest.mark.parametrize("kind", ["4 bits", "mixed"])
def test_a_compressed_model_has_the_logits_of_the_decoded_weights(
    source: Path, tmp_path: Path, kind: str
) -> None:
    plan = mixed_plan(source) if kind == "mixed" else None
    expected = export(source, tmp_path / "out", "symmetric", plan)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    written = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    modules = dict(loaded.named_modules())
    for group in written["config_groups"].values():
        assert all(hasattr(modules[name], "weight_packed") for name in group["targets"])
    assert torch.equal(logits(loaded), expected)


@pytest.mark.parametrize("sharded", [False, True], ids=["one-file", "shards"])
def test_what_the_solver_chooses_by_default_loads_as_any_model_does(
    source: Path, tmp_path: Path, sharded: bool
) -> None:
    """Nothing is asked for but a size: the target, the scheme and the widths are those of this model."""
    if sharded:
        model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
        source = tmp_path / "source"
        model.save_pretrained(source, max_shard_size="60KB")
        assert (source / "model.safetensors.index.json").exists()
    with wb.open(source, cache=tmp_path / "cache") as session:
        session.lock("*0.mlp.down_proj*", 2)
        session.lock("*1.mlp.down_proj*", 8)
        session.solve(bpw=9 if session.layers["dtype"][0].as_py() == "F32" else 6)
        assert session.target.name == "compressed-tensors"
        assert session.readers[0].startswith("Known to load it: transformers (Qwen2ForCausalLM)")
        session.export(tmp_path / "out").result(120)
        assert {option.bits for option in session.plan.choices.values() if not option.is_kept} == {2, 4, 8}
    expected = logits_of_decoded(source, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(loaded), expected)


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
def test_integer_zero_points_are_read(source: Path, tmp_path: Path) -> None:
    """By the route that decompresses while loading: transformers 5.24 makes no room for packed zero points else."""
    expected = export(source, tmp_path / "out", "asymmetric")
    loaded = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype="auto", quantization_config=CompressedTensorsConfig(dequantize=True)
    )
    assert torch.equal(logits(loaded), expected)
