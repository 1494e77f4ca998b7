"""GGUF, as ComfyUI-GGUF, diffusers, stable-diffusion.cpp and llama.cpp read it: what it can store, and the target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.architectures import is_high_precision
from workbench.checkpoint import Checkpoint, denoiser_of
from workbench.formats.gguf.payload import GgufPayload, GgufWriter
from workbench.formats.gguf.tensors import SMALL, is_decoded, kept_option
from workbench.formats.target import Check, Trial, smaller
from workbench.plan import Layer, Option, Plan
from workbench.quantize import FAST, Encoding, Encodings, Error, measure_error
from workbench.quantize.ggml import FORMATS, decode_ggml, encode_ggml
from workbench.quantize.half import HALF, half_trial, to_half

_BY_WIDTH: Mapping[int, str] = MappingProxyType(
    {2: "Q2_K", 3: "Q3_K", 4: "Q4_K", 5: "Q5_K", 6: "Q6_K", 7: "Q8_0", 8: "Q8_0"}
)
"""The most faithful format of each nominal width; there is none of 7 bits."""

_BY_WIDTH_NARROW: Mapping[int, str] = MappingProxyType(
    {2: "Q4_0", 3: "Q4_0", 4: "Q5_0", 5: "Q5_1", 6: "Q8_0", 7: "Q8_0", 8: "Q8_0"}
)
"""The same for rows that are no multiple of 256, as llama.cpp falls back."""


class GgufTarget:
    """The export format GGUF."""

    name = "gguf"
    is_exact = True

    def options(self, layer: Layer) -> Sequence[Option]:
        """Every block format whose blocks divide the rows, fewest bytes first; F16 where none does.

        Convolutions that embed patches keep their shape, which diffusers asks for, and those of three axes are decoded
        by nobody, so that both are at least F16; others are stored as [out, in·kh·kw]. Embeddings that are no tables of
        tokens are kept.
        """
        kept = kept_option(layer)
        found = [_option(layer, name) for name in _legal(layer)]
        if not found and not _stays(layer):
            found = [_option(layer, HALF)]
        return sorted(
            [*(option for option in found if option.nbytes < kept.nbytes), kept],
            key=lambda option: option.nbytes,
        )

    def stores(self, layer: Layer, option: Option) -> bool:
        """Whether the option is offered."""
        return option in self.options(layer)

    def quantized(self, layer: Layer, bits: int, scheme: str, group_size: int) -> Option:
        """The option of a width: its K-quant, or Q8_0; where rows do not fit, llama.cpp's fallback; then F16."""
        legal, kept = _legal(layer), kept_option(layer)
        if _stays(layer):
            return kept
        for table in (_BY_WIDTH, _BY_WIDTH_NARROW):
            if table[bits] in legal:
                return smaller(_option(layer, table[bits]), kept)
        return smaller(_option(layer, HALF), kept)

    def error(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> Error:
        """What rows of a layer [rows, cols] lose when they are stored as an option."""
        if option.scheme == HALF:
            return measure_error(weights, to_half(weights).astype(np.float32), tensor, row_start)
        return encode_ggml(weights, option.scheme, tensor, row_start, encoding).error

    def measure(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> Trial:
        """What each row of a layer [rows, cols] loses, and the codes."""
        if option.scheme == HALF:
            return Trial(*half_trial(weights, tensor, row_start))
        encoded = encode_ggml(weights, option.scheme, tensor, row_start, encoding)
        return Trial(encoded.sums, encoded.code_counts)

    def decoded(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> NDArray[np.float32]:
        """What rows of a layer [rows, cols] come back as."""
        if option.scheme == HALF:
            return to_half(weights).astype(np.float32)
        encoded = encode_ggml(weights, option.scheme, tensor, row_start, encoding, measured=False)
        return decode_ggml(encoded.data, option.scheme, weights.shape[1])

    def writer(self, checkpoint: Checkpoint, plan: Plan, encodings: Encodings | None = None) -> GgufWriter:
        """What writes a plan's file."""
        return GgufWriter(denoiser_of(checkpoint), plan, encodings)

    @contextmanager
    def checker(
        self, checkpoint: Checkpoint, folder: Path, encodings: Encodings | None = None
    ) -> Iterator[Check]:
        """What reads units back and compares each block with the source."""
        payload = GgufPayload(folder, watched=False)
        try:
            yield payload.checker(denoiser_of(checkpoint))
        finally:
            payload.close()

    def open(self, folder: Path) -> GgufPayload:
        """Open the file in a folder."""
        return GgufPayload(folder)


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
    if name == HALF:
        return Option(16, HALF, 0, 2 * layer.params)
    chosen = FORMATS[name]
    return Option(chosen.bits, name, chosen.group, layer.rows * chosen.row_bytes(layer.cols))
