"""Wan 2.1 and 2.2. Original names: https://github.com/Wan-Video/Wan2.1."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from workbench.architectures.folds import (
    SHARED,
    Config,
    FoldedBlocks,
    FoldPlace,
    Folds,
    Has,
    LeftAlone,
    NormFold,
    ValueFold,
)
from workbench.architectures.record import Architecture, Clock, Reader, Rule


def _original_names(tensors: Collection[str]) -> Iterator[Rule]:
    for attention, name in (("self_attn", "attn1"), ("cross_attn", "attn2")):
        for original, leaf in (
            ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"), ("norm_q", "norm_q"), ("norm_k", "norm_k"),
            ("k_img", "add_k_proj"), ("v_img", "add_v_proj"), ("norm_k_img", "norm_added_k"),
        ):  # fmt: skip
            yield f"blocks.#.{attention}.{original}", (f"blocks.#.{name}.{leaf}",)
    yield "blocks.#.ffn.0", ("blocks.#.ffn.net.0.proj",)
    yield "blocks.#.ffn.2", ("blocks.#.ffn.net.2",)
    # The norm before the attention to the text is the third of the original's, the second of diffusers'.
    yield "blocks.#.norm3", ("blocks.#.norm2",)
    yield "blocks.#.modulation", ("blocks.#.scale_shift_table",)
    condition = "condition_embedder."
    for original, name in (("time_embedding", "time_embedder"), ("text_embedding", "text_embedder")):
        yield f"{original}.0", (f"{condition}{name}.linear_1",)
        yield f"{original}.2", (f"{condition}{name}.linear_2",)
    yield "time_projection.1", (f"{condition}time_proj",)
    for number, name in ((0, "norm1"), (1, "ff.net.0.proj"), (3, "ff.net.2"), (4, "norm2")):
        yield f"img_emb.proj.{number}", (f"{condition}image_embedder.{name}",)
    yield "patch_embedding", ("patch_embedding",)
    yield "head.head", ("proj_out",)
    yield "head.modulation", ("scale_shift_table",)


def _folds_of_block(config: Config, has: Has) -> Iterator[FoldPlace]:
    yield ValueFold(("attn1.to_v",), ("attn1.to_out.0",))
    yield NormFold("norm2", ("attn2.to_q",))
    added = ("attn2.add_v_proj",) if has("attn2.add_v_proj") else ()
    yield ValueFold(("attn2.to_v", *added), ("attn2.to_out.0",))


def _folds_outside(config: Config, has: Has) -> Iterator[FoldPlace]:
    yield LeftAlone("The modulation condition_embedder.time_proj", SHARED)


WAN = Architecture(
    name="Wan",
    classes=("WanTransformer3DModel",),
    signs=(("blocks.0.self_attn.norm_q.weight", "text_embedding.2.weight", "head.modulation"),),
    medium="image",
    roles=(
        ("modulation", r"\btime_proj(ection)?(\.\d+)?$"),  # one projection for all blocks
        ("attention.k", r"\bk_img$"),
        ("attention.v", r"\bv_img$"),
    ),
    original_names=_original_names,
    folds=Folds(
        (
            FoldedBlocks(
                "blocks",
                r"attn[12]\.(to_[qkv]|to_out\.0|add_[kv]_proj|norm_q|norm_k|norm_added_k)|norm2|ffn\.net\.(0\.proj|2)",
                _folds_of_block,
            ),
        ),
        _folds_outside,
    ),
    clock=Clock(),
    high_precision=r"\.modulation$|(^|\.)img_emb\.emb_pos$",
    gguf="wan",
    readers=(
        Reader("comfyui"),
        Reader("stable-diffusion.cpp"),
        Reader("diffusers"),
        Reader("diffusers", names="diffusers"),
    ),
)
