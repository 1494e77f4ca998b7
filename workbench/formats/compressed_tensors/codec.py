"""The codec of compressed-tensors, format ``pack-quantized``, and what it can store.

A quantized module has ``weight_packed`` int32 [out, ceil(in·bits/32)], an LSB-first bitstream along the row;
``weight_scale`` [out, groups] in the source's float dtype; ``weight_shape`` int64 [2]; and where it is asymmetric
``weight_zero_point`` int32 [ceil(out·bits/32), groups], a bitstream down each column. Codes and zero points are stored
unsigned, 2^(bits−1) more than the signed values that the package speaks of; w = (q − z)·scale, which it computes in the
dtype of the scale. config.json names the modules of each width, group size and symmetry
(https://github.com/vllm-project/compressed-tensors, compressors/pack_quantized).

Up to version 0.17 no code crossed a word of 32 bits. Widths of 2, 4 and 8 bits are the same in all versions; 3, 5, 6
and 7 need 0.18 or later, and are offered where the settings say ``all_widths``.
"""

from __future__ import annotations

import math
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
from workbench.kernels import load_kernels
from workbench.plan import Layer, Option, Plan
from workbench.quantize import Encoded, Rows, count_codes
from workbench.quantize.affine.zero_point import decode_zero_point, encode_zero_point, zero_point_error

BITS = (2, 4, 8)
"""Widths that every version of the package packs alike."""
ALL_BITS = (2, 3, 4, 5, 6, 7, 8)
GROUP_SIZES = (32, 64, 128)
"""Those that vLLM's kernels take; a group may also be a whole row, strategy ``channel``."""
SCHEMES = ("asymmetric", "symmetric")
FEW_ROWS = 8
"""Up to so many rows, their 4-bit zero points are a single row of words, which the package (0.20) fails to unpack."""
VERSION = "0.18.0"
"""The oldest version of the package that reads every width."""
WIDE_NOTE = "3, 5, 6 and 7 bits need compressed-tensors 0.18 or later; 0.17 and older read them wrong"
"""What config.json says of other widths than `BITS`."""


def options(layer: Layer, settings: TargetSettings) -> Sequence[Option]:
    """Groups of 32, 64 or 128 where the rows divide, or of a row; only linear layers."""
    found = _packed(layer, _widths(settings), _offered_schemes(settings))
    return sorted([*found, _kept(layer)], key=lambda option: option.nbytes)


def stores(layer: Layer, option: Option) -> bool:
    """Whether the format has the option, at any width and in either scheme."""
    return option in _packed(layer, ALL_BITS, SCHEMES) or option == _kept(layer)


def nearest(layer: Layer, bits: int, scheme: str, group_size: int, settings: TargetSettings) -> Option:
    """The option of a width or the next wider, a group size or the next smaller; kept where that takes less."""
    keep, groups = _kept(layer), _groups(layer)
    if not groups:
        return keep
    width = next(width for width in _widths(settings) if width >= bits)
    # A row is the last resort, whatever its length.
    group = max((g for g in groups if g in GROUP_SIZES and g <= group_size), default=groups[0])
    scheme = scheme if scheme in _schemes(layer, width, _offered_schemes(settings)) else "symmetric"
    return smaller(_option(layer, width, scheme, group), keep)


