"""What formats have in common whose files are safetensors: the tensors that store a layer, and their rows."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from workbench.checkpoint import DTYPES, Checkpoint, TensorInfo
from workbench.formats.codec import Codec
from workbench.formats.kept import narrowed
from workbench.formats.safetensors.layout import Piece, by_size
from workbench.plan import Option, Plan

PLAN_KEY = "arrowquant.plan"
"""Key of ``__metadata__`` under which the plan is stored."""

SOURCE_KEY = "arrowquant.source"
"""Key under which the source's dtype and shape are stored of each layer that is quantized, and of each tensor that is
kept in another dtype."""

STEM = "model"
"""What the files are called."""


class SafetensorsCodec(Codec):
    """A codec whose pieces are tensors of safetensors files."""

    row_multiple = 1
    """Rows of a layer are written in blocks of a multiple of so many."""
    metadata: Mapping[str, str] = MappingProxyType({})
    """Goes into the files' ``__metadata__`` beside the plan."""
    replaced_dtypes: Mapping[str, str] = MappingProxyType({})
    """The dtype that a kept tensor is stored in instead of one that the runtime cannot load, by the latter."""

    @abstractmethod
    def pieces(self, tensor: TensorInfo, option: Option) -> Sequence[Piece]:
        """The tensors that store a layer; `encode` gives, in this order, those whose content is not known before."""

    def extra(self, plan: Plan) -> Sequence[Piece]:
        """Tensors of a file besides those that store a tensor of the checkpoint, such as markers; with content."""
        return ()

    def files(
        self, checkpoint: Checkpoint, pieces: Mapping[str, Sequence[Piece]], shard_bytes: int
    ) -> tuple[Mapping[str, Sequence[Piece]], str | None]:
        """The files and what each holds, and the name of the index if any; `pieces` are by the checkpoint's tensor."""
        files = by_size(pieces.values(), shard_bytes, STEM)
        return files, f"{STEM}.safetensors.index.json" if len(files) > 1 else None

    def source_metadata(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        """What of a checkpoint goes into the files' ``__metadata__`` besides."""
        return {}

    def locate(self, folder: Path) -> Path:
        """The index of the files in a folder, or the only file."""
        index = folder / f"{STEM}.safetensors.index.json"
        return index if index.exists() else folder / f"{STEM}.safetensors"

    def documents(self, checkpoint: Checkpoint, plan: Plan) -> Mapping[str, bytes]:
        """The format's own small files, such as config.json."""
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


def stored_pieces(codec: SafetensorsCodec, tensor: TensorInfo, option: Option | None) -> Sequence[Piece]:
    """The tensors that store a tensor of the checkpoint: itself, unless it is quantized."""
    if option is None or option.is_kept:
        return (Piece(tensor.name, codec.kept_dtype(tensor.dtype), tensor.shape),)
    return codec.pieces(tensor, option)


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
