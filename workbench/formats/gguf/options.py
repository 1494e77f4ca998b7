"""What GGUF can store: the block formats of GGML, and plain types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from workbench.architectures import is_high_precision
from workbench.formats.format import TargetSettings, smaller
from workbench.formats.gguf.tensors import SMALL, is_decoded, kept_option
from workbench.plan import Layer, Option
from workbench.quantize.float16 import FLOAT16
from workbench.quantize.ggml import FORMATS

_BY_WIDTH: Mapping[int, str] = MappingProxyType(
    {2: "Q2_K", 3: "Q3_K", 4: "Q4_K", 5: "Q5_K", 6: "Q6_K", 7: "Q8_0", 8: "Q8_0"}
)
"""The most faithful format of each nominal width; there is none of 7 bits."""

_BY_WIDTH_NARROW: Mapping[int, str] = MappingProxyType(
    {2: "Q4_0", 3: "Q4_0", 4: "Q5_0", 5: "Q5_1", 6: "Q8_0", 7: "Q8_0", 8: "Q8_0"}
)
"""The same for rows that are no multiple of 256, as llama.cpp falls back."""


def options(layer: Layer, settings: TargetSettings) -> Sequence[Option]:
    """Every block format whose blocks divide the rows, fewest bytes first; F16 where none does.

    Convolutions that embed patches keep their shape, which diffusers asks for, and those of three axes are decoded by
    nobody, so that both are at least F16; others are stored as [out, in·kh·kw]. Embeddings that are no tables of tokens
    are kept.
    """
    kept = kept_option(layer)
    found = [_option(layer, name) for name in _legal(layer)]
    if not found and not _stays(layer):
        found = [_option(layer, FLOAT16)]
    return sorted(
        [*(option for option in found if option.nbytes < kept.nbytes), kept],
        key=lambda option: option.nbytes,
    )


def nearest(layer: Layer, bits: int, scheme: str, group_size: int, settings: TargetSettings) -> Option:
    """The option of a width: its K-quant, or Q8_0; where rows do not fit, llama.cpp's fallback; then F16."""
    legal, kept = _legal(layer), kept_option(layer)
    if _stays(layer):
        return kept
    for table in (_BY_WIDTH, _BY_WIDTH_NARROW):
        if table[bits] in legal:
            return smaller(_option(layer, table[bits]), kept)
    return smaller(_option(layer, FLOAT16), kept)


def _stays(layer: Layer) -> bool:
    is_bare_table = layer.kind == "embedding" and not is_decoded(layer)
    return layer.params <= SMALL or is_high_precision(layer.name) or is_bare_table


def _legal(layer: Layer) -> list[str]:
    """The block formats that a layer can have."""
    embeds_patches = layer.kind == "conv" and layer.role == "embedding"
    if (
        _stays(layer)
        or embeds_patches
        or not is_decoded(layer)
        or (layer.kind != "conv" and len(layer.shape) != 2)
    ):
        return []
    return [name for name, chosen in FORMATS.items() if layer.cols % chosen.block == 0]


def _option(layer: Layer, name: str) -> Option:
    if name == FLOAT16:
        return Option(16, FLOAT16, 0, 2 * layer.params)
    chosen = FORMATS[name]
    return Option(chosen.bits, name, chosen.group, layer.rows * chosen.row_bytes(layer.cols))
