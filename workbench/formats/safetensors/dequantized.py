"""Plain safetensors, dequantized: a checkpoint of the source's names, dtypes and files with the weights of a plan.

Every layer holds what an export of another format would decode to, rounded to the source's dtype, so that whatever
loads the source loads this, and shows what the plan does before the real export. An option's scheme says whose weights
they are: ``"mlx/affine"``, ``"compressed-tensors/symmetric"``; a bare ``"asymmetric"`` or ``"symmetric"`` is Parquet's,
whose scales are float32. Nothing gets smaller: every option takes the bytes of the source.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES, Checkpoint, TensorInfo
from workbench.checkpoint.blocks import Block
from workbench.errors import MetadataError, QuantizationError
from workbench.formats.codec import BlockCheck, Encoder, Named, RowReader
from workbench.formats.format import Format, TargetSettings, kept
from workbench.formats.registry import target_named
from workbench.formats.safetensors.codec import SafetensorsCodec
from workbench.formats.safetensors.layout import FORMAT, FORMAT_KEY, Piece
from workbench.plan import Layer, Option, Plan
from workbench.quantize import Encoded, Rows, measure_error

NAME = "safetensors"
DEFAULT = "parquet"
"""The format whose weights a bare scheme names."""

EVERYTHING = TargetSettings(all_widths=True, scheme="asymmetric")

PIECE = 2**16
"""Weights whose squares are summed at once."""


def options(layer: Layer, settings: TargetSettings) -> Sequence[Option]:
    """Parquet's options; each takes the bytes of the source."""
    offered = target_named(DEFAULT, EVERYTHING).options(layer)
    return [replace(option, nbytes=_source_bytes(layer)) for option in offered if not option.is_kept] + [
        _kept(layer)
    ]


def stores(layer: Layer, option: Option) -> bool:
    """Whether another format has an option of its width, scheme and group size, and the bytes are the source's."""
    if option.is_kept:
        return option == _kept(layer)
    owner, plain = _plain(option)
    wanted = plain.bits, plain.scheme, plain.group_size
    # A wide option is not offered everywhere, so the formats are asked what they have of any size in bytes.
    return option.nbytes == _source_bytes(layer) and any(
        (found.bits, found.scheme, found.group_size) == wanted for found in owner.options(layer)
    )


def nearest(layer: Layer, bits: int, scheme: str, group_size: int, settings: TargetSettings) -> Option:
    """The option that is asked for."""
    return Option(bits, scheme, group_size, _source_bytes(layer))


def _plain(option: Option) -> tuple[Format, Option]:
    """The format whose weights an option names, and its option there."""
    name, slash, scheme = option.scheme.partition("/")
    if not slash:
        name, scheme = DEFAULT, name
    return target_named(name, EVERYTHING), replace(option, scheme=scheme)


def dequantized(plan: Plan, layers: Sequence[Layer]) -> Plan:
    """The plan that writes what another format's plan decodes to.

    Parameters
    ----------
    plan : Plan
        Of any target.
    layers : sequence of Layer
        Those of its checkpoint.
    """
    if plan.target == NAME:
        return plan
    by_name = {layer.name: layer for layer in layers}
    choices = {
        name: _kept(by_name[name])
        if option.is_kept
        else replace(option, scheme=f"{plan.target}/{option.scheme}", nbytes=_source_bytes(by_name[name]))
        for name, option in plan.choices.items()
    }
    made_by = {**plan.made_by, "decoded_from": plan.target}
    return replace(plan, target=NAME, choices=choices, made_by=made_by, predicted={})


