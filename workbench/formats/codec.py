"""Codecs: how a format turns rows of weights into what it stores, and back; each row is encoded once."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint.blocks import Block, row_ranges
from workbench.plan import Option, Plan
from workbench.quantize import Encoded, Encodings, Error, Rows, measure_error

NO_ERROR = Error()


class RowReader(Protocol):
    """Reads rows of tensors, as a checkpoint does."""

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows of a tensor, [rows, cols]."""


class Named(Protocol):
    """A layer, or a tensor of a checkpoint."""

    @property
    def name(self) -> str:
        """Its name in the checkpoint."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""


def read_in_blocks(tensor: Named, reader: RowReader) -> Iterator[NDArray[Any]]:
    """The weights of a tensor, [rows, cols], in blocks; none where it is empty."""
    cols = math.prod(tensor.shape[1:])
    for start, stop in row_ranges(0, tensor.shape[0] if cols else 0, cols):
        yield reader.read_rows(tensor.name, start, stop)


@dataclass(frozen=True)
class BlockCheck:
    """What a stored block turned out to be, read back from disk and compared with its source."""

    tensor: str
    """The tensor it belongs to."""
    nbytes: int
    """Its bytes in the source."""
    error: Error = NO_ERROR
    """What its codes lose; none where it keeps the source dtype, which was found equal byte for byte."""
    code_counts: NDArray[np.int64] | None = None
    """Occurrences of each code, [2**bits]; None where none are stored."""
    rounding: float = 0.0
    """‖ŵ − stored‖² where what is stored are decoded weights, rounded to the source's dtype."""
    cut_groups: int = 0
    """Groups that span more than the runtime's arithmetic decodes, and lose their ends."""


class Codec(ABC):
    """How a format encodes and decodes the rows of a layer."""

    def prepare(self, tensor: Named, reader: RowReader) -> Any:
        """What must be known of a whole tensor before its first row, for all its options: a scale, a codebook.

        It is to be read in blocks, see `read_in_blocks`. None where rows stand alone.
        """
        return None

    @abstractmethod
    def encode(self, rows: Rows, option: Option) -> Encoded:
        """Rows of a layer as an option, which is not to keep it.

        Raises
        ------
        ValidationError
            If a weight is NaN or Inf: names the tensor and the first such weight.
        """

    @abstractmethod
    def decode(self, pieces: Sequence[NDArray[Any]], option: Option, cols: int) -> NDArray[np.float32]:
        """Weights [rows, cols] of stored pieces, as `Encoded.pieces` lists them."""

    def check(
        self,
        weights: NDArray[Any],
        pieces: Sequence[NDArray[Any]],
        option: Option,
        block: Block,
        encoder: Encoder,
    ) -> BlockCheck:
        """Compare the stored pieces of a block with their source; `encoder` is for what must be encoded again.

        Raises
        ------
        ValidationError
            If a weight is NaN or Inf.
        """
        decoded = self.decode(pieces, option, weights.shape[1])
        error = measure_error(weights, decoded, block.tensor.name, block.row_start)
        return BlockCheck(block.tensor.name, weights.nbytes, error)

    def encoded(
        self,
        rows: Rows,
        option: Option,
        pieces: Sequence[NDArray[Any]],
        count: Callable[[], NDArray[np.int64]],
        sums: NDArray[np.float64] | None = None,
    ) -> Encoded:
        """The value of `encode` where the pieces are there; the sums count only where the rows were to be measured."""
        decode = partial(self.decode, pieces, option, rows.weights.shape[1])
        return Encoded(rows, lambda: pieces, decode, count, sums if rows.measured else None)


class Encoder:
    """Encodes rows of one checkpoint's layers; safe to use from several threads.

    What the codec must know of a whole tensor is found once, when its first row is encoded, and then used for every
    option of it, and for measuring, writing and checking alike where these share an encoder.

    Parameters
    ----------
    codec : Codec
    reader : RowReader
        The checkpoint.
    encodings : Encodings, optional
        How its weights become codes; by default those that the plan states, else ``fast``.
    plan : Plan, optional
    """

    def __init__(
        self, codec: Codec, reader: RowReader, encodings: Encodings | None = None, plan: Plan | None = None
    ) -> None:
        self.codec = codec
        self._reader = reader
        self._given = encodings
        self._plan = plan
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._prepared: dict[str, Any] = {}

    @cached_property
    def encodings(self) -> Encodings:
        """How weights become codes.

        Raises
        ------
        ArgumentError
            If the plan's codes are weighed by a calibration that is not given.
        """
        if self._given is not None:
            return self._given
        return Encodings() if self._plan is None else Encodings.of_plan(self._plan)

    def encode(
        self,
        tensor: Named,
        option: Option,
        weights: NDArray[Any],
        row_start: int = 0,
        *,
        measured: bool = True,
    ) -> Encoded:
        """Rows of a layer as an option; see `workbench.quantize.Rows` for what is `measured`."""
        return self.codec.encode(self.rows(tensor, weights, row_start, measured=measured), option)

    def rows(
        self, tensor: Named, weights: NDArray[Any], row_start: int = 0, *, measured: bool = True
    ) -> Rows:
        """Rows of a layer with all that its codec must know."""
        encoding = self.encodings.of(tensor.name, tensor.shape)
        return Rows(weights, tensor.name, row_start, encoding, self.prepared(tensor), measured)

    def prepared(self, tensor: Named) -> Any:
        """What `Codec.prepare` finds of a tensor."""
        name = tensor.name
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:  # of this tensor alone, which may be long to read
            if name not in self._prepared:
                self._prepared[name] = self.codec.prepare(tensor, self._reader)
            return self._prepared[name]
