"""`Format`: the record of an export format, which is all that the rest of the workbench knows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint
from workbench.config import Effort, Names, Scheme
from workbench.formats.codec import BlockCheck, Codec, Encoder, RowReader
from workbench.formats.requests import RulesSyntax
from workbench.plan import KEEP, Layer, Option, Plan
from workbench.quantize import Encodings


@dataclass(frozen=True)
class TargetSettings:
    """What a user may ask of export formats; each heeds what concerns it."""

    shard_bytes: int = 5 * 10**9
    """Bytes of tensor data after which a safetensors file is closed and another begun."""
    all_widths: bool = False
    """Offer widths too that only newer versions of the format's runtimes read right."""
    scheme: str | None = None
    """The scheme asked for; asymmetric options that only some of the format's runtimes load are offered where it is
    ``"asymmetric"``."""


DEFAULTS = TargetSettings()
"""What formats do where nobody asks for more."""


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


Check = Callable[[int], Iterator[BlockCheck]]
"""Reads a unit back from its file, by its index, and compares each block with the source.

It does so as its iterator is asked, in the order in which `Writer.write` writes the blocks, and needs no more of the
unit than has been yielded there; the bytes of all blocks add up to the unit's.
"""


class Layout(Protocol):
    """What a payload will be, before a weight is read: a value that depends on the checkpoint and the plan only."""

    @property
    def nbytes(self) -> int:
        """Bytes of the payload: exact, or an upper bound where the format says so."""

    @property
    def files(self) -> Mapping[str, int]:
        """Bytes of each of its files by name, relative to the folder; they add up to `nbytes`."""

    @property
    def units(self) -> Sequence[Unit]:
        """The payload's division into units."""

    @property
    def documents(self) -> Mapping[str, bytes]:
        """Small files of the format's own, by name, which take the place of side files of that name."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the report, such as on what can load the payload."""


class Writer(Protocol):
    """Writes the payload of a layout."""

    def begin(self, folder: Path) -> None:
        """Prepare the folder; harmless where an interrupted run has done so."""

    def write(self, unit: Unit, folder: Path) -> Iterator[int]:
        """Write a unit; yields source bytes when they can be read back, and 0 where the caller may stop it between."""


class Payload(Protocol):
    """A written payload, opened for reading."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """All tensors by name, in the checkpoint's order."""

    @property
    def plan(self) -> Plan:
        """The plan recorded in the payload itself."""

    def units(self, checkpoint: Checkpoint) -> int:
        """Number of units, as `Format.checker` counts them."""

    @property
    def nbytes(self) -> int:
        """Bytes of all its files."""

    def read(self, name: str) -> NDArray[Any]:
        """The tensor: decoded to float32 where it was quantized, else in its own dtype."""

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """The same of some rows, [rows, ...]; the first must be a multiple of 32."""


Language = Literal["python", "sh"]
"""What lines of code are written in."""


@dataclass(frozen=True)
class Loading:
    """What is known of the programs that load a format."""

    readers: Callable[[Checkpoint, Plan], tuple[str, ...]]
    """Sentences on what loads an export of a plan, besides the notes of its layout."""
    lines: Callable[[Checkpoint, Path, Plan], tuple[Language, Sequence[str]]]
    """The lines that load the export of a plan in a folder; what is in the folder already counts before the plan."""
    suits: Callable[[Checkpoint], bool] | None = None
    """Whether the usual runtime of a checkpoint's family loads the format; None where it never is the usual one."""
    depends_on_file: bool = False
    """Whether the programs that an architecture names for the format load a file only by what is in it, so that the
    notes of a layout say which do; they come first where a target is chosen."""