class DequantizedCodec(SafetensorsCodec):
    """The weights that another format's codec decodes to, rounded to the dtype of the source."""

    # transformers and accelerate refuse files that do not say it, though they load sources without.
    metadata: Mapping[str, str] = {FORMAT_KEY: FORMAT}

    def source_metadata(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        return checkpoint.metadata

    def pieces(self, tensor: TensorInfo, option: Option) -> Sequence[Piece]:
        return (Piece(tensor.name, tensor.dtype, tensor.shape),)

    def prepare(self, tensor: Named, reader: RowReader) -> Callable[[str], Any]:
        """What the codec of the format of a name must know of the tensor."""
        return functools.cache(lambda name: target_named(name).codec.prepare(tensor, reader))

    def encode(self, rows: Rows, option: Option) -> Encoded:
        found, stored = _rounded(rows, option)
        return self.encoded(rows, option, (stored,), lambda: found.code_counts)

    def decode(self, pieces: Sequence[NDArray[Any]], option: Option, cols: int) -> NDArray[np.float32]:
        return pieces[0].astype(np.float32).reshape(-1, cols)

    def check(
        self,
        weights: NDArray[Any],
        pieces: Sequence[NDArray[Any]],
        option: Option,
        block: Block,
        encoder: Encoder,
    ) -> BlockCheck:
        name = block.tensor.name
        rows = encoder.rows(block.tensor, weights, block.row_start, measured=False)
        found, expected = _rounded(rows, option)
        if pieces[0].tobytes() != expected.tobytes():
            raise QuantizationError(
                f"Rows {block.row_start} to {block.row_start + block.rows} of {name!r} are not what the plan's "
                f"option {option.scheme} of {option.bits} bits decodes to: the file is damaged. Export again.",
                tensor=name,
            )
        decoded = expected.astype(np.float32)
        error = measure_error(weights, decoded, name, block.row_start)
        return BlockCheck(name, weights.nbytes, error, rounding=_energy(found.decoded - decoded))

    def files(
        self, checkpoint: Checkpoint, pieces: Mapping[str, Sequence[Piece]], shard_bytes: int
    ) -> tuple[Mapping[str, Sequence[Piece]], str | None]:
        folder = f"{checkpoint.component}/" if checkpoint.component else ""
        files: dict[str, list[Piece]] = {}
        for name, parts in pieces.items():
            source = checkpoint.tensors[name].path
            # A source in another format, such as GGUF, lends its name only.
            file = source.name if source.suffix == ".safetensors" else f"{source.stem}.safetensors"
            files.setdefault(folder + file, []).extend(parts)
        return files, folder + _index_name(files) if len(files) > 1 else None

    def locate(self, folder: Path) -> Path:
        for pattern in ("*.safetensors.index.json", "*.safetensors"):
            found = [*folder.glob(pattern), *folder.glob(f"*/{pattern}")]
            if len(found) == 1:
                return found[0]
        raise MetadataError(
            f"{folder}: there must be one index or one safetensors file in it or below; the export is not whole.",
            path=folder,
        )


def _rounded(rows: Rows, option: Option) -> tuple[Encoded, NDArray[Any]]:
    """Rows of a layer as another format encodes them, and what that decodes to in the dtype of the source."""
    owner, plain = _plain(option)
    prepared = None if rows.prepared is None else rows.prepared(owner.name)
    found = owner.codec.encode(replace(rows, prepared=prepared, measured=False), plain)
    dtype = rows.weights.dtype
    # No finite weight may round to infinity.
    largest = min(float(ml_dtypes.finfo(dtype).max), float(np.finfo(np.float32).max))
    return found, np.clip(found.decoded, -largest, largest).astype(dtype)


def _energy(values: NDArray[np.float32]) -> float:
    """The sum of squares."""
    flat = values.reshape(-1)
    pieces = (flat[at : at + PIECE].astype(np.float64) for at in range(0, flat.size, PIECE))
    return float(sum(piece @ piece for piece in pieces))


def _index_name(files: Mapping[str, object]) -> str:
    """What the index of shards is called: ``model-00001-of-00002.safetensors`` has ``model.safetensors.index.json``."""
    first = Path(min(files)).name.removesuffix(".safetensors")
    stem = first.rpartition("-of-")[0].rpartition("-")[0] or first
    return f"{stem}.safetensors.index.json"


def _kept(layer: Layer) -> Option:
    return kept(layer, DTYPES[layer.dtype].itemsize)


def _source_bytes(layer: Layer) -> int:
    return _kept(layer).nbytes