class CompressedTensorsCodec(SafetensorsCodec):
    """Packed codes, scales, the shape, and zero points where there are any."""

    # So that no word of the zero points, which are packed down the columns, belongs to two blocks.
    row_multiple = 32
    metadata = MappingProxyType({"format": "pt"})

    def pieces(self, tensor: TensorInfo, option: Option) -> Sequence[Piece]:
        rows, cols = tensor.shape
        module, groups = module_of(tensor.name), cols // option.group_size
        packed = Piece(f"{module}.weight_packed", "I32", (rows, _words(cols, option.bits)))
        scale = Piece(f"{module}.weight_scale", scale_dtype(tensor.dtype), (rows, groups))
        shape = Piece(f"{module}.weight_shape", "I64", (2,), content=np.array([rows, cols], "<i8").tobytes())
        if option.scheme == "symmetric":
            return packed, scale, shape
        zeros = Piece(
            f"{module}.weight_zero_point", "I32", (_words(rows, option.bits), groups), column_bits=option.bits
        )
        return packed, scale, zeros, shape

    def encode(self, rows: Rows, option: Option) -> Encoded:
        weights = rows.weights
        # Scales in the dtype of 2- and 4-byte weights, else float32.
        storage = weights.dtype if weights.dtype.itemsize in (2, 4) else np.dtype(np.float32)
        symmetric = option.scheme == "symmetric"
        found = encode_zero_point(
            weights, option.bits, option.group_size, symmetric, storage,
            rows.tensor, rows.row_start, rows.encoding, rows.measured,
        )  # fmt: skip
        cols = weights.shape[1]

        def store() -> Sequence[NDArray[Any]]:
            zeros = () if symmetric else (_pack_columns(found.origins, option.bits),)
            return (_in_words(found.codes), found.scales, *zeros)

        return Encoded(
            rows,
            store,
            partial(
                decode_zero_point,
                found.codes, found.scales, found.origins, cols, option.bits, option.group_size,
            ),
            partial(count_codes, found.codes, cols, option.bits),
            found.sums if rows.measured else None,
        )  # fmt: skip

    def decode(self, pieces: Sequence[NDArray[Any]], option: Option, cols: int) -> NDArray[np.float32]:
        return decode_zero_point(*_unpacked(pieces, option, cols), cols, option.bits, option.group_size)

    def check(
        self,
        weights: NDArray[Any],
        pieces: Sequence[NDArray[Any]],
        option: Option,
        block: Block,
        encoder: Encoder,
    ) -> BlockCheck:
        cols, name = weights.shape[1], block.tensor.name
        codes, scales, zeros = _unpacked(pieces, option, cols)
        error = zero_point_error(
            weights, codes, scales, zeros, option.bits, option.group_size, name, block.row_start
        )
        return BlockCheck(name, weights.nbytes, error, count_codes(codes, cols, option.bits))

    def documents(self, checkpoint: Checkpoint, plan: Plan) -> Mapping[str, bytes]:
        return merged_config(checkpoint, quantization_config=quantization_config(checkpoint.layers, plan))


def quantization_config(layers: Sequence[Layer], plan: Plan) -> dict[str, Any]:
    """The ``quantization_config`` of config.json: a group for each width, group size and symmetry."""
    modules: dict[Option, list[str]] = {}
    ignore = []
    for layer in layers:
        option = plan.choices[layer.name]
        if not option.is_kept:
            size = 0 if _is_channel(option, layer) else option.group_size
            kind = Option(option.bits, option.scheme, size, 0)
            modules.setdefault(kind, []).append(module_of(layer.name))
        elif layer.kind == "linear":
            ignore.append(module_of(layer.name))
    ordered = sorted(modules, key=lambda kind: (-len(modules[kind]), kind.bits, kind.scheme, kind.group_size))
    note = {"note": WIDE_NOTE} if any(kind.bits not in BITS for kind in ordered) else {}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "version": VERSION,
        "config_groups": {
            f"group_{number}": {
                "targets": modules[kind],
                "weights": {
                    "num_bits": kind.bits,
                    "type": "int",
                    "symmetric": kind.scheme == "symmetric",
                    "strategy": "group" if kind.group_size else "channel",
                    "group_size": kind.group_size or None,
                    "dynamic": False,
                },
                "input_activations": None,
                "output_activations": None,
            }
            for number, kind in enumerate(ordered)
        },
        "ignore": ignore,
        "kv_cache_scheme": None,
        **note,
    }


