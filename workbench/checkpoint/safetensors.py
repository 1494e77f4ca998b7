"""Safetensors files as lazy mappings from tensor names to arrays: one file, or the shards of one model."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.header import DTYPES, LENGTH_BYTES, TensorInfo, header_length, parse_header
from workbench.checkpoint.shards import read_index
from workbench.checkpoint.source_file import SourceFile
from workbench.errors import MetadataError, ModelNotFoundError

SAMPLE_BYTES = 4096
"""Bytes that a fingerprint takes at the start, the middle and the end of each tensor."""


class _LazyTensors(Mapping[str, NDArray[Any]]):
    """What one file and several have in common: a mapping over `tensors`, and a context manager."""

    tensors: Mapping[str, TensorInfo]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""


class SafeTensorsAdapter(_LazyTensors):
    """One safetensors file as a lazy mapping.

    Its header is parsed and checked here, see `workbench.checkpoint.header`. Items are read-only
    memory-mapped arrays, made when asked for: for looking. `read_into` is for streaming.

    Parameters
    ----------
    path : path-like
        The file.
    watched : bool
        Without it, other tensors of the file may change while it is open.

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

    def __init__(self, path: str | Path, *, watched: bool = True) -> None:
        self.path = Path(path)
        self._file = SourceFile(self.path, watched=watched)
        try:
            prefix = self._read(0, min(LENGTH_BYTES, self._file.size))
            length = header_length(prefix, self.path, self._file.size)
            header = parse_header(self._read(LENGTH_BYTES, length), self.path, self._file.size)
        except BaseException:
            self._file.close()
            raise
        self._data_start = LENGTH_BYTES + length
        self.tensors = header.tensors
        self.metadata = header.metadata
        self.trailing = MappingProxyType({self.path: header.trailing} if header.trailing else {})

    def __getitem__(self, name: str) -> NDArray[Any]:
        info = self.tensors[name]
        return self._file.view(info.offset, DTYPES[info.dtype], info.shape)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}, {len(self)} tensors>"

    def read_into(self, name: str, start: int, buffer: NDArray[np.uint8]) -> None:
        """Fill a buffer with bytes of a tensor, see `SourceFile.read_into`.

        Parameters
        ----------
        name : str
            The tensor.
        start : int
            First byte, counted from the start of the tensor's data; with the buffer it must lie within it.
        buffer : ndarray of uint8, shape (n,)
            Writable and contiguous.
        """
        self._file.read_into(self.tensors[name].offset + start, buffer, name)

    def digest(self) -> bytes:
        """SHA-256 of the file's size, its header and three samples of every tensor.

        Returns
        -------
        bytes
            32 bytes, independent of the file's name, place and times. Tensors of up to three times
            `SAMPLE_BYTES` are covered whole.
        """
        digest = hashlib.sha256(self._file.size.to_bytes(8, "little"))
        digest.update(self._read(0, self._data_start))
        for info in self.tensors.values():
            if info.nbytes <= 3 * SAMPLE_BYTES:
                digest.update(self._read(info.offset, info.nbytes, info.name))
                continue
            last = info.nbytes - SAMPLE_BYTES
            for start in (0, last // 2, last):
                digest.update(self._read(info.offset + start, SAMPLE_BYTES, info.name))
        return digest.digest()

    def check_unchanged(self) -> None:
        """Raise `QuantizationError` when the file is not what it was when it was opened."""
        self._file.check_unchanged()

    def close(self) -> None:
        """Close the file; arrays taken before stay valid."""
        self._file.close()

    def _read(self, offset: int, count: int, tensor: str | None = None) -> bytes:
        buffer = np.empty(count, np.uint8)
        self._file.read_into(offset, buffer, tensor)
        return buffer.tobytes()


class ShardedSafeTensorsAdapter(_LazyTensors):
    """Several safetensors files as one lazy mapping, with the interface of `SafeTensorsAdapter`.

    What the shards' own headers say is what is read, as in transformers and diffusers: an index names the
    files, and a tensor that it promises must be where it says; a tensor that it does not list is accepted.

    Parameters
    ----------
    path : path-like
        An index (``*.index.json``), or the first of the safetensors files.
    *others : path-like
        The other files.
    watched : bool
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

    def __init__(self, path: str | Path, *others: str | Path, watched: bool = True) -> None:
        self.path = Path(path)
        self._watched = watched
        index = read_index(self.path) if self.path.suffix == ".json" else {}
        shards = set(index.values()) or {self.path, *map(Path, others)}
        self._owners: dict[str, SafeTensorsAdapter] = {}
        opened: list[SafeTensorsAdapter] = []
        try:
            for shard in sorted(shards):
                opened.append(self._open(shard))
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

    def _open(self, shard: Path) -> SafeTensorsAdapter:
        try:
            return SafeTensorsAdapter(shard, watched=self._watched)
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

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._owners[name][name]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}, {len(self)} tensors in {len(self.files)} files>"

    def read_into(self, name: str, start: int, buffer: NDArray[np.uint8]) -> None:
        """Fill a buffer with bytes of a tensor, see `SafeTensorsAdapter.read_into`."""
        self._owners[name].read_into(name, start, buffer)

    def digest(self) -> bytes:
        """SHA-256 over the sorted digests of the files, see `SafeTensorsAdapter.digest`."""
        return hashlib.sha256(b"".join(sorted(file.digest() for file in self.files))).digest()

    def check_unchanged(self) -> None:
        """Raise `QuantizationError` when a file is not what it was when it was opened."""
        for file in self.files:
            file.check_unchanged()

    def close(self) -> None:
        """Close the files; arrays taken before stay valid."""
        for file in self.files:
            file.close()
