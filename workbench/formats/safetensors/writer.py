"""Writing exports that are safetensors files: rows go straight to their final place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint
from workbench.checkpoint.blocks import Block
from workbench.formats.kept import kept_tensors, notes_on_conversions
from workbench.formats.safetensors.layout import lay_out
from workbench.formats.safetensors.scheme import PLAN_KEY, SOURCE_KEY, Scheme, stored_pieces
from workbench.formats.target import Unit
from workbench.formats.units import PlacedRows, Run, units_of
from workbench.plan import Plan
from workbench.quantize import Encodings


class SafetensorsWriter:
    """Writes the safetensors files of one export.

    Parameters
    ----------
    scheme : Scheme
    checkpoint : Checkpoint
    plan : Plan
    shard_bytes : int
        Bytes of tensor data after which a file is closed.
    encodings : Encodings, optional
        Those of the plan; not needed where no calibration weighs it.
    """

    def __init__(
        self,
        scheme: Scheme,
        checkpoint: Checkpoint,
        plan: Plan,
        shard_bytes: int,
        encodings: Encodings | None = None,
    ) -> None:
        self._given = encodings
        self._scheme = scheme
        self._checkpoint = checkpoint
        self._plan = plan
        quantized = [name for name, option in plan.choices.items() if not option.is_kept]
        converted = {
            tensor: scheme.kept_dtype(tensor.dtype)
            for tensor in kept_tensors(checkpoint, plan)
            if scheme.kept_dtype(tensor.dtype) != tensor.dtype
        }
        sources = {
            tensor.name: [tensor.dtype, list(tensor.shape)]
            for tensor in (*(checkpoint.tensors[name] for name in quantized), *converted)
        }
        self.notes: Sequence[str] = tuple(notes_on_conversions(converted))
        metadata = {PLAN_KEY: _compact(plan.recipe), SOURCE_KEY: _compact(sources)}
        self._pieces = {
            name: stored_pieces(scheme, tensor, plan.choices.get(name))
            for name, tensor in checkpoint.tensors.items()
        }
        files, index_name = scheme.files(checkpoint, self._pieces, shard_bytes)
        self._layout = lay_out(files, {**scheme.metadata, **metadata}, index_name)
        self.units: Sequence[Unit] = units_of(checkpoint, scheme.row_multiple)
        self.documents = scheme.documents(checkpoint, plan)

    @property
    def predicted_bytes(self) -> int:
        """Exact bytes of all files, headers and index included."""
        return self._layout.nbytes

    @property
    def predicted_files(self) -> Mapping[str, int]:
        """Exact bytes of each file."""
        return self._layout.sizes

    def begin(self, folder: Path) -> None:
        """Create the files at their final size, with their headers."""
        self._layout.create(folder)

    def write(self, unit: Unit, folder: Path) -> Iterator[int]:
        """Write a unit's rows into their places; yields source bytes when they can be read back.

        Raises
        ------
        QuantizationError
            If the source changed.
        ValidationError
            If a weight to quantize is NaN or Inf.
        """
        assert isinstance(unit, Run)
        with PlacedRows() as files:
            for block in unit.blocks:
                pieces = [piece for piece in self._pieces[block.tensor.name] if piece.content is None]
                for piece, rows in zip(pieces, self._rows(block), strict=True):
                    shard, offset = self._layout.places[piece.name]
                    first, _ = piece.rows_of(block.row_start, block.row_start)
                    files.write(
                        folder / self._layout.shards[shard].name, rows, offset + first * piece.row_bytes
                    )
                yield block.nbytes

    def _rows(self, block: Block) -> Sequence[NDArray[Any]]:
        name = block.tensor.name
        weights = self._checkpoint.read_rows(name, block.row_start, block.row_start + block.rows)
        option = self._plan.choices.get(name)
        if option is None or option.is_kept:
            return (self._scheme.converted(weights, block.tensor.dtype, name),)
        encoding = self._encodings.of(name, block.tensor.shape)
        return self._scheme.encode(weights, option, name, block.row_start, encoding)

    @cached_property
    def _encodings(self) -> Encodings:
        return self._given or Encodings.of_plan(self._plan)


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
