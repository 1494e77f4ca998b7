"""The header of a safetensors file: parsed and checked before anything in it is used.

References
----------
The format: https://github.com/huggingface/safetensors#format. Eight bytes hold the header's length N
(little-endian, unsigned), N bytes hold a JSON object that maps each name to dtype, shape and data_offsets
(relative to the end of the header), the rest is the data: every byte belongs to exactly one tensor, no gaps. Some files
go on after their last tensor; what follows belongs to none and is not read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from workbench.checkpoint.refusals.containers import container_kind
from workbench.checkpoint.strict_json import MAX_JSON_BYTES, parse_object, quote
from workbench.checkpoint.tensors import DTYPES, TensorInfo
from workbench.errors import ArrowQuantError, MetadataError, ShapeMismatchError, ValidationError

LENGTH_BYTES = 8
MAX_NAME_LENGTH = 512  # far beyond real names; bounds the work of matching names against patterns
MAX_RANK = 64  # NumPy's own limit
MAX_NBYTES = 2**63 - 1

_FIELDS = {"dtype", "shape", "data_offsets"}
"""What an entry must have; further fields are ignored, as the safetensors library does."""

_QUANTIZED_DTYPES = re.compile(r"F8_E8M0|F6_\w+|F4\w*|[UI][1-7]")
"""Dtypes of block scales and of codes narrower than a byte, which no plain checkpoint has."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself, checked against its size."""

    tensors: Mapping[str, TensorInfo]
    """The tensors by name, in the order of their data."""
    metadata: Mapping[str, str]
    """The ``__metadata__`` entry, empty when there is none."""
    trailing: int = 0
    """Bytes after the last tensor that belong to none."""


def parse_header(text: bytes, path: Path, file_size: int) -> Header:
    """Parse and check the JSON header of a safetensors file.

    Parameters
    ----------
    text : bytes
        The header's JSON, without the eight bytes of length before it.
    path : Path
        The file, for messages and for `TensorInfo.path`.
    file_size : int
        Bytes of the whole file.

    Returns
    -------
    Header
        Every tensor lies within the file, none overlaps another, and they follow each other without gaps.

    Raises
    ------
    MetadataError
        If the JSON is malformed, offsets overlap, leave gaps or lead past the end of the file.
    ShapeMismatchError
        If a tensor's bytes are not shape times size of dtype.
    ValidationError
        If a dtype is not one of `DTYPES`.
    """
    entries = parse_object(text, path, "header")
    metadata = _parse_metadata(entries.pop("__metadata__", None), path)
    data_start = LENGTH_BYTES + len(text)
    tensors = sorted(
        (_parse_entry(name, entry, path, data_start) for name, entry in entries.items()),
        key=lambda info: (info.offset, info.nbytes, info.name),
    )
    trailing = _check_cover(tensors, path, data_start, file_size)
    by_name = MappingProxyType({info.name: info for info in tensors})
    return Header(by_name, MappingProxyType(metadata), trailing)


