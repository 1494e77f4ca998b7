"""`ByteSource`: the bytes of a weights file, read by position; `LocalFile` is one on this machine."""

from __future__ import annotations

import os
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench import system
from workbench.errors import ModelNotFoundError, QuantizationError, ValidationError


class ByteSource(Protocol):
    """The bytes of a weights file, which stay as they are; all that a reader of a format asks of storage.

    It is read from several threads at once.
    """

    @property
    def size(self) -> int:
        """Bytes in all."""

    def read_into(self, offset: int, buffer: NDArray[np.uint8], tensor: str | None = None) -> None:
        """Fill a buffer from a position, or raise; `tensor` is for messages."""

    def view(self, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """A read-only array of the bytes from a position on, for looking; it stays valid after `close`."""

    def check_unchanged(self, tensor: str | None = None) -> None:
        """Raise `QuantizationError` where the bytes are not what they were when it was opened."""

    def close(self) -> None:
        """Let it go; closing twice is harmless."""


class OpenBytes(Protocol):
    """What opens the bytes of a file."""

    def __call__(self, path: Path, *, watched: bool = True) -> ByteSource:
        """Open a file; without `watched` it may change while it is open."""


def read_bytes(source: ByteSource, offset: int, count: int, tensor: str | None = None) -> bytes:
    """Bytes from a position of a source."""
    buffer = np.empty(count, np.uint8)
    source.read_into(offset, buffer, tensor)
    return buffer.tobytes()


class LocalFile:
    """A file opened once, which must stay as it was from then on.

    Reads are thread-safe: they carry their own position.

    Parameters
    ----------
    path : Path
        A regular file, or a symbolic link to one.
    watched : bool
        Without it, the file may change while it is open, as one does that is being written.

    Raises
    ------
    ModelNotFoundError
        If there is no such file.
    ValidationError
        If it is not a regular file or cannot be opened.
    """

    path: Path
    """The file, as it was given."""
    size: int
    """Its bytes when it was opened."""

    def __init__(self, path: Path, *, watched: bool = True) -> None:
        self.path = path
        self._watched = watched
        try:
            descriptor = system.open_for_reading(path)
        except FileNotFoundError as error:
            fault = (
                "this is a symbolic link that leads nowhere" if path.is_symlink() else "there is no such file"
            )
            raise ModelNotFoundError(f"{path}: {fault}.", path=path) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise ValidationError(f"{path}: the file cannot be opened: {error}.", path=path) from error
        self._descriptor = descriptor
        self._close = weakref.finalize(self, system.close, descriptor)
        status = system.status_of(descriptor)
        if not system.is_regular(status):
            self.close()
            raise ValidationError(f"{path}: this is not a regular file.", path=path)
        self.size = status.st_size
        self._identity = system.identity(status)

    def close(self) -> None:
        """Close the file; views taken before stay valid. Closing twice is harmless."""
        self._close()

    def check_unchanged(self, tensor: str | None = None) -> None:
        """Make sure that the file is the one that was opened, unmodified.

        Parameters
        ----------
        tensor : str, optional
            The tensor being read, for the message.

        Raises
        ------
        QuantizationError
            If its size, modification time or inode is not what it was, or the file is gone.
        """
        if not self._watched:
            return
        try:
            # By path, too: a file replaced by rename leaves the open descriptor looking sound.
            unchanged = self._is_same(system.status_of(self._descriptor)) and self._is_same(self.path.stat())
        except OSError:
            unchanged = False
        if not unchanged:
            raise QuantizationError(
                f"{self._subject(tensor)} changed on disk since it was opened; "
                "leave the source alone while it is read, and open it again.",
                path=self.path,
                tensor=tensor,
            )

    def read_into(self, offset: int, buffer: NDArray[np.uint8], tensor: str | None = None) -> None:
        """Fill a buffer from a position of the file.

        Parameters
        ----------
        offset : int
            Where to begin, in bytes from the start of the file.
        buffer : ndarray of uint8, shape (n,)
            Writable and contiguous; filled completely.
        tensor : str, optional
            The tensor being read, for messages.

        Raises
        ------
        QuantizationError
            If the file ends before the buffer is full, cannot be read, or changed since it was opened.
        ValidationError
            If the file was closed.
        """
        self._require_open(tensor)
        rest = buffer.data
        while len(rest):
            try:
                count = system.read_at(self._descriptor, rest, offset)
            except OSError as error:
                raise QuantizationError(
                    f"{self._subject(tensor)} cannot be read at byte {offset:,}: {error.strerror}.",
                    path=self.path,
                    tensor=tensor,
                ) from error
            if count == 0:
                raise QuantizationError(
                    f"{self._subject(tensor)} ends at byte {offset:,}, {len(rest):,} bytes too early; "
                    "it was truncated since it was opened.",
                    path=self.path,
                    tensor=tensor,
                )
            offset, rest = offset + count, rest[count:]
        self.check_unchanged(tensor)

    def view(self, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """A read-only array over the bytes of the file, without copying.

        Parameters
        ----------
        offset : int
            Where the array begins, in bytes from the start of the file.
        dtype : dtype
            What the bytes are.
        shape : tuple of int
            The array's shape, C order; it must lie within the file.

        Returns
        -------
        ndarray
            Valid as long as the file is not truncated, even after `close`.

        Raises
        ------
        QuantizationError
            If the file changed since it was opened.
        ValidationError
            If the file was closed.
        """
        self._require_open()
        self.check_unchanged()
        if 0 in shape:
            return np.empty(shape, dtype)  # a map has no place for an array without bytes
        return np.ndarray(shape, dtype, buffer=self._map, offset=offset)

    @cached_property
    def _map(self) -> system.MemoryMap:
        return system.map_for_reading(self._descriptor, self.size)

    def _require_open(self, tensor: str | None = None) -> None:
        if not self._close.alive:
            raise ValidationError(
                f"{self._subject(tensor)} was closed; open the checkpoint again.",
                path=self.path,
                tensor=tensor,
            )

    def _is_same(self, status: os.stat_result) -> bool:
        return system.identity(status) == self._identity

    def _subject(self, tensor: str | None) -> str:
        return f"{self.path}" if tensor is None else f"{self.path} (tensor {tensor!r})"
