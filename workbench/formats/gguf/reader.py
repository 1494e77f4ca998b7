"""Reading exports that are GGUF files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint, denoiser_of
from workbench.checkpoint.blocks import Block, require_same
from workbench.checkpoint.readers.gguf_file import GgufFile
from workbench.errors import MetadataError, UsageError
from workbench.formats.codec import BlockCheck, Encoder
from workbench.formats.format import Check, StoredTensor
from workbench.formats.gguf.codec import GgufCodec
from workbench.formats.gguf.tensors import Stored, stored_of
from workbench.formats.placed import units_of
from workbench.plan import Plan

FILE = "model.gguf"
"""What the file of an export is called, unless the pipeline has several denoisers."""
PLAN_KEY = "arrowquant.plan"
SOURCE_KEY = "arrowquant.source"

_CODEC = GgufCodec()


def file_in(folder: Path) -> Path:
    """The GGUF file of an export; it need not exist."""
    found = list(folder.glob("*.gguf"))
    return found[0] if len(found) == 1 else folder / FILE


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
        if tensor.option is not None and not tensor.option.is_kept:
            return _CODEC.decode((rows,), tensor.option, math.prod(tensor.shape[1:])).reshape(shape)
        return stored.restore(rows).reshape(shape)

    def checker(self, checkpoint: Checkpoint, encoder: Encoder) -> Check:
        """What compares the blocks of a unit with their source, in any thread."""
        units = units_of(checkpoint)

        def check(unit: int) -> Iterator[BlockCheck]:
            for block in units[unit].blocks:
                yield self._check_block(block, checkpoint, encoder)

        return check

    def _check_block(self, block: Block, checkpoint: Checkpoint, encoder: Encoder) -> BlockCheck:
        name, start, stop = block.tensor.name, block.row_start, block.row_start + block.rows
        weights = checkpoint.read_rows(name, start, stop)
        stored, option = self._stored[name], self.plan.choices.get(name)
        rows = self._rows(stored, start, stop)
        if option is not None and not option.is_kept:
            return _CODEC.check(weights, (rows,), option, block, encoder)
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
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError, UsageError) as error:
            raise MetadataError(
                f"{path}: its keys do not hold a sound plan: {error}. Only files of this workbench are read here.",
                path=path,
            ) from error
        stored = {name: stored_of(name, entry, plan.choices.get(name), path) for name, entry in sources}
        missing = [name for name in plan.choices if name not in stored]
        if missing:
            raise MetadataError(f"{path}: tensor {missing[0]!r} is missing.", path=path, tensor=missing[0])
        return plan, stored
