"""How a target whose files are safetensors stores a layer: what their writer and their payload share."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES, Checkpoint, TensorInfo
from workbench.checkpoint.blocks import Block
from workbench.formats.kept import narrowed
from workbench.formats.safetensors.layout import Piece, by_size
from workbench.formats.target import BlockCheck
from workbench.plan import Option, Plan
from workbench.quantize import Encoding

PLAN_KEY = "arrowquant.plan"
"""Key of ``__metadata__`` under which the plan is stored."""

SOURCE_KEY = "arrowquant.source"
"""Key under which the source's dtype and shape are stored of each layer that is quantized, and of each tensor that is
kept in another dtype."""

STEM = "model"
"""What the files are called."""


class Scheme(ABC):
    """How a safetensors target stores a layer: as which tensors, and with which codes."""

    row_multiple = 1
    """Rows of a layer are written in blocks of a multiple of so many."""
    metadata: Mapping[str, str] = MappingProxyType({})
    """Goes into the files' ``__metadata__`` beside the plan."""
    replaced_dtypes: Mapping[str, str] = MappingProxyType({})
    """The dtype that a kept tensor is stored in instead of one that the runtime cannot load, by the latter."""

    @abstractmethod
    def pieces(self, tensor: TensorInfo, option: Option) -> Sequence[Piece]:
        """The tensors that store a layer."""

    @abstractmethod
    def encode(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding
    ) -> Sequence[NDArray[Any]]:
        """Rows of each piece but those whose content is known."""

    @abstractmethod
    def decode(self, rows: Sequence[NDArray[Any]], option: Option, cols: int) -> NDArray[np.float32]:
        """Weights [rows, cols] of rows of each piece but those whose content is known."""

    @abstractmethod
    def check(
        self, weights: NDArray[Any], rows: Sequence[NDArray[Any]], option: Option, block: Block
    ) -> BlockCheck:
        """Compare stored rows with their source."""

    def files(
        self, checkpoint: Checkpoint, pieces: Mapping[str, Sequence[Piece]], shard_bytes: int
    ) -> tuple[Mapping[str, Sequence[Piece]], str | None]:
        """The files and what each holds, and the name of the index if any; `pieces` are by the checkpoint's tensor."""
        files = by_size(pieces.values(), shard_bytes, STEM)
        return files, f"{STEM}.safetensors.index.json" if len(files) > 1 else None

    def locate(self, folder: Path) -> Path:
        """The index of the files in a folder, or the only file."""
        index = folder / f"{STEM}.safetensors.index.json"
        return index if index.exists() else folder / f"{STEM}.safetensors"

    def documents(self, checkpoint: Checkpoint, plan: Plan) -> Mapping[str, bytes]:
        """The target's own small files, such as config.json."""
        return {}

    def kept_dtype(self, dtype: str) -> str:
        """The dtype in which a kept tensor of a dtype is stored."""
        return self.replaced_dtypes.get(dtype, dtype)

    def converted(self, rows: NDArray[Any], dtype: str, tensor: str) -> NDArray[Any]:
        """Rows of a kept tensor of a dtype, as they are stored.

        Raises
        ------
        ValidationError
            If a finite number is beyond the dtype that is stored.
        """
        stored = self.kept_dtype(dtype)
        return rows if stored == dtype else narrowed(rows, DTYPES[stored], tensor)


def stored_pieces(scheme: Scheme, tensor: TensorInfo, option: Option | None) -> Sequence[Piece]:
    """The tensors that store a tensor of the checkpoint: itself, unless it is quantized."""
    if option is None or option.is_kept:
        return (Piece(tensor.name, scheme.kept_dtype(tensor.dtype), tensor.shape),)
    return scheme.pieces(tensor, option)


def merged_config(checkpoint: Checkpoint, **entries: Any) -> dict[str, bytes]:
    """config.json: the checkpoint's, with further entries."""
    text = json.dumps({**checkpoint.config, **entries}, indent=2, ensure_ascii=False)
    return {"config.json": (text + "\n").encode()}


def module_of(name: str) -> str:
    """The module that owns a weight."""
    return name.removesuffix(".weight")


def scale_dtype(dtype: str) -> str:
    """The dtype of scales beside weights of a dtype: the same where it is a plain float of at most 32 bits."""
    return dtype if dtype in ("F32", "F16", "BF16") else "F32"
