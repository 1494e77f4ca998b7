"""Folds of blocks in which text and image attend to each other, as in Stable Diffusion 3 and Flux."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.architectures.folds import (
    Config,
    FoldedBlocks,
    FoldPlace,
    Folds,
    Has,
    ModulationFold,
    ValueFold,
)


def _folds_of_block(config: Config, has: Has) -> Iterator[FoldPlace]:
    own = ("attn.to_q", "attn.to_k", "attn.to_v")
    added = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
    is_dual = has("attn2.to_q")
    parts = 9 if is_dual else 6
    yield ModulationFold("norm1.linear", own, shift=0, scale=1, parts=parts)
    yield ModulationFold("norm1.linear", ("ff.net.0.proj",), shift=3, scale=4, parts=parts)
    if is_dual:
        second = ("attn2.to_q", "attn2.to_k", "attn2.to_v")
        yield ModulationFold("norm1.linear", second, shift=6, scale=7, parts=parts)
        yield ValueFold(("attn2.to_v",), ("attn2.to_out.0",))
    outputs = ("attn.to_out.0", *(("attn.to_add_out",) if has("attn.to_add_out") else ()))
    yield ValueFold(("attn.to_v", "attn.add_v_proj"), outputs)
    context = "norm1_context.linear"
    if has("ff_context.net.2"):
        yield ModulationFold(context, added, shift=0, scale=1, parts=6)
        yield ModulationFold(context, ("ff_context.net.0.proj",), shift=3, scale=4, parts=6)
    else:  # the last block of Stable Diffusion 3 gives no text, and its modulation has scale before shift
        yield ModulationFold(context, added, shift=1, scale=0, parts=2)


def _folds_of_single_block(config: Config, has: Has) -> Iterator[FoldPlace]:
    consumers = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
    yield ModulationFold("norm.linear", consumers, shift=0, scale=1, parts=3)


def _folds_outside(config: Config, has: Has) -> Iterator[FoldPlace]:
    yield ModulationFold("norm_out.linear", ("proj_out",), shift=1, scale=0, parts=2)


JOINT_FOLDS = Folds(
    (
        FoldedBlocks(
            "transformer_blocks",
            r"norm1(_context)?\.linear|attn2?\.(to_[qkv]|to_out\.0|norm_[qk])"
            r"|attn\.(add_[qkv]_proj|to_add_out|norm_added_[qk])|ff(_context)?\.net\.(0\.proj|2)",
            _folds_of_block,
        ),
        FoldedBlocks(
            "single_transformer_blocks",
            r"norm\.linear|proj_mlp|proj_out|attn\.(to_[qkv]|norm_[qk])",
            _folds_of_single_block,
        ),
    ),
    _folds_outside,
)
