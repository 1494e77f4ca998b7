"""Writing and reading exports that are GGUF files: rows go straight to their final place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint, denoiser_of
from workbench.checkpoint.blocks import Block, require_same
from workbench.checkpoint.readers.gguf_file import GgufFile
from workbench.errors import ConfigurationError, MetadataError
from workbench.formats.gguf.families import family_of
from workbench.formats.gguf.keys import file_keys
from workbench.formats.gguf.layout import lay_out
from workbench.formats.gguf.runtimes import runtimes_of
from workbench.formats.gguf.tensors import Stored, describe, stored_of, stored_tensors
from workbench.formats.kept import kept_tensors, notes_on_conversions
from workbench.formats.target import BlockCheck, Check, StoredTensor, Unit
from workbench.formats.units import PlacedRows, Run, units_of
from workbench.plan import Plan
from workbench.quantize import Encodings, measure_error
from workbench.quantize.ggml import decode_ggml, encode_ggml, ggml_error
from workbench.quantize.half import half_trial, to_half

FILE = "model.gguf"
"""What the file of an export is called, unless the pipeline has several denoisers, see `file_name`."""
PLAN_KEY = "arrowquant.plan"
SOURCE_KEY = "arrowquant.source"


def file_name(checkpoint: Checkpoint) -> str:
    """What the GGUF file of a checkpoint is called.

    The denoisers of one pipeline end up in one folder of the runtime, so each is called by its component.
    """
    return f"{checkpoint.component}.gguf" if len(checkpoint.denoisers) > 1 else FILE


def file_in(folder: Path) -> Path:
    """The GGUF file of an export; it need not exist."""
    found = list(folder.glob("*.gguf"))
    return found[0] if len(found) == 1 else folder / FILE


class GgufWriter:
    """Writes the GGUF file of one export.

    Parameters
    ----------
    checkpoint : Checkpoint
    plan : Plan
    encodings : Encodings, optional
        Those of the plan; not needed where no calibration weighs it.

    Raises
    ------
    ValidationError
        If a tensor has a dtype that GGUF lacks, or a language model does not fit llama.cpp's names and keys.
    """

    documents: Mapping[str, bytes] = MappingProxyType({})

    def __init__(self, checkpoint: Checkpoint, plan: Plan, encodings: Encodings | None = None) -> None:
        self._checkpoint = checkpoint
        self._plan = plan
        self._given = encodings
        self._file = file_name(checkpoint)
        family = family_of(checkpoint)
        self._stored = stored_tensors(checkpoint, plan, family)
        pieces = [stored.piece for stored in self._stored.values()]
        shapes = {
            stored.name: stored.source.shape
            for stored in self._stored.values()
            if stored.shape != (stored.source.shape or (1,))
        }
        own = {
            PLAN_KEY: plan.recipe,
            SOURCE_KEY: {name: describe(stored) for name, stored in self._stored.items()},
        }
        keys = file_keys(checkpoint, family, pieces, shapes, own)
        self._layout = lay_out(keys, pieces)
        self.units: Sequence[Unit] = units_of(checkpoint)
        rounded = {tensor: "F32" for tensor in kept_tensors(checkpoint, plan) if tensor.dtype == "F64"}
        self.runtimes = runtimes_of(family, self._stored.values(), keys)
        self.notes = (
            *self.runtimes.notes,
            *notes_on_conversions(rounded),
        )

    @cached_property
    def _encodings(self) -> Encodings:
        return self._given or Encodings.of_plan(self._plan)

    @property
    def predicted_bytes(self) -> int:
        """Exact bytes of the file."""
        return self._layout.nbytes

    @property
    def predicted_files(self) -> Mapping[str, int]:
        """The same, by the file's name."""
        return {self._file: self.predicted_bytes}

    def begin(self, folder: Path) -> None:
        """Create the file at its final size, with its header."""
        self._layout.create(folder / self._file)

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
                stored = self._stored[block.tensor.name]
                rows = self._rows(block, stored)
                offset = self._layout.places[stored.name]
                for start, stop, place in stored.runs(block.row_start, block.row_start + block.rows):
                    part = rows[start - block.row_start : stop - block.row_start]
                    files.write(folder / self._file, part, offset + place * stored.row_bytes)
                yield block.nbytes

    def _rows(self, block: Block, stored: Stored) -> NDArray[Any]:
        name, start = block.tensor.name, block.row_start
        weights = self._checkpoint.read_rows(name, start, start + block.rows)
        option = self._plan.choices.get(name)
        if stored.is_blocks:
            encoding = self._encodings.of(name, block.tensor.shape)
            # What is read back will be measured.
            return encode_ggml(weights, stored.kind, name, start, encoding, measured=False).data
        if option is not None and not option.is_kept:
            half_trial(weights, name, start)  # finds what is not finite
            return to_half(weights)
        return stored.convert(weights)


