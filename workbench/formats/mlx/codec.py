"""The codec of MLX safetensors, and what they can store.

A quantized module has ``weight`` uint32 [out, in·bits/32], an LSB-first bitstream along the row, and ``scales``
and ``biases`` [out, in/group_size] in the source's float dtype; w = q·scale + bias. config.json names group
size and bits, by module where they differ (https://ml-explore.github.io/mlx, mlx.core.quantize).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES, Checkpoint, TensorInfo
from workbench.checkpoint.blocks import Block
from workbench.formats.codec import BlockCheck, Encoder
from workbench.formats.format import TargetSettings, kept, smaller
from workbench.formats.safetensors.codec import SafetensorsCodec, merged_config, module_of, scale_dtype
from workbench.formats.safetensors.layout import Piece
from workbench.plan import Layer, Option, Plan
from workbench.quantize import Encoded, Rows, count_codes
from workbench.quantize.affine.offset import cut_groups, decode_offset, encode_offset, offset_error

BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)
SCHEME = "affine"
REPLACED: Mapping[str, str] = MappingProxyType({"F8_E4M3": "BF16", "F8_E5M2": "BF16", "F64": "F32"})
"""Dtypes that `mlx.core.load` refuses or reads as bytes, and what kept tensors of them are stored as."""


def options(layer: Layer, settings: TargetSettings) -> Sequence[Option]:
    """Widths 2 to 6 and 8 in groups of 32, 64 or 128, where the rows divide; convolutions are kept."""
    found = [_option(layer, bits, group) for bits in BITS for group in _groups(layer)]
    return sorted([*found, _kept(layer)], key=lambda option: option.nbytes)


def nearest(layer: Layer, bits: int, scheme: str, group_size: int, settings: TargetSettings) -> Option:
    """The option of a width or the next wider, a group size or the next smaller; kept where that takes less."""
    groups, keep = _groups(layer), _kept(layer)
    if not groups:
        return keep
    width = next(width for width in BITS if width >= bits)
    group = max((g for g in groups if g <= group_size), default=groups[0])
    return smaller(_option(layer, width, group), keep)


class MlxCodec(SafetensorsCodec):
    """Codes, scales and biases."""

    metadata = MappingProxyType({"format": "mlx"})
    replaced_dtypes = REPLACED

    def pieces(self, tensor: TensorInfo, option: Option) -> Sequence[Piece]:
        rows, cols = tensor.shape
        module = module_of(tensor.name)
        scales = (rows, cols // option.group_size)
        dtype = scale_dtype(tensor.dtype)
        return (
            Piece(f"{module}.weight", "U32", (rows, cols * option.bits // 32)),
            Piece(f"{module}.scales", dtype, scales),
            Piece(f"{module}.biases", dtype, scales),
        )

    def encode(self, rows: Rows, option: Option) -> Encoded:
        weights = rows.weights
        # Scales in the dtype of 2- and 4-byte weights, else float32.
        storage = weights.dtype if weights.dtype.itemsize in (2, 4) else np.dtype(np.float32)
        found = encode_offset(
            weights,
            option.bits,
            option.group_size,
            storage,
            rows.tensor,
            rows.row_start,
            rows.encoding,
            rows.measured,
        )
        count = partial(count_codes, found.codes, weights.shape[1], option.bits)
        return self.encoded(
            rows, option, (found.codes.view("<u4"), found.scales, found.origins), count, found.sums
        )

    def decode(self, pieces: Sequence[NDArray[Any]], option: Option, cols: int) -> NDArray[np.float32]:
        codes, scales, biases = pieces
        return decode_offset(codes.view(np.uint8), scales, biases, cols, option.bits, option.group_size)

    def check(
        self,
        weights: NDArray[Any],
        pieces: Sequence[NDArray[Any]],
        option: Option,
        block: Block,
        encoder: Encoder,
    ) -> BlockCheck:
        codes, scales, biases = pieces
        packed, name = codes.view(np.uint8), block.tensor.name
        error = offset_error(
            weights, packed, scales, biases, option.bits, option.group_size, name, block.row_start
        )
        return BlockCheck(
            name,
            weights.nbytes,
            error,
            count_codes(packed, weights.shape[1], option.bits),
            cut_groups=cut_groups(weights, scales, biases, option.bits, option.group_size),
        )

    def documents(self, checkpoint: Checkpoint, plan: Plan) -> Mapping[str, bytes]:
        quantization = quantization_config(checkpoint.layers, plan)
        return merged_config(checkpoint, quantization=quantization, quantization_config=quantization)


def quantization_config(layers: Sequence[Layer], plan: Plan) -> dict[str, Any]:
    """The ``quantization`` of config.json: the commonest width and group size, and every module that differs."""
    choices = {layer.name: plan.choices[layer.name] for layer in layers if layer.kind != "conv"}
    counts = Counter((o.group_size, o.bits) for o in choices.values() if not o.is_kept)
    group_size, bits = counts.most_common(1)[0][0] if counts else (64, 4)
    config: dict[str, Any] = {"group_size": group_size, "bits": bits, "mode": SCHEME}
    for name, option in choices.items():
        if option.is_kept:
            config[module_of(name)] = False
        elif (option.group_size, option.bits) != (group_size, bits):
            config[module_of(name)] = {"group_size": option.group_size, "bits": option.bits}
    return config


def _kept(layer: Layer) -> Option:
    return kept(layer, DTYPES[REPLACED.get(layer.dtype, layer.dtype)].itemsize)


def _groups(layer: Layer) -> list[int]:
    if layer.kind == "conv" or len(layer.shape) != 2:
        return []
    return [group for group in GROUP_SIZES if layer.cols % group == 0]


def _option(layer: Layer, bits: int, group_size: int) -> Option:
    scales_and_biases = 2 * DTYPES[scale_dtype(layer.dtype)].itemsize * (layer.cols // group_size)
    return Option(bits, SCHEME, group_size, layer.rows * (layer.cols * bits // 8 + scales_and_biases))
