"""HunyuanVideo. Original names: https://github.com/Tencent-Hunyuan/HunyuanVideo."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from workbench.architectures.record import Architecture, Clock, Reader, Rule


def _original_names(tensors: Collection[str]) -> Iterator[Rule]:
    block, single = "transformer_blocks.#.", "single_transformer_blocks.#."
    for side, attention, norm, out, theirs in (
        ("img", ("to_q", "to_k", "to_v"), "norm_", "to_out.0", ""),
        ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"), "norm_added_", "to_add_out", "_context"),
    ):
        yield f"double_blocks.#.{side}_attn_qkv", tuple(f"{block}attn.{name}" for name in attention)
        yield f"double_blocks.#.{side}_attn_q_norm", (f"{block}attn.{norm}q",)
        yield f"double_blocks.#.{side}_attn_k_norm", (f"{block}attn.{norm}k",)
        yield f"double_blocks.#.{side}_attn_proj", (f"{block}attn.{out}",)
        yield f"double_blocks.#.{side}_mod.linear", (f"{block}norm1{theirs}.linear",)
        yield f"double_blocks.#.{side}_mlp.fc1", (f"{block}ff{theirs}.net.0.proj",)
        yield f"double_blocks.#.{side}_mlp.fc2", (f"{block}ff{theirs}.net.2",)
    yield (
        "single_blocks.#.linear1",
        (f"{single}attn.to_q", f"{single}attn.to_k", f"{single}attn.to_v", f"{single}proj_mlp"),
    )
    for original, name in (
        ("linear2", "proj_out"), ("q_norm", "attn.norm_q"), ("k_norm", "attn.norm_k"),
        ("modulation.linear", "norm.linear"),
    ):  # fmt: skip
        yield f"single_blocks.#.{original}", (single + name,)
    theirs, refiner = (
        "context_embedder.token_refiner.refiner_blocks.#.",
        "txt_in.individual_token_refiner.blocks.#.",
    )
    yield f"{refiner}self_attn_qkv", (f"{theirs}attn.to_q", f"{theirs}attn.to_k", f"{theirs}attn.to_v")
    for original, name in (
        ("self_attn_proj", "attn.to_out.0"), ("norm1", "norm1"), ("norm2", "norm2"), ("mlp.fc1", "ff.net.0.proj"),
        ("mlp.fc2", "ff.net.2"), ("adaLN_modulation.1", "norm_out.linear"),
    ):  # fmt: skip
        yield refiner + original, (theirs + name,)
    yield "txt_in.input_embedder", ("context_embedder.proj_in",)
    for original, name in (
        ("time_in.mlp.{}", "time_text_embed.timestep_embedder"),
        ("guidance_in.mlp.{}", "time_text_embed.guidance_embedder"),
        ("txt_in.t_embedder.mlp.{}", "context_embedder.time_text_embed.timestep_embedder"),
    ):
        yield original.format(0), (f"{name}.linear_1",)
        yield original.format(2), (f"{name}.linear_2",)
    for number, original in ((1, "in"), (2, "out")):
        yield f"vector_in.{original}_layer", (f"time_text_embed.text_embedder.linear_{number}",)
        yield (
            f"txt_in.c_embedder.linear_{number}",
            (f"context_embedder.time_text_embed.text_embedder.linear_{number}",),
        )
    yield "img_in.proj", ("x_embedder.proj",)
    yield "final_layer.adaLN_modulation.1", ("~norm_out.linear",)
    yield "final_layer.linear", ("proj_out",)


HUNYUAN_VIDEO = Architecture(
    name="HunyuanVideo",
    classes=("HunyuanVideoTransformer3DModel",),
    signs=(
        (
            "double_blocks.0.img_attn_proj.weight",
            "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.weight",
        ),
    ),
    medium="image",
    original_names=_original_names,
    clock=Clock(),
    gguf="hyvid",
    readers=(
        Reader("comfyui"),
        # diffusers converts the original names at the width of the published models alone.
        Reader("diffusers", width=3072),
        Reader("diffusers", names="diffusers"),
    ),
)
