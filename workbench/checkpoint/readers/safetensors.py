"""Safetensors files as lazy mappings from tensor names to arrays: one file, or the shards of one model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.folders.shards import read_index
from workbench.checkpoint.readers.byte_source import LocalFile, OpenBytes, read_bytes
from workbench.checkpoint.readers.header import LENGTH_BYTES, header_length, parse_header
from workbench.checkpoint.readers.reader import TensorFiles
from workbench.checkpoint.tensors import DTYPES, TensorInfo
from workbench.errors import MetadataError, ModelNotFoundError

SAMPLE_BYTES = 4096
"""Bytes that a fingerprint takes at the start, the middle and the end of each tensor."""


class SafeTensorsAdapter(TensorFiles):
    """One safetensors file as a lazy mapping.

    Its header is parsed and checked here, see `workbench.checkpoint.readers.header`. Items are read-only
    memory-mapped arrays, made when asked for: for looking. `read_into` and `read_rows` are for streaming.

    Parameters
    ----------
    path : path-like
        The file.
    watched : bool
        Without it, other tensors of the file may change while it is open.
    open_bytes : callable
        Opens the file, see `ByteSource`.

    Raises
    ------
    ModelNotFoundError
        If there is no such file.
    MetadataError, ShapeMismatchError, ValidationError
        If it is not a sound safetensors file; the message names the fault.
    """

    path: Path
    """The file."""
    tensors: Mapping[str, TensorInfo]
    """The tensors by name, in the order of their data."""
    metadata: Mapping[str, str]
    """The header's ``__metadata__``."""
    trailing: Mapping[Path, int]
    """How many bytes follow the last tensor, where some do, by file."""

    def __init__(self, path: str | Path, *, watched: bool = True, open_bytes: OpenBytes = LocalFile) -> None:
        self.path = Path(path)
        self._file = open_bytes(self.path, watched=watched)
        try:
            prefix = read_bytes(self._file, 0, min(LENGTH_BYTES, self._file.size))
            length = header_length(prefix, self.path, self._file.size)
            header = parse_header(read_bytes(self._file, LENGTH_BYTES, length), self.path, self._file.size)
        except BaseException:
            self._file.close()
            raise
        self._data_start = LENGTH_BYTES + length
        self.tensors = header.tensors
        self.metadata = header.metadata
        self.trailing = MappingProxyType({self.path: header.trailing} if header.trailing else {})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}, {len(self)} tensors>"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the file's size, its header and three samples of every tensor.

        It is independent of the file's name, place and times. Tensors of up to three times `SAMPLE_BYTES` are covered
        whole.
        """
        digest = hashlib.sha256(self._file.size.to_bytes(8, "little"))
        digest.update(read_bytes(self._file, 0, self._data_start))
        for info in self.tensors.values():
            if info.nbytes <= 3 * SAMPLE_BYTES:
                digest.update(read_bytes(self._file, info.offset, info.nbytes, info.name))
                continue
            last = info.nbytes - SAMPLE_BYTES
            for start in (0, last // 2, last):
                digest.update(read_bytes(self._file, info.offset + start, SAMPLE_BYTES, info.name))
        return digest.hexdigest()

    def check_unchanged(self) -> None:
        """Raise `QuantizationError` when the file is not what it was when it was opened."""
        self._file.check_unchanged()

    def close(self) -> None:
        """Close the file; arrays taken before stay valid."""
        self._file.close()

    def _fill(self, info: TensorInfo, start: int, target: NDArray[np.uint8]) -> None:
        self._file.read_into(info.offset + start, target, info.name)

    def _view(self, info: TensorInfo) -> NDArray[Any]:
        return self._file.view(info.offset, DTYPES[info.dtype], info.shape)


class ShardedSafeTensorsAdapter(TensorFiles):
    """Several safetensors files as one lazy mapping, with the interface of `SafeTensorsAdapter`.

    What the shards' own headers say is what is read, as in transformers and diffusers: an index names the
    files, and a tensor that it promises must be where it says; a tensor that it does not list is accepted.

    Parameters
    ----------
    path : path-like
        An index (``*.index.json``), or the first of the safetensors files.
    *others : path-like
        The other files.
    watched, open_bytes
        As for `SafeTensorsAdapter`.

    Raises
    ------
    ModelNotFoundError
        If a file is missing.
    MetadataError
        If the index is malformed or disagrees with the shards, or two shards hold the same tensor.
    MetadataError, ShapeMismatchError, ValidationError
        If a shard is not a sound safetensors file.
    """

    files: tuple[SafeTensorsAdapter, ...]
    """The files, in the order of their names."""
    tensors: Mapping[str, TensorInfo]
    """The tensors by name: by file, then in the order of their data."""
    metadata: Mapping[str, str]
    """The ``__metadata__`` of all files; where two differ, the first file's value."""
    trailing: Mapping[Path, int]
    """How many bytes follow the last tensor, where some do, by file."""

    def __init__(
        self, path: str | Path, *others: str | Path, watched: bool = True, open_bytes: OpenBytes = LocalFile
    ) -> None:
        self.path = Path(path)
        index = read_index(self.path) if self.path.suffix == ".json" else {}
        shards = set(index.values()) or {self.path, *map(Path, others)}
        self._owners: dict[str, SafeTensorsAdapter] = {}
        opened: list[SafeTensorsAdapter] = []
        try:
            for shard in sorted(shards):
                opened.append(self._open(shard, watched, open_bytes))
                self._claim(opened[-1])
            self._check_index(index)
        except BaseException:
            for file in opened:
                file.close()
            raise
        self.files = tuple(opened)
        self.tensors = MappingProxyType({name: file.tensors[name] for name, file in self._owners.items()})
        self.metadata = MappingProxyType(
            {key: value for file in reversed(opened) for key, value in file.metadata.items()}
        )
        self.trailing = MappingProxyType(
            {path: count for file in opened for path, count in file.trailing.items()}
        )

    def _open(self, shard: Path, watched: bool, open_bytes: OpenBytes) -> SafeTensorsAdapter:
        try:
            return SafeTensorsAdapter(shard, watched=watched, open_bytes=open_bytes)
        except ModelNotFoundError as error:
            if shard == self.path:
                raise
            raise ModelNotFoundError(
                f"{self.path}: the shard {shard.name} is missing; get the whole checkpoint again.", path=shard
            ) from error

    def _claim(self, file: SafeTensorsAdapter) -> None:
        for name in file.tensors:
            if name in self._owners:
                raise MetadataError(
                    f"{file.path}: tensor {name!r} is also in {self._owners[name].path.name}; "
                    "a tensor may be in one shard only.",
                    path=file.path,
                    tensor=name,
                )
            self._owners[name] = file

    def _check_index(self, index: Mapping[str, Path]) -> None:
        for name, shard in index.items():
            owner = self._owners.get(name)
            if owner is None or owner.path != shard:
                place = "is not in it" if owner is None else f"is in {owner.path.name}"
                raise MetadataError(
                    f"{self.path}: the index puts tensor {name!r} in {shard.name}, but it {place}; "
                    "the index does not belong to these shards.",
                    path=self.path,
                    tensor=name,
                )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}, {len(self)} tensors in {len(self.files)} files>"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over the sorted digests of the files, see `SafeTensorsAdapter.fingerprint`."""
        digests = sorted(bytes.fromhex(file.fingerprint) for file in self.files)
        return hashlib.sha256(b"".join(digests)).hexdigest()

    def check_unchanged(self) -> None:
        """Raise `QuantizationError` when a file is not what it was when it was opened."""
        for file in self.files:
            file.check_unchanged()

    def close(self) -> None:
        """Close the files; arrays taken before stay valid."""
        for file in self.files:
            file.close()

    def _fill(self, info: TensorInfo, start: int, target: NDArray[np.uint8]) -> None:
        self._owners[info.name].read_into(info.name, start, target)

    def _view(self, info: TensorInfo) -> NDArray[Any]:
        return self._owners[info.name].view(info.name)
