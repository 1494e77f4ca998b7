"""Layers are exactly the Linear, Conv and Embedding weights of the real modules, with the roles they play.

The danger: in a diffusers DiT, 40 % of the weights have "norm" in their names, and are no norms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from torch import nn

from workbench.checkpoint import TensorInfo, open_checkpoint
from workbench.checkpoint.contents.layers import block_depths, find_layers, roles_of

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

MODELS: dict[str, Callable[[], nn.Module]] = {
    "DiT": lambda: diffusers.DiTTransformer2DModel(),
    "PixArt": lambda: diffusers.PixArtTransformer2DModel(caption_channels=4096),
    "SD3": lambda: diffusers.SD3Transformer2DModel(dual_attention_layers=(0, 1), qk_norm="rms_norm"),
    "Flux": lambda: diffusers.FluxTransformer2DModel(guidance_embeds=True),
    "Wan": lambda: diffusers.WanTransformer3DModel(num_layers=3, image_dim=1280, added_kv_proj_dim=5120),
    "HunyuanVideo": lambda: diffusers.HunyuanVideoTransformer3DModel(),
    "UNet2DCondition": lambda: diffusers.UNet2DConditionModel(),
    "UNet2DCondition SDXL": lambda: diffusers.UNet2DConditionModel(
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
        transformer_layers_per_block=(1, 1, 2),
    ),
    "UNet2DCondition classes": lambda: diffusers.UNet2DConditionModel(num_class_embeds=10),
    "UNet2D": lambda: diffusers.UNet2DModel(),
    "Qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(num_hidden_layers=3)),
    "Llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(num_hidden_layers=3)),
    # Never promised, but the default should know them too.
    "AutoencoderKL": lambda: diffusers.AutoencoderKL(),
    "CLIP": lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(num_hidden_layers=2)),
    "T5": lambda: transformers.T5EncoderModel(transformers.T5Config(num_layers=2)),
    "Lumina2": lambda: diffusers.Lumina2Transformer2DModel(),
    "QwenImage": lambda: diffusers.QwenImageTransformer2DModel(num_layers=2),
    "CogVideoX": lambda: diffusers.CogVideoXTransformer3DModel(num_layers=2),
    "LTXVideo": lambda: diffusers.LTXVideoTransformer3DModel(num_layers=2),
    "Mochi": lambda: diffusers.MochiTransformer3DModel(num_layers=2),
    "Sana": lambda: diffusers.SanaTransformer2DModel(num_layers=2),
    "StableAudio": lambda: diffusers.StableAudioDiTModel(num_layers=2),
    "AudioLDM2": lambda: diffusers.AudioLDM2UNet2DConditionModel(),
}

WITHOUT_A_ROLE = {"StableAudio": {"cross_attention_proj.#.weight", "global_proj.#.weight"}}
"""Layers that no role fits, by family; everywhere else every layer has one."""


@pytest.fixture(scope="module")
def models() -> Callable[[str], nn.Module]:
    built: dict[str, nn.Module] = {}

    def model(family: str) -> nn.Module:
        if family not in built:
            with torch.device("meta"):
                built[family] = MODELS[family]()
        return built[family]

    return model


def infos(shapes: dict[str, tuple[int, ...]], dtype: str = "BF16") -> dict[str, TensorInfo]:
    return {name: TensorInfo(name, dtype, shape, Path("m"), 0, 0) for name, shape in shapes.items()}


def layers_of(shapes: dict[str, tuple[int, ...]], peek: Any = None) -> dict[str, Any]:
    tensors = infos(shapes)
    return {layer.name: layer for layer in find_layers(tensors, roles_of(tensors.values()), peek)}


def layers_of_module(module: nn.Module) -> dict[str, Any]:
    return layers_of({name: tuple(value.shape) for name, value in module.state_dict().items()})


def kind_of(module: nn.Module) -> str | None:
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, nn.Embedding):
        return "embedding"
    return "conv" if isinstance(module, CONVS) else None


@pytest.mark.parametrize("family", MODELS)
def test_layers_are_the_linears_convs_and_embeddings(models, family):
    module = models(family)
    expected = {f"{name}.weight": kind for name, part in module.named_modules() if (kind := kind_of(part))}
    expected = {name: kind for name, kind in expected.items() if name in module.state_dict()}
    found = {name: layer.kind for name, layer in layers_of_module(module).items()}
    assert found == expected
    assert found


@pytest.mark.parametrize("family", MODELS)
def test_every_layer_of_a_known_family_has_a_role(models, family):
    found = layers_of_module(models(family))
    others = {re.sub(r"\d+", "#", name) for name, layer in found.items() if layer.role == "other"}
    assert others == WITHOUT_A_ROLE.get(family, set())
    assert "norm" not in {layer.role for layer in found.values()}


@pytest.mark.parametrize("family", MODELS)
def test_gains_are_norms(models, family):
    module = models(family)
    roles = roles_of(
        infos({name: tuple(value.shape) for name, value in module.state_dict().items()}).values()
    )
    norms = [
        name for name, part in module.named_modules() if re.search("^(?!Ada).*Norm", type(part).__name__)
    ]
    assert {roles[f"{name}.weight"] for name in norms if f"{name}.weight" in roles} <= {"norm"}


ROLES = {
    "DiT": {
        "pos_embed.proj.weight": "embedding",
        "transformer_blocks.3.norm1.emb.timestep_embedder.linear_1.weight": "time_embed",
        "transformer_blocks.3.norm1.emb.class_embedder.embedding_table.weight": "embedding",
        "transformer_blocks.3.norm1.linear.weight": "modulation",
        "transformer_blocks.3.attn1.to_q.weight": "attention.q",
        "transformer_blocks.3.attn1.to_k.weight": "attention.k",
        "transformer_blocks.3.attn1.to_v.weight": "attention.v",
        "transformer_blocks.3.attn1.to_out.0.weight": "attention.out",
        "transformer_blocks.3.ff.net.0.proj.weight": "mlp.in",
        "transformer_blocks.3.ff.net.2.weight": "mlp.out",
        "proj_out_1.weight": "modulation",
        "proj_out_2.weight": "head",
    },
    "PixArt": {
        "adaln_single.linear.weight": "modulation",
        "adaln_single.emb.timestep_embedder.linear_2.weight": "time_embed",
        "adaln_single.emb.resolution_embedder.linear_1.weight": "time_embed",
        "caption_projection.linear_1.weight": "embedding",
        "proj_out.weight": "head",
    },
    "SD3": {
        "context_embedder.weight": "embedding",
        "time_text_embed.text_embedder.linear_1.weight": "time_embed",
        "transformer_blocks.0.norm1_context.linear.weight": "modulation",
        "transformer_blocks.0.attn.add_q_proj.weight": "attention.q",
        "transformer_blocks.0.attn.add_v_proj.weight": "attention.v",
        "transformer_blocks.0.attn.to_add_out.weight": "attention.out",
        "transformer_blocks.0.attn2.to_k.weight": "attention.k",
        "transformer_blocks.0.ff_context.net.0.proj.weight": "mlp.in",
        "transformer_blocks.0.ff_context.net.2.weight": "mlp.out",
        "norm_out.linear.weight": "modulation",
    },
    "Flux": {
        "x_embedder.weight": "embedding",
        "time_text_embed.guidance_embedder.linear_1.weight": "time_embed",
        "single_transformer_blocks.0.norm.linear.weight": "modulation",
        "single_transformer_blocks.0.attn.to_q.weight": "attention.q",
        "single_transformer_blocks.0.proj_mlp.weight": "mlp.in",
        "single_transformer_blocks.0.proj_out.weight": "mlp.out",
        "proj_out.weight": "head",
    },
    "Wan": {
        "patch_embedding.weight": "embedding",
        "condition_embedder.time_embedder.linear_1.weight": "time_embed",
        "condition_embedder.time_proj.weight": "modulation",
        "condition_embedder.text_embedder.linear_1.weight": "embedding",
        "condition_embedder.image_embedder.ff.net.0.proj.weight": "embedding",
        "blocks.0.attn2.add_k_proj.weight": "attention.k",
        "blocks.0.ffn.net.0.proj.weight": "mlp.in",
        "blocks.0.ffn.net.2.weight": "mlp.out",
        "proj_out.weight": "head",
    },
    "HunyuanVideo": {
        "context_embedder.proj_in.weight": "embedding",
        "context_embedder.time_text_embed.timestep_embedder.linear_1.weight": "time_embed",
        "context_embedder.token_refiner.refiner_blocks.0.attn.to_q.weight": "attention.q",
        "context_embedder.token_refiner.refiner_blocks.0.ff.net.0.proj.weight": "mlp.in",
        "context_embedder.token_refiner.refiner_blocks.0.norm_out.linear.weight": "modulation",
    },
    "UNet2DCondition SDXL": {
        "conv_in.weight": "embedding",
        "time_embedding.linear_1.weight": "time_embed",
        "add_embedding.linear_1.weight": "time_embed",
        "down_blocks.0.resnets.0.conv1.weight": "conv",
        "down_blocks.0.resnets.0.time_emb_proj.weight": "time_embed",
        "down_blocks.1.resnets.0.conv_shortcut.weight": "conv",
        "down_blocks.0.downsamplers.0.conv.weight": "conv",
        "down_blocks.1.attentions.0.proj_in.weight": "conv",
        "mid_block.attentions.0.transformer_blocks.1.attn2.to_v.weight": "attention.v",
        "up_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight": "mlp.in",
        "conv_out.weight": "head",
    },
    "UNet2DCondition classes": {"class_embedding.weight": "embedding"},
    "UNet2D": {"mid_block.attentions.0.to_out.0.weight": "attention.out"},
    "Qwen2": {
        "model.embed_tokens.weight": "embedding",
        "model.layers.2.self_attn.o_proj.weight": "attention.out",
        "model.layers.2.mlp.gate_proj.weight": "mlp.in",
        "model.layers.2.mlp.up_proj.weight": "mlp.in",
        "model.layers.2.mlp.down_proj.weight": "mlp.out",
        "lm_head.weight": "head",
    },
}


@pytest.mark.parametrize("family", ROLES)
def test_roles(models, family):
    found = layers_of_module(models(family))
    assert {name: found[name].role for name in ROLES[family]} == ROLES[family]


def test_kept_parameters_have_roles_too(models):
    shapes = {name: tuple(value.shape) for name, value in models("PixArt").state_dict().items()}
    roles = roles_of(infos(shapes).values())
    assert roles["scale_shift_table"] == roles["transformer_blocks.0.scale_shift_table"] == "modulation"
    assert roles["transformer_blocks.0.attn1.to_q.bias"] == "attention.q"
    assert list(roles) == list(shapes)


# Names from the public modelling code of LLaDA (modeling_llada.py) and of checkpoints in their original form.

LLADA = {
    "model.transformer.wte.weight": ("embedding", "embedding", None),
    "model.transformer.blocks.31.q_proj.weight": ("attention.q", "linear", 31),
    "model.transformer.blocks.31.k_proj.weight": ("attention.k", "linear", 31),
    "model.transformer.blocks.31.v_proj.weight": ("attention.v", "linear", 31),
    "model.transformer.blocks.31.attn_out.weight": ("attention.out", "linear", 31),
    "model.transformer.blocks.31.ff_proj.weight": ("mlp.in", "linear", 31),
    "model.transformer.blocks.31.up_proj.weight": ("mlp.in", "linear", 31),
    "model.transformer.blocks.31.ff_out.weight": ("mlp.out", "linear", 31),
    "model.transformer.ff_out.weight": ("head", "linear", None),
}


def test_llada():
    norms = ["model.transformer.ln_f.weight"]
    norms += [f"model.transformer.blocks.31.{name}.weight" for name in ("attn_norm", "ff_norm")]
    found = layers_of(dict.fromkeys(LLADA, (8, 16)) | dict.fromkeys(norms, (16,)))
    assert {name: (layer.role, layer.kind, layer.depth) for name, layer in found.items()} == LLADA


@pytest.mark.parametrize(
    ("name", "role"),
    [
        # Stable Diffusion
        ("model.diffusion_model.input_blocks.0.0.weight", "embedding"),
        ("model.diffusion_model.input_blocks.1.0.emb_layers.1.weight", "time_embed"),
        ("model.diffusion_model.input_blocks.1.1.proj_in.weight", "conv"),
        ("model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight", "attention.q"),
        ("model.diffusion_model.time_embed.2.weight", "time_embed"),
        ("model.diffusion_model.out.2.weight", "head"),
        # DiT
        ("x_embedder.proj.weight", "embedding"),
        ("t_embedder.mlp.0.weight", "time_embed"),
        ("y_embedder.embedding_table.weight", "embedding"),
        ("blocks.0.attn.qkv.weight", "attention.q"),
        ("blocks.0.attn.proj.weight", "attention.out"),
        ("blocks.0.mlp.fc1.weight", "mlp.in"),
        ("blocks.0.mlp.fc2.weight", "mlp.out"),
        ("blocks.0.adaLN_modulation.1.weight", "modulation"),
        ("final_layer.linear.weight", "head"),
        # Flux
        ("double_blocks.0.img_mod.lin.weight", "modulation"),
        ("double_blocks.0.txt_attn.qkv.weight", "attention.q"),
        ("double_blocks.0.img_mlp.0.weight", "mlp.in"),
        ("double_blocks.0.img_mlp.2.weight", "mlp.out"),
        ("single_blocks.0.linear1.weight", "mlp.in"),
        ("single_blocks.0.linear2.weight", "mlp.out"),
        ("single_blocks.0.modulation.lin.weight", "modulation"),
        ("img_in.weight", "embedding"),
        ("time_in.in_layer.weight", "time_embed"),
        # Wan
        ("blocks.0.self_attn.q.weight", "attention.q"),
        ("blocks.0.cross_attn.o.weight", "attention.out"),
        ("blocks.0.ffn.0.weight", "mlp.in"),
        ("time_projection.1.weight", "modulation"),
        ("head.head.weight", "head"),
    ],
)
def test_names_of_original_checkpoints(name, role):
    assert layers_of({name: (8, 16)})[name].role == role


# The default for names never seen


def test_what_is_never_a_layer():
    shapes = {
        "norm.weight": (1, 64),  # a norm by its name
        "block.q_norm.weight": (8, 64),
        "final_layernorm.weight": (4, 64),
        "x.weight": (8, 64), "x.bias": (8, 64),  # a bias as large as the weight: a norm over two axes
        "scale_shift_table": (6, 64), "pos_embed": (1, 256, 64), "cls_token": (1, 1, 64), "query": (16, 64),
        "a.weight": (64,), "b.weight": (), "c.weight": (0, 64), "d.weight": (1, 64),
    }  # fmt: skip
    assert layers_of(shapes) == {}


def test_unknown_names_are_judged_by_shape():
    shapes = {
        "foo.weight": (8, 64),
        "bar.weight": (8, 4, 3),
        "baz.weight": (1, 64),
        "baz.bias": (1,),
        "weight": (2, 2),
    }
    found = layers_of(shapes)
    assert {name: (layer.role, layer.kind) for name, layer in found.items()} == {
        "foo.weight": ("other", "linear"),
        "bar.weight": ("conv", "conv"),
        "baz.weight": ("other", "linear"),
        "weight": ("other", "linear"),
    }


@pytest.mark.parametrize("dtype", ["I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"])
def test_integers_are_never_layers(dtype):
    tensors = infos({"a.weight": (8, 64)}, dtype)
    assert find_layers(tensors, roles_of(tensors.values())) == ()


def test_an_unknown_gain_is_told_by_its_values(write):
    rng = np.random.default_rng(0)
    gain = (1 + 0.1 * rng.standard_normal((4, 512))).astype(np.float32)
    path = write(
        "m.safetensors", {"foo.weight": gain, "bar.weight": (4, 512), "zero.weight": np.zeros((4, 4))}
    )
    with open_checkpoint(path) as checkpoint:
        assert {layer.name for layer in checkpoint.layers} == {"bar.weight", "zero.weight"}


def test_values_that_are_no_numbers_do_not_disturb_the_opening(write):
    path = write(
        "m.safetensors", {"foo.weight": np.full((4, 8), np.nan), "bar.weight": np.full((4, 8), np.inf)}
    )
    with open_checkpoint(path) as checkpoint:
        assert len(checkpoint.layers) == 2


# Depth


def depths(models, family: str) -> dict[str, int | None]:
    return {name: layer.depth for name, layer in layers_of_module(models(family)).items()}


def test_depth_runs_from_double_to_single_blocks(models):
    found = depths(models, "Flux")
    assert found["transformer_blocks.18.attn.to_q.weight"] == 18
    assert found["single_transformer_blocks.0.attn.to_q.weight"] == 19
    assert found["single_transformer_blocks.37.proj_out.weight"] == 56
    assert found["x_embedder.weight"] is found["norm_out.linear.weight"] is None


def test_depth_runs_down_middle_up(models):
    found = depths(models, "UNet2DCondition")
    assert found["down_blocks.3.resnets.0.conv1.weight"] == 3
    assert found["down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q.weight"] == 1
    assert found["mid_block.resnets.1.conv2.weight"] == 4
    assert found["up_blocks.0.resnets.0.conv1.weight"] == 5
    assert found["up_blocks.3.resnets.2.conv2.weight"] == 8
    assert found["conv_in.weight"] is None


def test_depth_starts_with_the_refiner(models):
    found = depths(models, "HunyuanVideo")
    assert found["context_embedder.token_refiner.refiner_blocks.1.attn.to_q.weight"] == 1
    assert found["transformer_blocks.0.attn.to_q.weight"] == 2
    assert found["single_transformer_blocks.0.attn.to_q.weight"] == 22


def test_depth_is_the_number_of_the_block_even_in_a_part_of_a_model():
    assert block_depths(["model.layers.10.a.weight", "model.norm.weight"]) == {
        "model.layers.10.a.weight": 10,
        "model.norm.weight": None,
    }
