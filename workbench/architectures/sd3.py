"""Stable Diffusion 3 and 3.5. Original names: https://github.com/Stability-AI/sd3.5."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from workbench.architectures.joint_blocks import JOINT_FOLDS
from workbench.architectures.record import Architecture, Clock, Reader, Rule


def _original_names(tensors: Collection[str]) -> Iterator[Rule]:
    blocks = (re.match(r"transformer_blocks\.(\d{1,6})\.", name) for name in tensors)
    last = max((int(block[1]) for block in blocks if block), default=0)
    block = "transformer_blocks.#."
    for side, attention, norm, names in (
        ("x_block.attn", "attn", "norm_", ("to_q", "to_k", "to_v", "to_out.0")),
        ("x_block.attn2", "attn2", "norm_", ("to_q", "to_k", "to_v", "to_out.0")),
        (
            "context_block.attn",
            "attn",
            "norm_added_",
            ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
        ),
    ):
        *qkv, out = (f"{block}{attention}.{name}" for name in names)
        yield f"joint_blocks.#.{side}.qkv", tuple(qkv)
        yield f"joint_blocks.#.{side}.proj", (out,)
        yield f"joint_blocks.#.{side}.ln_q", (f"{block}{attention}.{norm}q",)
        yield f"joint_blocks.#.{side}.ln_k", (f"{block}{attention}.{norm}k",)
    # The last block only reads the text: its norm is like that of the last layer.
    modulation = "joint_blocks.{}.context_block.adaLN_modulation.1"
    yield modulation.format(last), (f"~transformer_blocks.{last}.norm1_context.linear",)
    yield modulation.format("#"), (f"{block}norm1_context.linear",)
    yield "joint_blocks.#.x_block.adaLN_modulation.1", (f"{block}norm1.linear",)
    for side, name in (("x_block", "ff"), ("context_block", "ff_context")):
        yield f"joint_blocks.#.{side}.mlp.fc1", (f"{block}{name}.net.0.proj",)
        yield f"joint_blocks.#.{side}.mlp.fc2", (f"{block}{name}.net.2",)
    yield "pos_embed", ("pos_embed.pos_embed",)
    yield "x_embedder.proj", ("pos_embed.proj",)
    yield "context_embedder", ("context_embedder",)
    for original, name in (("t_embedder", "timestep_embedder"), ("y_embedder", "text_embedder")):
        yield f"{original}.mlp.0", (f"time_text_embed.{name}.linear_1",)
        yield f"{original}.mlp.2", (f"time_text_embed.{name}.linear_2",)
    yield "final_layer.adaLN_modulation.1", ("~norm_out.linear",)
    yield "final_layer.linear", ("proj_out",)


SD3 = Architecture(
    name="Stable Diffusion 3",
    classes=("SD3Transformer2DModel",),
    signs=(("joint_blocks.0.x_block.attn.qkv.weight",),),
    medium="image",
    original_names=_original_names,
    folds=JOINT_FOLDS,
    clock=Clock(),
    gguf="sd3",
    readers=(
        Reader("comfyui"),
        Reader("stable-diffusion.cpp"),
        Reader("diffusers"),
        Reader("diffusers", names="diffusers"),
    ),
)
