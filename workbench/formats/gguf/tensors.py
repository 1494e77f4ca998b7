"""How the tensors of a checkpoint are stored in a GGUF file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workbench.architectures import is_high_precision
from workbench.checkpoint import DTYPES, Checkpoint, TensorInfo
from workbench.errors import MetadataError, ValidationError
from workbench.formats.gguf.families import MAX_DIMS, Family
from workbench.formats.gguf.layout import GgufPiece
from workbench.formats.kept import narrowed
from workbench.plan import KEEP, Layer, Option, Plan
from workbench.quantize.float16 import FLOAT16
from workbench.quantize.ggml import FORMATS

SMALL: Final = 1024
"""Tensors of at most so many weights are stored in float32: a runtime gains nothing by less."""

_KEPT: Mapping[str, str] = MappingProxyType(
    {
        "F64": "F32", "F32": "F32", "F16": "F16", "BF16": "BF16", "F8_E4M3": "F16", "F8_E5M2": "F16", "I64": "I64",
        "I32": "I32", "I16": "I16", "I8": "I8", "U8": "I16", "BOOL": "I8", "U16": "I32", "U32": "I64",
    }
)  # fmt: skip
"""The type that holds every value of a dtype; of F64, which no runtime reads, the nearest ones."""

_DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16),
        "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    }
)  # fmt: skip
"""The dtype of each type that is no block format."""


@dataclass(frozen=True)
class Stored:
    """A tensor of a checkpoint, as a GGUF file has it."""

    source: TensorInfo
    """Its name, dtype and shape in the checkpoint."""
    name: str
    """Its name in the file."""
    kind: str
    """Its type in the file."""
    heads: int = 0
    """Heads within which its rows are interleaved; 0 where they are as in the checkpoint."""

    @property
    def is_blocks(self) -> bool:
        """Whether it is in a block format."""
        return self.kind in FORMATS

    @property
    def piece(self) -> GgufPiece:
        """What the file says of it."""
        return GgufPiece(self.name, self.kind, self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in the file: that of the checkpoint, unless that has too many axes or blocks go along them."""
        shape = self.source.shape or (1,)
        if len(shape) > MAX_DIMS or (self.is_blocks and len(shape) > 2):
            return shape[0], math.prod(shape[1:])
        return shape

    @property
    def rows(self) -> int:
        """Rows, as the checkpoint reads it."""
        return self.source.shape[0] if self.source.shape else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in the file."""
        cols = math.prod(self.source.shape[1:])
        return FORMATS[self.kind].row_bytes(cols) if self.is_blocks else cols * _DTYPES[self.kind].itemsize

    def place(self, row: int) -> int:
        """Where a row of the checkpoint is in the file: halves of a head are interleaved for llama.cpp's rotation."""
        if not self.heads:
            return row
        size = self.rows // self.heads
        head, inside = divmod(row, size)
        half, index = divmod(inside, size // 2)
        return head * size + 2 * index + half

    def runs(self, start: int, stop: int) -> Iterable[tuple[int, int, int]]:
        """Rows of the checkpoint that lie together in the file, as (first, stop, place)."""
        if not self.heads:
            return [(start, stop, start)]
        return [(row, row + 1, self.place(row)) for row in range(start, stop)]

    def convert(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows in the dtype of the file; every value stays what it is, but for the rounding of F64.

        Raises
        ------
        ValidationError
            If a finite number is beyond it.
        """
        target = _DTYPES[self.kind]
        if rows.dtype == ml_dtypes.bfloat16 and self.kind == "F32":
            # By bits, since a conversion may change a NaN.
            return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        if rows.dtype == np.float64:
            return narrowed(rows, target, self.source.name)
        return rows.astype(target, copy=False)

    def restore(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of the file in the dtype of the checkpoint."""
        if self.source.dtype == "BF16" and self.kind == "F32":
            return (rows.view(np.uint32) >> 16).astype(np.uint16).view(ml_dtypes.bfloat16)
        return rows.astype(DTYPES[self.source.dtype], copy=False)

    def read_dtype(self) -> np.dtype[Any]:
        """The dtype of rows that are no blocks, as the file has them."""
        return _DTYPES[self.kind]


_VOCABULARY = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings?|tok_embeddings|token_embd|shared)\.weight$"
    # DiT's table of labels: no runtime loads a DiT from a GGUF file.
    r"|\bclass_embedder\.embedding_table\.weight$"
)
"""Tables that are decoded: of tokens by llama.cpp, others by this workbench."""


