"""Exports whose files are safetensors: their layout, and how they are written and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint, TensorInfo
from workbench.formats.codec import Encoder
from workbench.formats.format import Check, Format, TargetSettings
from workbench.formats.kept import kept_tensors, notes_on_conversions
from workbench.formats.placed import BlockUnit, Place, PlacedWriter, units_of
from workbench.formats.safetensors.codec import PLAN_KEY, SOURCE_KEY, SafetensorsCodec, stored_pieces
from workbench.formats.safetensors.layout import FileLayout, Piece, lay_out
from workbench.formats.safetensors.reader import SafetensorsPayload
from workbench.plan import Option, Plan
from workbench.quantize import Encodings


@dataclass(frozen=True, eq=False)
class SafetensorsLayout:
    """The safetensors files of one export."""

    codec: SafetensorsCodec
    """Stores the layers."""
    choices: Mapping[str, Option]
    """The options of the layers."""
    pieces: Mapping[str, Sequence[Piece]]
    """What stores each tensor of the checkpoint."""
    placed: FileLayout
    """The files."""
    units: Sequence[BlockUnit]
    """The division into units."""
    documents: Mapping[str, bytes]
    """Small files of the format's own."""
    notes: Sequence[str]
    """Sentences for the report."""

    @property
    def nbytes(self) -> int:
        """Exact bytes of all files, headers and index included."""
        return self.placed.nbytes

    @property
    def files(self) -> Mapping[str, int]:
        """Exact bytes of each file."""
        return self.placed.sizes

    def create(self, folder: Path) -> None:
        """Create the files at their final size, with headers and what is known beforehand."""
        self.placed.create(folder)

    def places(self, name: str) -> Sequence[Place]:
        """Where the pieces of a tensor are, but those whose content is known."""
        return [self._place(piece) for piece in self.pieces[name] if piece.content is None]

    def convert(self, rows: NDArray[Any], tensor: TensorInfo) -> NDArray[Any]:
        """Rows of a kept tensor, as they are stored."""
        return self.codec.converted(rows, tensor.dtype, tensor.name)

    def _place(self, piece: Piece) -> Place:
        shard, offset = self.placed.places[piece.name]

        def runs(start: int, stop: int) -> Iterable[tuple[slice, int]]:
            return [(slice(None), piece.rows_of(start, stop)[0])]

        return Place(
            self.placed.shards[shard].name, offset, piece.row_bytes, None if piece.is_whole else runs
        )


def layout_of(
    codec: SafetensorsCodec, checkpoint: Checkpoint, plan: Plan, settings: TargetSettings
) -> SafetensorsLayout:
    """The files of a plan's export."""
    quantized = [name for name, option in plan.choices.items() if not option.is_kept]
    converted = {
        tensor: codec.kept_dtype(tensor.dtype)
        for tensor in kept_tensors(checkpoint, plan)
        if codec.kept_dtype(tensor.dtype) != tensor.dtype
    }
    sources = {
        tensor.name: [tensor.dtype, list(tensor.shape)]
        for tensor in (*(checkpoint.tensors[name] for name in quantized), *converted)
    }
    pieces = {
        name: stored_pieces(codec, tensor, plan.choices.get(name))
        for name, tensor in checkpoint.tensors.items()
    }
    files, index_name = codec.files(checkpoint, pieces, settings.shard_bytes)
    if extra := codec.extra(plan):
        first = min(files, default="")
        files = {name: [*held, *(extra if name == first else ())] for name, held in files.items()}
    metadata = {
        **codec.metadata,
        **codec.source_metadata(checkpoint),
        PLAN_KEY: _compact(plan.recipe),
        SOURCE_KEY: _compact(sources),
    }
    return SafetensorsLayout(
        codec=codec,
        choices=plan.choices,
        pieces=pieces,
        placed=lay_out(files, metadata, index_name),
        units=units_of(checkpoint, codec.row_multiple),
        documents=codec.documents(checkpoint, plan),
        notes=tuple(notes_on_conversions(converted)),
    )


def safetensors_format(codec: SafetensorsCodec, **record: Any) -> Format:
    """The record of a format whose files are safetensors.

    Parameters
    ----------
    codec : SafetensorsCodec
    **record
        The other fields of `Format`; how the files are laid out, written, opened and checked follows from the codec.
    """

    def layout(checkpoint: Checkpoint, plan: Plan, settings: TargetSettings) -> SafetensorsLayout:
        return layout_of(codec, checkpoint, plan, settings)

    def open_payload(folder: Path) -> SafetensorsPayload:
        return SafetensorsPayload(codec, folder)

    return Format(
        codec=codec,
        lay_out=layout,
        writer=PlacedWriter,
        open=open_payload,
        **{"checker": checker_of(codec), **record},
    )


def checker_of(
    codec: SafetensorsCodec, *, encodes: bool = False
) -> Callable[[Checkpoint, Path, Encodings | None], AbstractContextManager[Check]]:
    """What reads units back and compares each block with the source.

    Parameters
    ----------
    codec : SafetensorsCodec
    encodes : bool
        Whether it encodes the source again, for which it must have the plan's calibration.
    """

    @contextmanager
    def checker(checkpoint: Checkpoint, folder: Path, encodings: Encodings | None) -> Iterator[Check]:
        payload = SafetensorsPayload(codec, folder, watched=False)
        encoder = Encoder(codec, checkpoint, encodings, payload.plan)
        if encodes:
            encoder.encodings  # noqa: B018 - raises where it is not given, before anything is read
        yield payload.checker(checkpoint, encoder)

    return checker


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
