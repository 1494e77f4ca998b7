"""Only folds that are known to be exact are offered; whatever is not is named.

That the folds which are offered keep the function is seen in test_folds_in_models.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from workbench.checkpoint import open_checkpoint
from workbench.folds.sites import FoldSites, find_sites

Shapes = dict[str, tuple[int, ...]]
Find = Callable[..., FoldSites]

LLAMA: Shapes = {
    "model.embed_tokens.weight": (20, 16), "model.norm.weight": (16,), "lm_head.weight": (20, 16),
    "model.layers.0.input_layernorm.weight": (16,), "model.layers.0.post_attention_layernorm.weight": (16,),
    "model.layers.0.self_attn.q_proj.weight": (16, 16), "model.layers.0.self_attn.k_proj.weight": (8, 16),
    "model.layers.0.self_attn.v_proj.weight": (8, 16), "model.layers.0.self_attn.o_proj.weight": (16, 16),
    "model.layers.0.mlp.gate_proj.weight": (24, 16), "model.layers.0.mlp.up_proj.weight": (24, 16),
    "model.layers.0.mlp.down_proj.weight": (16, 24),
}  # fmt: skip
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}

LLADA: Shapes = {
    "model.transformer.wte.weight": (20, 16), "model.transformer.ln_f.weight": (16,),
    "model.transformer.ff_out.weight": (20, 16),
    **{
        f"model.transformer.blocks.0.{name}.weight": shape
        for name, shape in {
            "attn_norm": (16,), "ff_norm": (16,), "q_proj": (16, 16), "k_proj": (16, 16), "v_proj": (16, 16),
            "attn_out": (16, 16), "ff_proj": (24, 16), "up_proj": (24, 16), "ff_out": (16, 24),
        }.items()
    },
}  # fmt: skip


@pytest.fixture
def find(tmp_path: Path) -> Find:
    def look(shapes: Shapes, architecture: str | None, **facts: Any) -> FoldSites:
        folder = tmp_path / "model"
        folder.mkdir()
        rng = np.random.default_rng(0)
        tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        save_file(tensors, folder / "model.safetensors")
        if architecture is not None:
            key = {"_class_name": architecture} if "2D" in architecture else {"architectures": [architecture]}
            (folder / "config.json").write_text(json.dumps({**key, **facts}))
        with open_checkpoint(folder) as checkpoint:
            return find_sites(checkpoint)

    return look


def names(found: FoldSites) -> list[str]:
    return [site.name for site in found.sites]


def test_a_llama_block_has_four_and_the_head_one(find: Find) -> None:
    found = find(LLAMA, "LlamaForCausalLM", **HEADS)
    assert names(found) == [
        "model.layers.0: input_layernorm → self_attn.q_proj, self_attn.k_proj, self_attn.v_proj",
        "model.layers.0: self_attn.v_proj → self_attn.o_proj",
        "model.layers.0: post_attention_layernorm → mlp.gate_proj, mlp.up_proj",
        "model.layers.0: mlp.up_proj → mlp.down_proj",
        "model.norm → lm_head",
    ]
    assert found.remarks == ()
    value = found.sites[1]
    assert (value.channels, value.heads, value.repeats) == (8, 2, 2)


@pytest.mark.parametrize(
    "architecture", ["GemmaForCausalLM", "Olmo2ForCausalLM", "UNet2DConditionModel", "DiT"]
)
def test_the_names_of_a_block_do_not_make_an_architecture(find: Find, architecture: str) -> None:
    found = find(LLAMA, architecture, **HEADS)
    assert found.sites == ()
    assert architecture in found.remarks[0]
    assert (
        "no fold that is known to be exact; known are: DiTTransformer2DModel, DreamModel" in found.remarks[0]
    )


def test_without_a_configuration_nothing_is_known(find: Find) -> None:
    found = find(LLAMA, None)
    assert found.sites == ()
    assert found.remarks[0].startswith("A checkpoint without config.json")


def test_a_block_with_a_module_that_is_not_known_is_left_alone(find: Find) -> None:
    shapes = LLAMA | {"model.layers.0.mlp.experts.0.up_proj.weight": (24, 16)}
    found = find(shapes, "LlamaForCausalLM", **HEADS)
    assert names(found) == ["model.norm → lm_head"]
    assert found.remarks == ("model.layers.0: left alone, as mlp.experts.0.up_proj is not known there.",)


@pytest.mark.parametrize("facts", [{}, {"num_attention_heads": 4}, {**HEADS, "num_key_value_heads": 3}])
def test_heads_that_are_not_told_leave_the_values_alone(find: Find, facts: dict[str, int]) -> None:
    found = find(LLAMA, "Qwen2ForCausalLM", **facts)
    assert len(found.sites) == 4
    assert (
        "num_attention_heads and num_key_value_heads of config.json do not tell its heads" in found.remarks[0]
    )


def test_a_tied_head_is_left_alone(find: Find) -> None:
    found = find(LLAMA, "LlamaForCausalLM", **HEADS, tie_word_embeddings=True)
    assert len(found.sites) == 4
    assert found.remarks == ("model.norm: left alone, as its head has the weights of the embedding.",)


@pytest.mark.parametrize(
    ("facts", "sites", "remark"),
    [
        ({"weight_tying": False, "layer_norm_type": "rms"}, 5, ""),
        ({"layer_norm_type": "rms"}, 4, "its head has the weights of the embedding"),
        ({"weight_tying": False, "clip_qkv": 8.0}, 4, "clip_qkv cuts its values"),
        (
            {"weight_tying": False, "layer_norm_type": "gemma_rms"},
            0,
            "layer_norm_type 'gemma_rms' is not known",
        ),
    ],
)
def test_llada_is_told_by_its_configuration(
    find: Find, facts: dict[str, Any], sites: int, remark: str
) -> None:
    found = find(LLADA, "LLaDAModelLM", n_heads=2, **facts)
    assert len(found.sites) == sites
    assert remark in " ".join(found.remarks)


def dit_block(rows: int = 96, bias: bool = True) -> Shapes:
    shapes = {
        "norm1.linear.weight": (rows, 16), "norm1.linear.bias": (rows,), "attn1.to_q.weight": (16, 16),
        "attn1.to_k.weight": (16, 16), "attn1.to_v.weight": (16, 16), "attn1.to_out.0.weight": (16, 16),
        "ff.net.0.proj.weight": (64, 16), "ff.net.2.weight": (16, 64),
    }  # fmt: skip
    if not bias:
        del shapes["norm1.linear.bias"]
    return {f"transformer_blocks.0.{name}": shape for name, shape in shapes.items()}


def test_a_modulation_without_a_bias_is_left_alone(find: Find) -> None:
    found = find(dit_block(bias=False), "DiTTransformer2DModel")
    assert names(found) == ["transformer_blocks.0: attn1.to_v → attn1.to_out.0"]
    assert found.remarks == (
        "transformer_blocks.0.norm1.linear, transformer_blocks.0.norm1.linear: left alone, as a modulation without a "
        "bias cannot take the 1 of 1 + scale.",
    )


def test_shapes_that_do_not_fit_are_left_alone(find: Find) -> None:
    found = find(dit_block(rows=90), "DiTTransformer2DModel")
    assert names(found) == ["transformer_blocks.0: attn1.to_v → attn1.to_out.0"]
    assert "the shapes do not fit one another" in found.remarks[0]


def test_a_modulation_that_blocks_share_is_said_to_be(find: Find) -> None:
    shapes: Shapes = {
        "transformer_blocks.0.scale_shift_table": (6, 16), "adaln_single.linear.weight": (96, 16),
        "transformer_blocks.0.attn1.to_v.weight": (16, 16), "transformer_blocks.0.attn1.to_out.0.weight": (16, 16),
    }  # fmt: skip
    found = find(shapes, "PixArtTransformer2DModel")
    assert names(found) == ["transformer_blocks.0: attn1.to_v → attn1.to_out.0"]
    assert found.remarks == (
        "The modulation adaln_single: left alone, as all blocks share it and a fold would be of one.",
    )


def test_many_places_make_one_remark(find: Find) -> None:
    shapes = {f"transformer_blocks.{block}.surprise.weight": (4, 4) for block in range(5)}
    found = find(shapes, "DiTTransformer2DModel")
    assert found.sites == ()
    assert found.remarks == (
        "transformer_blocks.0, transformer_blocks.1 and 3 more: left alone, as surprise is not known there.",
        "DiTTransformer2DModel: no fold is exact here.",
    )
