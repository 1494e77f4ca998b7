"""A GGUF file, opened: its keys and tensors, everything checked before it is used.

References
----------
The format, versions 2 and 3, little-endian: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Magic, version,
two counts; the keys with their typed values; the tensors' names, dimensions (fastest first), types and offsets; then,
aligned, the data.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.readers.byte_source import LocalFile, OpenBytes, read_bytes
from workbench.checkpoint.strict_json import quote
from workbench.errors import MetadataError, ShapeMismatchError, ValidationError

MAGIC = b"GGUF"
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
MAX_HEADER_BYTES = 512 * 2**20
"""A header longer than this is refused; the largest tokenizers take a few tens of MB."""

MAX_KEY_BYTES = 65535
MAX_NAME_BYTES = 512
MAX_DIMS = 8
MAX_DEPTH = 4

STRING, ARRAY = 8, 9
SCALARS: Mapping[int, str] = MappingProxyType(
    {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
)
"""How values of each type of number are packed."""

BLOCKS: Mapping[int, tuple[str, int, int]] = MappingProxyType(
    {
        0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
        7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
        12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
        16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
        20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
        24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
        29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
        39: ("MXFP4", 32, 17),
    }
)  # fmt: skip
"""Of each tensor type its name, and weights and bytes of a block."""

TYPE_NUMBERS: Mapping[str, int] = MappingProxyType({name: number for number, (name, _, _) in BLOCKS.items()})


@dataclass(frozen=True)
class GgufKey:
    """A key with its value as the file has it."""

    kind: int
    """The value's type number."""
    raw: bytes
    """The bytes of the value, without its type."""

    @property
    def value(self) -> object:
        """The value of a number or a string; None of an array."""
        if self.kind == STRING:
            return self.raw[8:].decode("utf-8", errors="replace")
        return struct.unpack(SCALARS[self.kind], self.raw)[0] if self.kind in SCALARS else None


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of the file."""

    name: str
    """Its name."""
    kind: str
    """Its type, such as ``"Q4_K"``."""
    shape: tuple[int, ...]
    """Its shape, the fastest axis last."""
    offset: int
    """Where its data begin, in bytes from the start of the file."""
    nbytes: int
    """Bytes of its data."""


class GgufFile:
    """A GGUF file, opened once; it must stay as it is.

    Parameters
    ----------
    path : Path
    watched : bool
        Without it, other parts of the file may change while it is open.
    open_bytes : callable
        Opens the file, see `ByteSource`.

    Raises
    ------
    ModelNotFoundError
        If there is no such file.
    MetadataError, ShapeMismatchError, ValidationError
        If it is not a sound GGUF file of a known version; the message names the fault.
    """

    keys: Mapping[str, GgufKey]
    """The keys, in the file's order."""
    tensors: Mapping[str, GgufTensor]
    """The tensors by name, in the order of their data."""

    def __init__(self, path: Path, *, watched: bool = True, open_bytes: OpenBytes = LocalFile) -> None:
        self.path = path
        self.file = open_bytes(path, watched=watched)
        try:
            self._parse()
        except BaseException:
            self.file.close()
            raise

    def read_into(self, name: str, start: int, buffer: NDArray[np.uint8]) -> None:
        """Fill a buffer with bytes of a tensor, from a byte on; see `ByteSource.read_into`."""
        self.file.read_into(self.tensors[name].offset + start, buffer, name)

    def header_bytes(self) -> bytes:
        """Everything before the data."""
        return read_bytes(self.file, 0, self.data_start)

    def _parse(self) -> None:
        size = min(self.file.size, 2**20)
        while True:
            header = _Header(read_bytes(self.file, 0, size), self.path, self.file.size)
            try:
                header.parse()
                break
            except _EndOfBytesError:
                if size >= min(self.file.size, MAX_HEADER_BYTES):
                    raise MetadataError(
                        f"{self.path}: the file ends within its header ({size:,} bytes read); it is truncated or its "
                        "counts are wrong, get it again.",
                        path=self.path,
                    ) from None
                size = min(self.file.size, MAX_HEADER_BYTES, 4 * size)
        self.keys = MappingProxyType(header.keys)
        self.tensors = MappingProxyType(header.tensors)
        self.data_start = header.data_start


class _EndOfBytesError(Exception):
    """More of the file must be read."""