def _parse_metadata(metadata: object, path: Path) -> dict[str, str]:
    """``__metadata__``, where null means the same as none."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise MetadataError(
            f"{path}: __metadata__ in the header must map strings to strings, or be null.",
            path=path,
        )
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise MetadataError(
                f"{path}: __metadata__ in the header must map strings to strings; the value of {quote(key)} is "
                "not a string. The tensors are not concerned: write the file again with that value as a string, or "
                "without it.",
                path=path,
                key=key,
            )
    return metadata


def _parse_entry(name: str, entry: object, path: Path, data_start: int) -> TensorInfo:
    def malformed(reason: str, kind: type[ArrowQuantError] = MetadataError) -> ArrowQuantError:
        return kind(f"{path}: tensor {quote(name)} {reason}.", path=path, tensor=name)

    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise malformed(
            f"has an unusable name: names have 1 to {MAX_NAME_LENGTH} printable characters, "
            "no control characters and no lone surrogates"
        )
    if not isinstance(entry, dict) or not set(entry) >= _FIELDS:
        raise malformed("must have dtype, shape and data_offsets in the header")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise malformed("has a dtype that is not a string")
    if not _are_sizes(shape) or len(shape) > MAX_RANK:
        raise malformed(f"has a shape that is not a list of at most {MAX_RANK} whole numbers from 0 up")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise malformed("has data_offsets that are not two whole numbers [begin, end] with 0 <= begin <= end")
    if dtype not in DTYPES and _QUANTIZED_DTYPES.fullmatch(dtype):
        raise malformed(
            f"has the dtype {quote(dtype)}, which only checkpoints have that are already quantized; open "
            "the original, in BF16, F16 or F32, instead",
            ValidationError,
        )
    if dtype not in DTYPES:
        raise malformed(
            f"has the dtype {quote(dtype)}, which is not supported; supported are {', '.join(DTYPES)}",
            ValidationError,
        )
    itemsize = DTYPES[dtype].itemsize
    # Without its zeros, so that [0, 2**62, 2**62] is refused here and not by NumPy later.
    if math.prod(size for size in shape if size) * itemsize > MAX_NBYTES:
        raise malformed(f"has the shape {shape}, which overflows")
    begin, end = offsets
    expected = math.prod(shape) * itemsize
    if end - begin != expected:
        raise malformed(
            f"has {end - begin:,} bytes of data, but {dtype} of shape {shape} takes {expected:,}",
            ShapeMismatchError,
        )
    return TensorInfo(name, dtype, tuple(shape), path, data_start + begin, expected)


def _are_sizes(value: object) -> bool:
    # bool is an int to isinstance, but true is no size.
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_NBYTES for item in value)


def _check_cover(tensors: Iterable[TensorInfo], path: Path, data_start: int, file_size: int) -> int:
    """Make sure that tensors follow each other; gives the number of bytes after the last."""
    position, previous = data_start, "the header"
    for info in tensors:
        end = info.offset + info.nbytes
        if end > file_size:
            raise MetadataError(
                f"{path}: tensor {quote(info.name)} ends at byte {end:,}, past the end of the file "
                f"({file_size:,} bytes); the file is truncated or its header is wrong, get it again.",
                path=path,
                tensor=info.name,
            )
        if info.offset != position:
            fault = "overlaps" if info.offset < position else "leaves a gap after"
            raise MetadataError(
                f"{path}: tensor {quote(info.name)} {fault} {previous}: it begins at byte {info.offset:,}, "
                f"not {position:,}; data_offsets must cover the data without overlaps or gaps.",
                path=path,
                tensor=info.name,
            )
        position, previous = end, f"tensor {quote(info.name)}"
    return file_size - position


def header_length(prefix: bytes, path: Path, file_size: int) -> int:
    """Length of the header that the first eight bytes of a file announce.

    Parameters
    ----------
    prefix : bytes
        The first eight bytes, or fewer when the file has no more.
    path : Path
        The file, for messages.
    file_size : int
        Bytes of the whole file.

    Returns
    -------
    int
        Bytes of JSON after the prefix; they lie within the file.

    Raises
    ------
    ValidationError
        If the bytes are those of another well-known kind of file.
    MetadataError
        If the file is too short, or the length leads past its end or is beyond the limit of 100 MB.
    """
    if len(prefix) < LENGTH_BYTES:
        raise MetadataError(
            f"{path}: {file_size} bytes are too few for a safetensors file, which begins with 8 bytes of "
            "header length; the file is truncated, get it again.",
            path=path,
        )
    length = int.from_bytes(prefix, "little")
    present = file_size - LENGTH_BYTES
    if length > min(present, MAX_JSON_BYTES) and (kind := container_kind(prefix)):
        raise ValidationError(f"{path}: {kind}", path=path)
    if length > present:
        raise MetadataError(
            f"{path}: the header is said to have {length:,} bytes, but only {present:,} follow; "
            "the file is truncated, or not a safetensors file.",
            path=path,
        )
    if length > MAX_JSON_BYTES:
        raise MetadataError(
            f"{path}: the header is said to have {length:,} bytes; the format allows {MAX_JSON_BYTES:,}.",
            path=path,
        )
    return length
