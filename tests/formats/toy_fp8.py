"""A format that the package does not have, in one module: float8 codes, a scale a tensor, a marker a file.

It shows what a new format needs: options, a codec with something to be known of a whole tensor before its first row,
extra tensors, and the record that it registers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from workbench.checkpoint import DTYPES, Checkpoint, TensorInfo
from workbench.engine.referees import Decoded
from workbench.formats.codec import Named, RowReader, read_in_blocks
from workbench.formats.format import Language, Loading, TargetSettings, kept, smaller
from workbench.formats.model_classes import workbench_lines
from workbench.formats.safetensors.codec import SafetensorsCodec, merged_config, module_of
from workbench.formats.safetensors.export import safetensors_format
from workbench.formats.safetensors.layout import Piece
from workbench.plan import Layer, Option, Plan
from workbench.quantize import Encoded, Rows, check_finite

NAME, SCHEME = "toy-fp8", "float8"
FLOAT8 = np.dtype(ml_dtypes.float8_e4m3fn)
LARGEST = float(ml_dtypes.finfo(FLOAT8).max)
MARKER = Piece("toy_fp8", "U8", (4,), content=b"e4m3")


def options(layer: Layer, settings: TargetSettings) -> Sequence[Option]:
    """Float8 for the weights of linears, and the source's dtype."""
    keep = kept(layer, DTYPES[layer.dtype].itemsize)
    if layer.kind != "linear" or len(layer.shape) != 2:
        return [keep]
    return sorted([Option(8, SCHEME, 0, layer.params + 4), keep], key=lambda option: option.nbytes)


def nearest(layer: Layer, bits: int, scheme: str, group_size: int, settings: TargetSettings) -> Option:
    """Float8, whatever the width, where it takes fewer bytes."""
    found = options(layer, settings)
    return smaller(found[0], found[-1]) if len(found) > 1 else found[0]


class Float8Codec(SafetensorsCodec):
    """Codes of a tensor times one scale, by which its greatest weight becomes the greatest float8."""

    metadata = MappingProxyType({"format": "pt"})

    def prepare(self, tensor: Named, reader: RowReader) -> np.float32:
        peak = 0.0
        for weights in read_in_blocks(tensor, reader):
            peak = max(peak, float(np.abs(weights.astype(np.float32)).max(initial=0.0)))
        return np.float32(peak / LARGEST or 1.0)

    def pieces(self, tensor: TensorInfo, option: Option) -> Sequence[Piece]:
        module = module_of(tensor.name)
        return (
            Piece(f"{module}.weight", "F8_E4M3", tensor.shape),
            Piece(f"{module}.weight_scale", "F32", (1,), is_whole=True),
        )

    def extra(self, plan: Plan) -> Sequence[Piece]:
        return (MARKER,)

    def encode(self, rows: Rows, option: Option) -> Encoded:
        check_finite(rows.weights, rows.tensor, rows.row_start)
        scale = rows.prepared
        codes = np.clip(rows.weights.astype(np.float32) / scale, -LARGEST, LARGEST).astype(FLOAT8)
        return self.encoded(rows, option, (codes, np.array([scale], np.float32)), partial(_count, codes))

    def decode(self, pieces: Sequence[NDArray[Any]], option: Option, cols: int) -> NDArray[np.float32]:
        codes, scale = pieces
        decoded: NDArray[np.float32] = codes.astype(np.float32).reshape(-1, cols) * scale[0]
        return decoded

    def documents(self, checkpoint: Checkpoint, plan: Plan) -> dict[str, bytes]:
        return merged_config(checkpoint, quantization_config={"quant_method": NAME})


def _count(codes: NDArray[Any]) -> NDArray[np.int64]:
    return np.bincount(codes.reshape(-1).view(np.uint8), minlength=256)


class Float8Referee:
    """An independent decoder: torch's float8 times the scale."""

    PACKAGE = "torch"

    def __init__(self, folder: Path) -> None:
        self.name = "torch.float8_e4m3fn"
        assert json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"] == NAME
        self._file: Any = safe_open(folder / "model.safetensors", "pt")

    def decode(self, layer: str, start: int, stop: int) -> Decoded:
        scale = self._file.get_tensor(f"{module_of(layer)}.weight_scale")
        return Decoded((self._file.get_slice(layer)[start:stop].float() * scale).numpy())

    def read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        part = self._file.get_slice(name)
        found = part[start:stop] if part.get_shape() else self._file.get_tensor(name)
        return np.asarray((found.float() if found.is_floating_point() else found).numpy())


def _readers(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    return ("Nothing loads toy-fp8 but workbench.load.",)


def _lines(checkpoint: Checkpoint, folder: Path, plan: Plan) -> tuple[Language, Sequence[str]]:
    return "python", workbench_lines(folder)


FORMAT = safetensors_format(
    Float8Codec(),
    name=NAME,
    title="toy float8",
    about="of the tests",
    offered=options,
    nearest=nearest,
    loading=Loading(_readers, _lines),
    referee=f"{__name__}:Float8Referee",
)