class _Header:
    """A header being parsed."""

    def __init__(self, data: bytes, path: Path, file_size: int) -> None:
        self.data = data
        self.path = path
        self.file_size = file_size
        self.at = 0
        self.keys: dict[str, GgufKey] = {}
        self.tensors: dict[str, GgufTensor] = {}
        self.data_start = 0

    def parse(self) -> None:
        if self.data[:4] != MAGIC:
            raise ValidationError(
                f"{self.path}: this is not a GGUF file: it does not begin with GGUF.", path=self.path
            )
        self.at = 4
        version = self._number("<I")
        if version not in (2, 3):
            raise ValidationError(
                f"{self.path}: GGUF version {version} is not read (2 and 3 are); a big-endian file is not either.",
                path=self.path,
            )
        tensors, keys = self._number("<Q"), self._number("<Q")
        for _ in range(keys):
            name = self._string(MAX_KEY_BYTES, "a key")
            if name in self.keys:
                raise self._fault(f"the key {quote(name)} is there twice")
            kind = self._number("<I")
            start = self.at
            self._skip_value(kind, name, 0)
            self.keys[name] = GgufKey(kind, self.data[start : self.at])
        alignment = self._alignment()
        found = [self._tensor(alignment) for _ in range(tensors)]
        self.data_start = -(-self.at // alignment) * alignment
        self._place(found)

    def _alignment(self) -> int:
        key = self.keys.get(ALIGNMENT_KEY)
        value = DEFAULT_ALIGNMENT if key is None else key.value
        if not isinstance(value, int) or not 1 <= value <= 2**20 or value & (value - 1):
            raise self._fault(f"{ALIGNMENT_KEY} is {value!r}, not a power of two up to 2^20")
        return value

    def _tensor(self, alignment: int) -> tuple[str, str, tuple[int, ...], int, int]:
        name = self._string(MAX_NAME_BYTES, "a tensor's name")
        if not name or not name.isprintable():
            raise self._fault(f"a tensor's name, {quote(name)}, is empty or has unprintable characters")
        rank = self._number("<I")
        if rank > MAX_DIMS:
            raise self._fault(f"tensor {quote(name)} has {rank} dimensions, more than {MAX_DIMS}")
        shape = tuple(self._number("<Q") for _ in range(rank))[::-1]
        number, offset = self._number("<I"), self._number("<Q")
        if number not in BLOCKS:
            raise ValidationError(
                f"{self.path}: tensor {quote(name)} has the type {number}, which is not known.",
                path=self.path,
                tensor=name,
            )
        kind, weights, nbytes = BLOCKS[number]
        count = math.prod(shape)
        if math.prod(size for size in shape if size) > 2**60:
            raise self._fault(f"tensor {quote(name)} has the shape {shape}, which overflows")
        if count % weights or (shape and shape[-1] % weights):
            raise ShapeMismatchError(
                f"{self.path}: tensor {quote(name)} of shape {shape} does not divide into blocks of {kind}, "
                f"{weights} weights along the last axis.",
                path=self.path,
                tensor=name,
            )
        if offset % alignment:
            raise self._fault(f"tensor {quote(name)} begins at offset {offset:,}, no multiple of {alignment}")
        return name, kind, shape, offset, count // weights * nbytes

    def _place(self, found: list[tuple[str, str, tuple[int, ...], int, int]]) -> None:
        """Make sure that the tensors lie within the file and apart."""
        end, previous = 0, "the header"
        for name, kind, shape, offset, nbytes in sorted(found, key=lambda tensor: (tensor[3], tensor[4])):
            if name in self.tensors:
                raise self._fault(f"tensor {quote(name)} is there twice")
            if offset < end:
                raise self._fault(f"tensor {quote(name)} overlaps {previous}")
            start, end = self.data_start + offset, offset + nbytes
            if self.data_start + end > self.file_size:
                raise self._fault(
                    f"tensor {quote(name)} ends at byte {self.data_start + end:,}, past the end of the file "
                    f"({self.file_size:,} bytes); it is truncated or its header is wrong, get it again"
                )
            self.tensors[name] = GgufTensor(name, kind, shape, start, nbytes)
            previous = f"tensor {quote(name)}"

    def _skip_value(self, kind: int, key: str, depth: int) -> None:
        if kind in SCALARS:
            self._take(struct.calcsize(SCALARS[kind]))
        elif kind == STRING:
            self._take(self._number("<Q"))
        elif kind == ARRAY and depth < MAX_DEPTH:
            item, count = self._number("<I"), self._number("<Q")
            if item in SCALARS:
                self._take(struct.calcsize(SCALARS[item]) * count)
            else:
                if count > len(self.data):  # each takes a byte at least
                    raise _EndOfBytesError
                for _ in range(count):
                    self._skip_value(item, key, depth + 1)
        else:
            raise self._fault(
                f"the key {quote(key)} has a value of unknown type {kind}, or is nested too deeply"
            )

    def _string(self, most: int, what: str) -> str:
        length = self._number("<Q")
        if length > most:
            raise self._fault(f"{what} is said to have {length:,} bytes, more than {most:,}")
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self._fault(f"{what} is not UTF-8") from None

    def _number(self, packing: str) -> int:
        value: int = struct.unpack(packing, self._take(struct.calcsize(packing)))[0]
        return value

    def _take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise _EndOfBytesError
        taken = self.data[self.at : self.at + count]
        self.at += count
        return taken

    def _fault(self, problem: str) -> MetadataError:
        return MetadataError(f"{self.path}: {problem}.", path=self.path)
