"""Exports that are GGUF files: their layout, and how they are checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint, TensorInfo, denoiser_of
from workbench.checkpoint.readers.gguf_file import GgufKey
from workbench.formats.codec import Encoder
from workbench.formats.format import Check, TargetSettings
from workbench.formats.gguf.codec import GgufCodec
from workbench.formats.gguf.families import Family, family_of
from workbench.formats.gguf.keys import file_keys
from workbench.formats.gguf.layout import GgufLayout, lay_out
from workbench.formats.gguf.reader import FILE, PLAN_KEY, SOURCE_KEY, GgufPayload
from workbench.formats.gguf.runtimes import Runtimes, runtimes_of
from workbench.formats.gguf.tensors import Stored, describe, stored_tensors
from workbench.formats.kept import kept_tensors, notes_on_conversions
from workbench.formats.placed import BlockUnit, Place, units_of
from workbench.plan import Option, Plan
from workbench.quantize import Encodings


@dataclass(frozen=True, eq=False)
class GgufExport:
    """The GGUF file of one export."""

    name: str
    """What the file is called."""
    family: Family
    """What the checkpoint is recognised as."""
    choices: Mapping[str, Option]
    """The options of the layers."""
    stored: Mapping[str, Stored]
    """How each tensor of the checkpoint is stored."""
    keys: Mapping[str, GgufKey]
    """The file's keys."""
    placed: GgufLayout
    """The file."""
    units: Sequence[BlockUnit]
    """The division into units."""
    rounded: Sequence[TensorInfo]
    """Kept tensors that are rounded to F32."""

    @property
    def documents(self) -> Mapping[str, bytes]:
        """None: the keys say all."""
        return {}

    @property
    def nbytes(self) -> int:
        """Exact bytes of the file."""
        return self.placed.nbytes

    @property
    def files(self) -> Mapping[str, int]:
        """The same, by the file's name."""
        return {self.name: self.nbytes}

    @cached_property
    def runtimes(self) -> Runtimes:
        """What loads the file."""
        return runtimes_of(self.family, self.stored.values(), self.keys)

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the report."""
        return (*self.runtimes.notes, *notes_on_conversions(dict.fromkeys(self.rounded, "F32")))

    def create(self, folder: Path) -> None:
        """Create the file at its final size, with its header."""
        self.placed.create(folder / self.name)

    def places(self, name: str) -> Sequence[Place]:
        """Where the data of a tensor are."""
        stored = self.stored[name]

        def runs(start: int, stop: int) -> Iterable[tuple[slice, int]]:
            for first, last, place in stored.runs(start, stop):
                yield slice(first - start, last - start), place

        return (Place(self.name, self.placed.places[stored.name], stored.row_bytes, runs),)

    def convert(self, rows: NDArray[Any], tensor: TensorInfo) -> NDArray[Any]:
        """Rows of a kept tensor, as they are stored."""
        return self.stored[tensor.name].convert(rows)


def layout_of(checkpoint: Checkpoint, plan: Plan, settings: TargetSettings) -> GgufExport:
    """The file of a plan's export.

    Raises
    ------
    ValidationError
        If a tensor has a dtype that GGUF lacks, or a language model does not fit llama.cpp's names and keys.
    """
    checkpoint = denoiser_of(checkpoint)
    family = family_of(checkpoint)
    stored = stored_tensors(checkpoint, plan, family)
    pieces = [one.piece for one in stored.values()]
    shapes = {
        one.name: one.source.shape for one in stored.values() if one.shape != (one.source.shape or (1,))
    }
    own = {PLAN_KEY: plan.recipe, SOURCE_KEY: {name: describe(one) for name, one in stored.items()}}
    keys = file_keys(checkpoint, family, pieces, shapes, own)
    return GgufExport(
        name=file_name(checkpoint),
        family=family,
        choices=plan.choices,
        stored=stored,
        keys=keys,
        placed=lay_out(keys, pieces),
        units=units_of(checkpoint),
        rounded=[tensor for tensor in kept_tensors(checkpoint, plan) if tensor.dtype == "F64"],
    )


def file_name(checkpoint: Checkpoint) -> str:
    """What the GGUF file of a checkpoint is called.

    The denoisers of one pipeline end up in one folder of the runtime, so each is called by its component.
    """
    return f"{checkpoint.component}.gguf" if len(checkpoint.denoisers) > 1 else FILE


def names_in_file(checkpoint: Checkpoint) -> Mapping[str, str]:
    """What the file calls the tensors of a checkpoint."""
    return family_of(checkpoint).names


@contextmanager
def checker(checkpoint: Checkpoint, folder: Path, encodings: Encodings | None) -> Iterator[Check]:
    """What reads units back and compares each block with the source."""
    payload = GgufPayload(folder, watched=False)
    held = denoiser_of(checkpoint)
    try:
        yield payload.checker(held, Encoder(GgufCodec(), held, encodings, payload.plan))
    finally:
        payload.close()
