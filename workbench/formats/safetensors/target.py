"""What targets share whose payload is safetensors files with packed codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint
from workbench.formats.safetensors.payload import SafetensorsPayload
from workbench.formats.safetensors.scheme import Scheme
from workbench.formats.safetensors.writer import SafetensorsWriter
from workbench.formats.target import Check, Trial
from workbench.plan import Option, Plan
from workbench.quantize import FAST, Encoding, Encodings, Error, count_codes


class Rows(Protocol):
    """Rows of a layer, quantized."""

    @property
    def codes(self) -> NDArray[np.uint8]:
        """[rows, bytes]: each row's codes as one LSB-first bitstream."""

    @property
    def sums(self) -> NDArray[np.float64]:
        """‖δ‖², ‖w‖² and w·δ of each row, [rows, 3]."""

    @property
    def error(self) -> Error:
        """What the codes lose."""


class PackedTarget(ABC):
    """A target that writes each layer as codes, scales and what else its scheme has, in safetensors files.

    Parameters
    ----------
    scheme : Scheme
    shard_bytes : int
        Bytes of tensor data after which a file is closed.
    """

    is_exact = True

    def __init__(self, scheme: Scheme, shard_bytes: int) -> None:
        self._scheme = scheme
        self._shard_bytes = shard_bytes

    @staticmethod
    @abstractmethod
    def encode(
        weights: NDArray[Any],
        option: Option,
        tensor: str,
        row_start: int,
        encoding: Encoding,
        measured: bool = True,
    ) -> Rows:
        """Rows of a layer [rows, cols], quantized; without their sums unless measured."""

    def error(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> Error:
        """What rows of a layer [rows, cols] lose when they are stored as an option."""
        return self.encode(weights, option, tensor, row_start, encoding).error

    def measure(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> Trial:
        """What each row of a layer [rows, cols] loses, and the codes."""
        encoded = self.encode(weights, option, tensor, row_start, encoding)
        return Trial(encoded.sums, count_codes(encoded.codes, weights.shape[1], option.bits))

    def writer(
        self, checkpoint: Checkpoint, plan: Plan, encodings: Encodings | None = None
    ) -> SafetensorsWriter:
        """What writes a plan's safetensors files."""
        return SafetensorsWriter(self._scheme, checkpoint, plan, self._shard_bytes, encodings)

    @contextmanager
    def checker(
        self, checkpoint: Checkpoint, folder: Path, encodings: Encodings | None = None
    ) -> Iterator[Check]:
        """What reads units back and compares each block with the source."""
        yield SafetensorsPayload(self._scheme, folder, watched=False).checker(checkpoint)

    def open(self, folder: Path) -> SafetensorsPayload:
        """Open the files in a folder."""
        return SafetensorsPayload(self._scheme, folder)
