"""DiT, in diffusers' names."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.architectures.folds import (
    Config,
    FeedForwardFold,
    FoldedBlocks,
    FoldPlace,
    Folds,
    Has,
    ModulationFold,
    ValueFold,
)
from workbench.architectures.record import Architecture, Clock


def _folds_of_block(config: Config, has: Has) -> Iterator[FoldPlace]:
    attention = ("attn1.to_q", "attn1.to_k", "attn1.to_v")
    yield ModulationFold("norm1.linear", attention, shift=0, scale=1, parts=6)
    yield ValueFold(("attn1.to_v",), ("attn1.to_out.0",))
    yield ModulationFold("norm1.linear", ("ff.net.0.proj",), shift=3, scale=4, parts=6)
    yield FeedForwardFold("ff")


def _folds_outside(config: Config, has: Has) -> Iterator[FoldPlace]:
    yield ModulationFold("proj_out_1", ("proj_out_2",), shift=0, scale=1, parts=2)


DIT = Architecture(
    name="DiT",
    classes=("DiTTransformer2DModel",),
    medium="image",
    roles=(
        # The table of labels sits inside the time embedder of norm1: norm1.emb.class_embedder.embedding_table.
        ("embedding", r"\bembedding_table$"),
        ("modulation", r"^proj_out_1$"),  # shift and scale before the last projection
        ("head", r"^proj_out_2$"),
    ),
    folds=Folds(
        (
            FoldedBlocks(
                "transformer_blocks",
                r"norm1\.(linear|emb\..+)|norm3|attn1\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)",
                _folds_of_block,
            ),
        ),
        _folds_outside,
    ),
    clock=Clock(),
)