@dataclass(frozen=True)
class Format:
    """An export format: what it can store, and how that is encoded, written, read and judged."""

    name: str
    """As users name it, ``target="gguf"``."""
    title: str
    """As sentences and titles name it."""
    about: str
    """What it is and who reads it, in a few words, for help texts."""
    offered: Callable[[Layer, TargetSettings], Sequence[Option]]
    """Everything that is offered for a layer, keeping it included, fewest bytes first."""
    nearest: Callable[[Layer, int, str, int, TargetSettings], Option]
    """The legal option nearest to a width, scheme and group size, see `Format.quantized`."""
    codec: Codec
    """Encodes and decodes rows."""
    lay_out: Callable[[Checkpoint, Plan, TargetSettings], Layout]
    """The layout of a plan's payload."""
    writer: Callable[[Any, Checkpoint, Encoder], Writer]
    """What writes the payload of one of its layouts; the encoder is the plan's."""
    open: Callable[[Path], Payload]
    """Opens a payload that was written to a folder."""
    checker: Callable[[Checkpoint, Path, Encodings | None], AbstractContextManager[Check]]
    """What checks units in a folder, in any thread, also while others are written there.

    The encodings are those of the plan; few formats ask for them."""
    loading: Loading
    """Who loads it, and how."""
    stored: Callable[[Layer, Option], bool] | None = None
    """Whether it can store a layer as an option; None where just what is offered."""
    is_exact: bool = True
    """Whether the predicted size of a payload is exact; an upper bound otherwise."""
    keeps_size: bool = False
    """Whether a payload has the source's size whatever the options, since it is for trying them."""
    names: Names = "checkpoint"
    """What layers are called where nobody asks: as in the original checkpoint where that is known, or as they are."""
    holds_denoiser_only: bool = False
    """Whether its runtimes take all tensors of a file for the denoiser's, so that of an all-in-one file only that is
    exported."""
    scheme: Scheme = "asymmetric"
    """Whether groups have a zero point or only a scale where nobody asks."""
    effort: Effort = "fast"
    """How hard to look for codes where nobody asks."""
    referee: str | None = None
    """What decodes an export independently of this workbench, as ``module:Class``; see `workbench.engine.referees`."""
    rules: Mapping[str, RulesSyntax] = field(default_factory=lambda: MappingProxyType({}))
    """Rules of other tools that plans for it can be read from and written to, by name."""
    file_names: Callable[[Checkpoint], Mapping[str, str]] | None = None
    """What its files call the tensors of a checkpoint; None where as the checkpoint does."""
    plan_of: Callable[[Plan, Sequence[Layer]], Plan] | None = None
    """Its plan for storing what another format's plan decodes to; None where it cannot."""
    settings: TargetSettings = DEFAULTS
    """What the user asks of it; it matters for what is offered and written, not for reading."""

    def options(self, layer: Layer) -> Sequence[Option]:
        """Everything that is offered for the layer, keeping it included, fewest bytes first."""
        return self.offered(layer, self.settings)

    def stores(self, layer: Layer, option: Option) -> bool:
        """Whether the format can store the layer as an option: each that is offered, and perhaps others."""
        return option in self.options(layer) if self.stored is None else self.stored(layer, option)

    def quantized(self, layer: Layer, bits: int, scheme: str, group_size: int) -> Option:
        """The legal option nearest to what is asked: this width or the next wider, this group size or the next smaller.

        The source dtype where there is none, or none that takes fewer bytes.
        """
        return self.nearest(layer, bits, scheme, group_size, self.settings)

    def encoder(
        self, reader: RowReader, encodings: Encodings | None = None, plan: Plan | None = None
    ) -> Encoder:
        """What encodes rows of a checkpoint's layers, see `workbench.formats.codec.Encoder`."""
        return Encoder(self.codec, reader, encodings, plan)

    def layout(self, checkpoint: Checkpoint, plan: Plan) -> Layout:
        """The layout of a plan's payload.

        Raises
        ------
        ArrowQuantError
            If the format cannot hold a tensor of the checkpoint.
        """
        return self.lay_out(checkpoint, plan, self.settings)


def kept(layer: Layer, bytes_per_weight: int) -> Option:
    """The option of leaving a layer in its source dtype."""
    return Option(8 * bytes_per_weight, KEEP, 0, layer.params * bytes_per_weight)


def kept_as(layer: Layer, target: Format) -> Option:
    """The option of a format that leaves a layer in its source dtype."""
    return next(option for option in target.options(layer) if option.is_kept)


def smaller(option: Option, otherwise: Option) -> Option:
    """The option, unless it does not take fewer bytes than the other."""
    return option if option.nbytes < otherwise.nbytes else otherwise
