"""An open weights file: positioned reads, a read-only memory map, and a guard against changes."""

from __future__ import annotations

import mmap
import os
import stat
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import ModelNotFoundError, QuantizationError, ValidationError


class SourceFile:
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
            # A FIFO would block in open() until somebody writes to it; O_NONBLOCK changes nothing for a file.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            fault = (
                "this is a symbolic link that leads nowhere" if path.is_symlink() else "there is no such file"
            )
            raise ModelNotFoundError(f"{path}: {fault}.", path=path) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise ValidationError(f"{path}: the file cannot be opened: {error}.", path=path) from error
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise ValidationError(f"{path}: this is not a regular file.", path=path)
        self.size = status.st_size
        self._identity = _identity(status)

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
            unchanged = self._identity == _identity(os.fstat(self._descriptor)) == _identity(self.path.stat())
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
                count = os.preadv(self._descriptor, [rest], offset)
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
    def _map(self) -> mmap.mmap:
        return mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ)

    def _require_open(self, tensor: str | None = None) -> None:
        if not self._close.alive:
            raise ValidationError(
                f"{self._subject(tensor)} was closed; open the checkpoint again.",
                path=self.path,
                tensor=tensor,
            )

    def _subject(self, tensor: str | None) -> str:
        return f"{self.path}" if tensor is None else f"{self.path} (tensor {tensor!r})"


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
