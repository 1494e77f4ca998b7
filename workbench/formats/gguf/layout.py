"""The layout of a GGUF file that is to be written: every offset is known before the first byte is.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little-endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from workbench import system
from workbench.checkpoint.readers.gguf_file import (
    ALIGNMENT_KEY,
    ARRAY,
    BLOCKS,
    DEFAULT_ALIGNMENT,
    MAGIC,
    SCALARS,
    STRING,
    TYPE_NUMBERS,
    GgufKey,
)

VERSION = 3
UINT32, INT32, FLOAT32, BOOL = 4, 5, 6, 7

Number = TypeVar("Number", int, float, bool)


@dataclass(frozen=True)
class GgufPiece:
    """A tensor of the file to be written."""

    name: str
    """Its name in the file."""
    kind: str
    """Its type, such as ``"Q4_K"``."""
    shape: tuple[int, ...]
    """Its shape in the file, the fastest axis last."""

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        _, weights, nbytes = BLOCKS[TYPE_NUMBERS[self.kind]]
        return math.prod(self.shape) // weights * nbytes


@dataclass(frozen=True)
class GgufLayout:
    """The file to be written."""

    header: bytes
    """Everything before the data, padding included."""
    places: Mapping[str, int]
    """Where each tensor's data begin in the file."""
    nbytes: int
    """Size of the file."""

    def create(self, path: Path) -> None:
        """Write the header and give the file its size; what is there already stays."""
        if path.exists() and path.stat().st_size == self.nbytes:
            return
        with path.open("wb") as file:
            file.write(self.header)
            system.reserve(file, self.nbytes)


def lay_out(keys: Mapping[str, GgufKey], pieces: Sequence[GgufPiece]) -> GgufLayout:
    """Lay a file out: its keys and tensors, in their order."""
    alignment = keys[ALIGNMENT_KEY].value if ALIGNMENT_KEY in keys else DEFAULT_ALIGNMENT
    assert isinstance(alignment, int)
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(pieces), len(keys))]
    for name, key in keys.items():
        parts += [_text(name), struct.pack("<I", key.kind), key.raw]
    offsets, at = {}, 0
    for piece in pieces:
        parts += [_text(piece.name), struct.pack("<I", len(piece.shape))]
        parts += [struct.pack("<Q", size) for size in reversed(piece.shape)]
        parts.append(struct.pack("<IQ", TYPE_NUMBERS[piece.kind], at))
        offsets[piece.name] = at
        at += -(-piece.nbytes // alignment) * alignment
    header = b"".join(parts)
    header += bytes(-len(header) % alignment)
    places = {name: len(header) + offset for name, offset in offsets.items()}
    return GgufLayout(header, places, len(header) + at)


def text_key(text: str) -> GgufKey:
    """A string as a value."""
    return GgufKey(STRING, _text(text))


def number_key(kind: int, value: Number) -> GgufKey:
    """A number as a value of a type: `UINT32`, `FLOAT32` or `BOOL`."""
    return GgufKey(kind, struct.pack(SCALARS[kind], value))


def texts_key(texts: Sequence[str]) -> GgufKey:
    """Strings as an array."""
    return GgufKey(ARRAY, struct.pack("<IQ", STRING, len(texts)) + b"".join(map(_text, texts)))


def integers_key(values: Sequence[int]) -> GgufKey:
    """Integers as an array of int32."""
    return GgufKey(ARRAY, struct.pack(f"<IQ{len(values)}i", INT32, len(values), *values))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", errors="surrogatepass")
    return struct.pack("<Q", len(encoded)) + encoded
