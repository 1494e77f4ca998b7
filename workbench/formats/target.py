"""What an export target must offer, whatever its file looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint
from workbench.errors import ValidationError
from workbench.plan import KEEP, Layer, Option, Plan
from workbench.quantize import FAST, Encoding, Encodings, Error

NO_ERROR = Error()


@dataclass(frozen=True)
class TargetSettings:
    """What a user may ask of targets; each heeds what concerns it."""

    shard_bytes: int = 5 * 10**9
    """Bytes of tensor data after which a safetensors file is closed and another begun."""
    all_widths: bool = False
    """Offer widths too that only newer versions of the format's runtimes read right."""
    scheme: str | None = None
    """The scheme asked for; asymmetric options that only some of the format's runtimes load are offered where it is
    ``"asymmetric"``."""


@dataclass(frozen=True)
class Unit:
    """A piece of the payload that is written and checked in one go, independently of the others."""

    index: int
    """Its place among the units, from 0."""
    nbytes: int
    """Bytes of the source that go into it."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a payload."""

    name: str
    """Its name in the checkpoint."""
    shape: tuple[int, ...]
    """Its shape in the checkpoint."""
    dtype: str
    """Its dtype in the checkpoint, by its safetensors name."""
    option: Option | None
    """How it is stored; None where it keeps its source dtype."""


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


@dataclass(frozen=True)
class Trial:
    """What rows of a layer become as an option: measured, not kept."""

    sums: NDArray[np.float64]
    """‖δ‖², ‖w‖² and w·δ of each row, where δ = w − ŵ, [rows, 3]."""
    code_counts: NDArray[np.int64]
    """Occurrences of each code, [2**bits]."""


Check = Callable[[int], Iterator[BlockCheck]]
"""Reads a unit back from its file, by its index, and compares each block with the source.

It does so as its iterator is asked, in the order in which `Writer.write` writes the blocks, and needs no more of the
unit than has been yielded there; the bytes of all blocks add up to the unit's.
"""


class Payload(Protocol):
    """A written payload, opened for reading."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """All tensors by name, in the checkpoint's order."""

    @property
    def plan(self) -> Plan:
        """The plan recorded in the payload itself."""

    def units(self, checkpoint: Checkpoint) -> int:
        """Number of units, as `Target.checker` counts them."""

    @property
    def nbytes(self) -> int:
        """Bytes of all its files."""

    def read(self, name: str) -> NDArray[Any]:
        """The tensor: decoded to float32 where it was quantized, else in its own dtype."""

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """The same of some rows, [rows, ...]; the first must be a multiple of 32."""


class Writer(Protocol):
    """Writes one export; everything about it depends on the checkpoint and the plan only."""

    @property
    def predicted_bytes(self) -> int:
        """Bytes of the payload: exact, or an upper bound where the target says so."""

    @property
    def predicted_files(self) -> Mapping[str, int]:
        """Bytes of each of its files by name, relative to the folder; they add up to `predicted_bytes`."""

    @property
    def units(self) -> Sequence[Unit]:
        """The payload's division into units."""

    @property
    def documents(self) -> Mapping[str, bytes]:
        """Small files of the target's own, by name, which take the place of side files of that name."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the report, such as on what can load the payload."""

    def begin(self, folder: Path) -> None:
        """Prepare the folder; harmless where an interrupted run has done so."""

    def write(self, unit: Unit, folder: Path) -> Iterator[int]:
        """Write a unit; yields source bytes when they can be read back, and 0 where the caller may stop it between."""


class Target(Protocol):
    """An export format: what it can store, and how it is written and read."""

    name: str
    """As the configuration names it."""

    def options(self, layer: Layer) -> Sequence[Option]:
        """Everything that is offered for the layer, keeping it included, fewest bytes first."""

    def stores(self, layer: Layer, option: Option) -> bool:
        """Whether the format can store the layer as an option: each that is offered, and perhaps others."""

    def quantized(self, layer: Layer, bits: int, scheme: str, group_size: int) -> Option:
        """The legal option nearest to a wish: this width or the next wider, this group size or the next smaller.

        The source dtype where there is none, or none that takes fewer bytes.
        """

    def error(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> Error:
        """What rows of a layer [rows, cols] lose when they are stored as an option."""

    def measure(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> Trial:
        """The same row by row, and the codes that rows of a layer are stored as; the option is not to keep it."""

    def decoded(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> NDArray[np.float32]:
        """What rows of a layer [rows, cols] come back as when they are stored as an option that is not to keep it."""

    is_exact: bool
    """Whether the predicted size of a payload is exact; an upper bound otherwise."""

    def writer(self, checkpoint: Checkpoint, plan: Plan, encodings: Encodings | None = None) -> Writer:
        """What writes a plan's export; the encodings are the plan's."""

    def checker(
        self, checkpoint: Checkpoint, folder: Path, encodings: Encodings | None = None
    ) -> AbstractContextManager[Check]:
        """What checks units in a folder, in any thread, also while others are written there.

        The encodings are those of the plan; few targets ask for them.
        """

    def open(self, folder: Path) -> Payload:
        """Open a payload that was written to a folder."""


def kept(layer: Layer, bytes_per_weight: int) -> Option:
    """The option of leaving a layer in its source dtype."""
    return Option(8 * bytes_per_weight, KEEP, 0, layer.params * bytes_per_weight)


def kept_as(layer: Layer, target: Target) -> Option:
    """The option of a target that leaves a layer in its source dtype."""
    return next(option for option in target.options(layer) if option.is_kept)


def require_storable(checkpoint: Checkpoint, target: Target) -> None:
    """Make sure that there is something to quantize, and that a format can hold it; to be asked before measuring.

    Raises
    ------
    ValidationError
        If the checkpoint has no layers.
    ArrowQuantError
        What the target's writer has against a plan that keeps every layer.
    """
    if not any(layer.params for layer in checkpoint.layers):
        raise ValidationError(
            f"{checkpoint.path}: there is nothing to quantize here: none of its {len(checkpoint.tensors)} tensors is a "
            "layer, that is the weight of a linear, convolution or embedding, of two or more axes and in a "
            "floating-point dtype. Open the model that it belongs to.",
            path=checkpoint.path,
        )
    choices = {layer.name: kept_as(layer, target) for layer in checkpoint.layers if layer.params}
    target.writer(checkpoint, Plan(target.name, choices, checkpoint.fingerprint))


def smaller(option: Option, otherwise: Option) -> Option:
    """The option, unless it does not take fewer bytes than the other."""
    return option if option.nbytes < otherwise.nbytes else otherwise
