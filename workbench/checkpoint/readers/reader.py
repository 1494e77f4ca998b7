"""`TensorReader`: tensors by name, read by position: of a file, of several, or of another reader."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.tensors import DTYPES, TensorInfo
from workbench.errors import ShapeMismatchError, ValidationError


class TensorReader(ABC):
    """Tensors by name, read by position; safe to use from several threads at once.

    What is read must stay as it is while it is open: every read checks it. A new kind of reader says what there is,
    and fills buffers and makes views; how names, rows and buffers are checked is the same for all.
    """

    path: Path
    """What is read, for messages."""
    tensors: Mapping[str, TensorInfo]
    """The tensors by name, in their order."""
    metadata: Mapping[str, str]
    """What the files say besides."""
    keeps_rows: bool = False
    """Whether it keeps the rows that it gives, so that they are better not copied into a buffer."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, that recognises the weights."""

    @abstractmethod
    def check_unchanged(self) -> None:
        """Make sure that the weights are what they were when they were opened.

        Raises
        ------
        QuantizationError
            If a file's size, modification time or inode is another, or it is gone; the message names it.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the files; views taken before stay valid."""

    @abstractmethod
    def _fill(self, info: TensorInfo, start: int, target: NDArray[np.uint8]) -> None:
        """Fill an array with bytes of a tensor, which are within it."""

    @abstractmethod
    def _view(self, info: TensorInfo) -> NDArray[Any]:
        """A read-only array of a tensor."""

    def read_into(self, name: str, start_byte: int, buffer: Any) -> None:
        """Fill a buffer with bytes of a tensor by positioned reads.

        Parameters
        ----------
        name : str
            The tensor.
        start_byte : int
            First byte, counted from the start of the tensor's data.
        buffer : writable buffer
            A C-contiguous array of any dtype, a bytearray or a memoryview; filled completely.

        Raises
        ------
        QuantizationError
            If the file changed since it was opened, ends early or cannot be read.
        ShapeMismatchError
            If the bytes asked for are not all the tensor's.
        ValidationError
            If there is no such tensor, the buffer is read-only or not contiguous, or the checkpoint was
            closed.
        """
        info = self._info(name)
        target = _writable_bytes(buffer, name)
        if not 0 <= start_byte <= info.nbytes - target.size:
            raise ShapeMismatchError(
                f"{info.path}: tensor {name!r} has {info.nbytes:,} bytes; {target.size:,} from "
                f"{start_byte:,} on are not within it.",
                path=info.path,
                tensor=name,
            )
        self._fill(info, start_byte, target)

    def read_rows(self, name: str, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read rows of a tensor, seen as two-dimensional.

        Parameters
        ----------
        name : str
            The tensor, [out, ...], seen as [out, in]; a vector as [n, 1], a scalar as [1, 1].
        start, stop : int
            Rows, ``0 <= start <= stop <= out``.
        out : ndarray, optional
            Filled and returned: C-contiguous, shape (stop - start, in), with an item size of the tensor's
            dtype (so that BF16 may be read as the uint16 patterns that kernels take).

        Returns
        -------
        ndarray
            Shape (stop - start, in), in the dtype stored (`DTYPES`) unless `out` has another.

        Raises
        ------
        QuantizationError
            If the file changed since it was opened, ends early or cannot be read.
        ShapeMismatchError
            If the rows are not within the tensor or `out` does not fit.
        ValidationError
            If there is no such tensor, `out` is read-only or not contiguous, or the checkpoint was closed.
        """
        info = self._info(name)
        dtype = DTYPES[info.dtype]
        rows = info.shape[0] if info.shape else 1
        cols = math.prod(info.shape[1:])
        if not 0 <= start <= stop <= rows:
            raise ShapeMismatchError(
                f"{info.path}: tensor {name!r} has {rows} rows; there are no rows {start} to {stop}.",
                path=info.path,
                tensor=name,
            )
        shape = (stop - start, cols)
        if out is None:
            out = np.empty(shape, dtype)
        elif out.shape != shape or out.itemsize != dtype.itemsize:
            raise ShapeMismatchError(
                f"{info.path}: rows {start} to {stop} of tensor {name!r} have the shape {shape} and "
                f"{dtype.itemsize} bytes an item; the array to fill has {out.shape} and {out.itemsize}.",
                path=info.path,
                tensor=name,
            )
        self._fill(info, start * cols * dtype.itemsize, _writable_bytes(out, name))
        return out

    def view(self, name: str) -> NDArray[Any]:
        """A read-only, memory-mapped array of a tensor, for looking.

        A file that is truncated while it is mapped kills the process that looks: stream with `read_rows`.

        Parameters
        ----------
        name : str
            The tensor.

        Returns
        -------
        ndarray
            In the dtype stored, without copying where it is stored in one piece; it stays valid after `close`.

        Raises
        ------
        QuantizationError
            If the file changed since it was opened.
        ValidationError
            If there is no such tensor, or the checkpoint was closed.
        """
        return self._view(self._info(name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _info(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise ValidationError(
                f"{self.path}: there is no tensor {name!r}.", path=self.path, tensor=name
            ) from None


class DerivedReader(TensorReader):
    """A reader around another: as it stands the same tensors under the same names, for others to change.

    Parameters
    ----------
    source : TensorReader
    """

    def __init__(self, source: TensorReader) -> None:
        self.source = source
        self.path = source.path
        self.tensors = source.tensors
        self.metadata = source.metadata

    @property
    def fingerprint(self) -> str:
        """That of the source."""
        return self.source.fingerprint

    def check_unchanged(self) -> None:
        """Raise `QuantizationError` where a file of the source changed."""
        self.source.check_unchanged()

    def close(self) -> None:
        """Close the source's files."""
        self.source.close()

    def _fill(self, info: TensorInfo, start: int, target: NDArray[np.uint8]) -> None:
        self.source.read_into(info.name, start, target)

    def _view(self, info: TensorInfo) -> NDArray[Any]:
        return self.source.view(info.name)


class TensorFiles(TensorReader, Mapping[str, NDArray[Any]]):
    """A reader of files: also a mapping from names to arrays, which are made when asked for."""

    trailing: Mapping[Path, int] = MappingProxyType({})
    """How many bytes follow the last tensor, where some do, by file."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._view(self.tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.tensors


def _writable_bytes(buffer: Any, tensor: str) -> NDArray[np.uint8]:
    # NumPy does not export arrays of ml_dtypes as buffers, so arrays are viewed, not wrapped.
    array = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ValidationError(
            f"The buffer for tensor {tensor!r} must be writable and C-contiguous.", tensor=tensor
        )
    return array.reshape(-1).view(np.uint8)
