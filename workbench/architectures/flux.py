"""Flux. Original names: https://github.com/black-forest-labs/flux."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from workbench.architectures.joint_blocks import JOINT_FOLDS
from workbench.architectures.record import Architecture, Clock, Reader, Rule


def _original_names(tensors: Collection[str]) -> Iterator[Rule]:
    for ours, theirs in (("img", ""), ("txt", "_context")):
        block, attention, qkv = "double_blocks.#.", "transformer_blocks.#.attn.", ("q", "k", "v")
        parts = [f"to_{x}" if ours == "img" else f"add_{x}_proj" for x in qkv]
        norm = "norm_" if ours == "img" else "norm_added_"
        yield f"{block}{ours}_mod.lin", (f"transformer_blocks.#.norm1{theirs}.linear",)
        yield f"{block}{ours}_attn.qkv", tuple(attention + part for part in parts)
        yield f"{block}{ours}_attn.norm.query_norm.scale", (f"{attention}{norm}q.weight",)
        yield f"{block}{ours}_attn.norm.key_norm.scale", (f"{attention}{norm}k.weight",)
        yield f"{block}{ours}_attn.proj", (attention + ("to_out.0" if ours == "img" else "to_add_out"),)
        yield f"{block}{ours}_mlp.0", (f"transformer_blocks.#.ff{theirs}.net.0.proj",)
        yield f"{block}{ours}_mlp.2", (f"transformer_blocks.#.ff{theirs}.net.2",)
    single = "single_transformer_blocks.#."
    yield "single_blocks.#.modulation.lin", (f"{single}norm.linear",)
    yield (
        "single_blocks.#.linear1",
        (f"{single}attn.to_q", f"{single}attn.to_k", f"{single}attn.to_v", f"{single}proj_mlp"),
    )
    yield "single_blocks.#.linear2", (f"{single}proj_out",)
    yield "single_blocks.#.norm.query_norm.scale", (f"{single}attn.norm_q.weight",)
    yield "single_blocks.#.norm.key_norm.scale", (f"{single}attn.norm_k.weight",)
    embedders = {
        "time_in": "timestep_embedder",
        "vector_in": "text_embedder",
        "guidance_in": "guidance_embedder",
    }
    for original, name in embedders.items():
        yield f"{original}.in_layer", (f"time_text_embed.{name}.linear_1",)
        yield f"{original}.out_layer", (f"time_text_embed.{name}.linear_2",)
    yield "img_in", ("x_embedder",)
    yield "txt_in", ("context_embedder",)
    yield "final_layer.adaLN_modulation.1", ("~norm_out.linear",)
    yield "final_layer.linear", ("proj_out",)


FLUX = Architecture(
    name="Flux",
    classes=("FluxTransformer2DModel",),
    signs=(("double_blocks.0.img_attn.proj.weight",),),
    medium="image",
    roles=(("mlp.out", r"\bsingle\w*_blocks\.\d+\.proj_out$"),),
    original_names=_original_names,
    folds=JOINT_FOLDS,
    clock=Clock(),
    gguf="flux",
    readers=(
        Reader("comfyui"),
        Reader("stable-diffusion.cpp"),
        # diffusers converts the original names at the width of the published models alone.
        Reader("diffusers", width=3072),
        Reader("diffusers", names="diffusers"),
    ),
)
