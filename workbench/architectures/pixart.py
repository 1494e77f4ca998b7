"""PixArt-α and PixArt-Σ."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.architectures.folds import (
    SHARED,
    Config,
    FoldedBlocks,
    FoldPlace,
    Folds,
    Has,
    LeftAlone,
    ValueFold,
)
from workbench.architectures.record import Architecture, Clock


def _folds_of_block(config: Config, has: Has) -> Iterator[FoldPlace]:
    for attention in ("attn1", "attn2"):
        yield ValueFold((f"{attention}.to_v",), (f"{attention}.to_out.0",))


def _folds_outside(config: Config, has: Has) -> Iterator[FoldPlace]:
    yield LeftAlone("The modulation adaln_single", SHARED)


PIXART = Architecture(
    name="PixArt",
    classes=("PixArtTransformer2DModel",),
    medium="image",
    folds=Folds(
        (
            FoldedBlocks(
                "transformer_blocks",
                r"attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)|norm[123]",
                _folds_of_block,
            ),
        ),
        _folds_outside,
    ),
    clock=Clock(),
    high_precision="scale_shift_table",
)