class GgufPayload:
    """The GGUF file of an export, opened.

    Parameters
    ----------
    folder : Path
    watched : bool
        Without it, other units of it may be written while it is open.

    Raises
    ------
    MetadataError, ModelNotFoundError, ShapeMismatchError, ValidationError
        If the file is missing or malformed, or its tensors are not those of its plan.
    """

    def __init__(self, folder: Path, *, watched: bool = True) -> None:
        self.folder = folder
        self._file = GgufFile(file_in(folder), watched=watched)
        try:
            self.plan, self._stored = self._read_metadata()
            self._match()
        except BaseException:
            self.close()
            raise
        self.tensors = MappingProxyType(
            {
                name: StoredTensor(
                    name, stored.source.shape, stored.source.dtype, self.plan.choices.get(name)
                )
                for name, stored in self._stored.items()
            }
        )

    def close(self) -> None:
        """Close the file."""
        self._file.file.close()

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return self._file.file.size

    def units(self, checkpoint: Checkpoint) -> int:
        """Number of units into which it is divided for checking."""
        return len(units_of(denoiser_of(checkpoint)))

    def read(self, name: str) -> NDArray[Any]:
        """The tensor: decoded to float32 where it was quantized, else in its own dtype."""
        return self.read_rows(name, 0, self._stored[name].rows).reshape(self.tensors[name].shape)

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """The same of some rows, [rows, ...]."""
        stored, tensor = self._stored[name], self.tensors[name]
        rows = self._rows(stored, start, stop)
        shape = (stop - start, *tensor.shape[1:])
        if stored.is_blocks:
            return decode_ggml(rows, stored.kind, math.prod(tensor.shape[1:])).reshape(shape)
        if tensor.option is not None and not tensor.option.is_kept:
            return rows.astype(np.float32).reshape(shape)
        return stored.restore(rows).reshape(shape)

    def checker(self, checkpoint: Checkpoint) -> Check:
        """What compares the blocks of a unit with their source, in any thread."""
        units = units_of(checkpoint)

        def check(unit: int) -> Iterator[BlockCheck]:
            for block in units[unit].blocks:
                yield self._check_block(block, checkpoint)

        return check

    def _check_block(self, block: Block, checkpoint: Checkpoint) -> BlockCheck:
        name, start, stop = block.tensor.name, block.row_start, block.row_start + block.rows
        weights = checkpoint.read_rows(name, start, stop)
        stored, option = self._stored[name], self.plan.choices.get(name)
        rows = self._rows(stored, start, stop)
        if stored.is_blocks:
            error, counts = ggml_error(weights, rows, stored.kind, name, start)
            return BlockCheck(name, weights.nbytes, error, counts)
        if option is not None and not option.is_kept:
            error = measure_error(weights, rows.astype(np.float32), name, start)
            counts = np.bincount(rows.reshape(-1).view(np.uint16), minlength=1 << 16)
            return BlockCheck(name, weights.nbytes, error, counts)
        require_same(rows, stored.convert(weights), self.folder, name, start)
        return BlockCheck(name, weights.nbytes)

    def _rows(self, stored: Stored, start: int, stop: int) -> NDArray[Any]:
        """Rows as the file has them, in the checkpoint's order: [rows, bytes] of blocks, else [rows, weights]."""
        data = np.empty((stop - start, stored.row_bytes), np.uint8)
        for first, last, place in stored.runs(start, stop):
            part = data[first - start : last - start].reshape(-1)
            self._file.read_into(stored.name, place * stored.row_bytes, part)
        return data if stored.is_blocks else data.view(stored.read_dtype())

    def _match(self) -> None:
        """Make sure that the file's tensors are those that its metadata speak of."""
        found = dict(self._file.tensors)
        for name, stored in self._stored.items():
            tensor = found.pop(stored.name, None)
            if tensor is None or (tensor.kind, tensor.shape) != (stored.kind, stored.shape):
                raise MetadataError(
                    f"{self._file.path}: tensor {stored.name!r}, which stores {name!r}, should be {stored.kind} "
                    f"{stored.shape}, and is {f'{tensor.kind} {tensor.shape}' if tensor else 'missing'}.",
                    path=self._file.path,
                    tensor=name,
                )
        if found:
            raise MetadataError(
                f"{self._file.path}: tensor {next(iter(found))!r} is not one that its metadata speak of.",
                path=self._file.path,
            )

    def _read_metadata(self) -> tuple[Plan, dict[str, Stored]]:
        path = self._file.path
        try:
            plan_text, source_text = (str(self._file.keys[key].value) for key in (PLAN_KEY, SOURCE_KEY))
            plan = Plan.from_dict(json.loads(plan_text), f"{path}: plan")
            sources = json.loads(source_text).items()
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError, ConfigurationError) as error:
            raise MetadataError(
                f"{path}: its keys do not hold a sound plan: {error}. Only files of this workbench are read here.",
                path=path,
            ) from error
        stored = {name: stored_of(name, entry, plan.choices.get(name), path) for name, entry in sources}
        missing = [name for name in plan.choices if name not in stored]
        if missing:
            raise MetadataError(f"{path}: tensor {missing[0]!r} is missing.", path=path, tensor=missing[0])
        return plan, stored