def is_decoded(layer: Layer) -> bool:
    """Whether runtimes decode the layer's weight, so that it may be in blocks.

    They decode the weights of linears and of convolutions of two axes, and tables of tokens. Other embeddings they take
    as they are, like bare parameters, and so must find in float.
    """
    if layer.kind == "embedding":
        return _VOCABULARY.search(layer.name) is not None
    return len(layer.shape) <= MAX_DIMS


def kept_kind(name: str, dtype: str, shape: tuple[int, ...], is_plain: bool) -> str:
    """The type of a tensor that keeps its values.

    Float32 where a runtime cannot make it of less: vectors, small tensors, tables; and of bfloat16 all that is not
    the weight of a linear or a table of tokens (diffusers takes other modules' weights as they are).
    """
    kind = _KEPT.get(dtype)
    if kind is None:
        raise ValidationError(
            f"Tensor {name!r} has the dtype {dtype}, which GGUF cannot hold. Leave it out of the checkpoint, or choose "
            "another target.",
            tensor=name,
        )
    is_small = len(shape) <= 1 or math.prod(shape) <= SMALL or is_high_precision(name)
    if kind in ("F16", "BF16") and (is_small or (kind == "BF16" and not is_plain)):
        return "F32"
    return kind


def kept_option(layer: Layer) -> Option:
    """The option of keeping a layer's values."""
    itemsize = _DTYPES[kept_kind(layer.name, layer.dtype, layer.shape, _is_plain(layer))].itemsize
    return Option(8 * itemsize, KEEP, 0, layer.params * itemsize)


def _is_plain(layer: Layer) -> bool:
    return layer.kind != "conv" and is_decoded(layer)


def stored_tensors(checkpoint: Checkpoint, plan: Plan, family: Family) -> dict[str, Stored]:
    """How each tensor of a checkpoint is stored, by name, in the checkpoint's order."""
    plain = {layer.name for layer in checkpoint.layers if _is_plain(layer)}
    stored = {}
    for name, info in checkpoint.tensors.items():
        option = plan.choices.get(name)
        kept = option is None or option.is_kept
        kind = kept_kind(name, info.dtype, info.shape, name in plain) if kept else option.scheme  # type: ignore[union-attr]
        heads = (family.heads or {}).get(name, 0)
        stored[name] = Stored(info, family.names[name], kind, heads)
    return stored


def describe(stored: Stored) -> list[Any]:
    """A stored tensor as plain values."""
    return [stored.source.dtype, list(stored.source.shape), stored.name, stored.kind, stored.heads]


def stored_of(name: str, entry: Any, option: Option | None, path: Any) -> Stored:
    """Undo `describe`, trusting nothing.

    Raises
    ------
    MetadataError
        If it is no possible description, or not that of the option.
    """
    try:
        dtype, shape, file_name, kind, heads = entry
        shape = tuple(shape)
        sound = (
            dtype in DTYPES
            and all(type(size) is int and 0 <= size < 2**48 for size in shape)
            and math.prod(shape) < 2**56
            and isinstance(file_name, str)
            and type(heads) is int
            and 0 <= heads <= (shape[0] if shape else 0)
            and (heads == 0 or shape[0] % (2 * heads) == 0)
        )
        if option is None or option.is_kept:
            sound = sound and kind in _DTYPES and kind in (_KEPT.get(dtype), dtype, "F32")
        else:
            sound = sound and kind == option.scheme and len(shape) > 1 and 0 not in shape
            sound = sound and (kind == FLOAT16 or math.prod(shape[1:]) % FORMATS[kind].block == 0)
    except (TypeError, ValueError, KeyError):
        sound = False
    if not sound:
        raise MetadataError(
            f"{path}: what the file says of tensor {name!r} is impossible.", path=path, tensor=name
        )
    return Stored(TensorInfo(name, dtype, shape, path, 0, 0), file_name, kind, heads)