def _unpacked(
    rows: Sequence[NDArray[Any]], option: Option, cols: int
) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.uint8]]:
    """Codes, each row padded to a whole byte, scales and zero points of rows of the pieces."""
    packed, scales = rows[:2]
    codes = np.ascontiguousarray(packed.view(np.uint8)[:, : (cols * option.bits + 7) // 8])
    if option.scheme == "symmetric":
        return codes, scales, np.full(scales.shape, 1 << (option.bits - 1), np.uint8)
    return codes, scales, _unpack_columns(rows[2], len(scales), option.bits)


def _in_words(codes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Rows of bytes as rows of whole words."""
    if codes.shape[1] % 4 == 0:
        return codes.view("<i4")
    padded = np.zeros((len(codes), -(-codes.shape[1] // 4) * 4), np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.view("<i4")


def _pack_columns(codes: NDArray[np.uint8], bits: int) -> NDArray[np.int32]:
    """Codes [rows, columns] as int32 [ceil(rows·bits/32), columns]: each column one LSB-first bitstream."""
    rows, columns = codes.shape
    packed = np.empty((columns, (rows * bits + 7) // 8), np.uint8)
    flat = np.ascontiguousarray(codes.T).reshape(-1)
    load_kernels().pack_bits(flat, columns, rows, bits, packed.reshape(-1))
    return np.ascontiguousarray(_in_words(packed).T)


def _unpack_columns(packed: NDArray[np.int32], rows: int, bits: int) -> NDArray[np.uint8]:
    """The inverse of `_pack_columns`, uint8 [rows, columns]."""
    columns = packed.shape[1]
    stream = np.ascontiguousarray(packed.T).view(np.uint8)[:, : (rows * bits + 7) // 8]
    codes = np.empty((columns, rows), np.uint8)
    flat = np.ascontiguousarray(stream).reshape(-1)
    load_kernels().unpack_bits(flat, columns, rows, bits, codes.reshape(-1))
    return np.ascontiguousarray(codes.T)


def _words(count: int, bits: int) -> int:
    return math.ceil(count * bits / 32)


def _groups(layer: Layer) -> list[int]:
    """The group sizes for a layer, the smallest first and a whole row last."""
    if layer.kind != "linear" or len(layer.shape) != 2:
        return []
    return [*(group for group in GROUP_SIZES if layer.cols % group == 0 and group != layer.cols), layer.cols]


def _widths(settings: TargetSettings) -> Sequence[int]:
    return ALL_BITS if settings.all_widths else BITS


def _offered_schemes(settings: TargetSettings) -> Sequence[str]:
    return SCHEMES if settings.scheme == "asymmetric" else ("symmetric",)


def _kept(layer: Layer) -> Option:
    return kept(layer, DTYPES[layer.dtype].itemsize)


def _is_channel(option: Option, layer: Layer) -> bool:
    return option.group_size == layer.cols


def _packed(layer: Layer, widths: Sequence[int], schemes: Sequence[str]) -> list[Option]:
    return [
        _option(layer, bits, scheme, group)
        for bits in widths
        for scheme in _schemes(layer, bits, schemes)
        for group in _groups(layer)
    ]


def _schemes(layer: Layer, bits: int, schemes: Sequence[str]) -> Sequence[str]:
    return ("symmetric",) if bits == 4 and layer.rows <= FEW_ROWS else schemes


def _option(layer: Layer, bits: int, scheme: str, group_size: int) -> Option:
    groups = layer.cols // group_size
    zeros = 0 if scheme == "symmetric" else 4 * _words(layer.rows, bits) * groups
    scales = DTYPES[scale_dtype(layer.dtype)].itemsize * layer.rows * groups
    shape = 2 * DTYPES["I64"].itemsize
    nbytes = 4 * layer.rows * _words(layer.cols, bits) + scales + zeros + shape
    return Option(bits, scheme, group_size, nbytes)
