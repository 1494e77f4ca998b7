"""Plain safetensors, dequantized: a checkpoint of the source's names, dtypes and files with the weights of a plan.

Every layer holds what an export of another format would decode to, rounded to the source's dtype, so that whatever
loads the source loads this, and shows what the plan does before the real export. An option's scheme says whose weights
they are: ``"mlx/affine"``, ``"compressed-tensors/symmetric"``; a bare ``"asymmetric"`` or ``"symmetric"`` is Parquet's,
whose scales are float32. Nothing gets smaller: every option takes the bytes of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES, Checkpoint, TensorInfo
from workbench.checkpoint.blocks import Block
from workbench.errors import MetadataError, QuantizationError
from workbench.formats.safetensors.layout import FORMAT, FORMAT_KEY, Piece
from workbench.formats.safetensors.payload import SafetensorsPayload
from workbench.formats.safetensors.scheme import Scheme
from workbench.formats.safetensors.writer import SafetensorsWriter
from workbench.formats.target import BlockCheck, Check, Target, Trial, kept
from workbench.kernels import load_kernels
from workbench.plan import Layer, Option, Plan
from workbench.quantize import FAST, Encoding, Encodings, Error, measure_error
from workbench.quantize.patterns import patterns_of, raise_not_finite

NAME = "safetensors"
DEFAULT = "parquet"
"""The format whose weights a bare scheme names."""

PIECE = 2**16
"""Weights whose squares are summed at once."""

Lookup = Callable[[str], Target]
"""The target of a name, with all its widths."""


class DequantizedTarget:
    """The export format plain safetensors.

    Parameters
    ----------
    lookup : callable
        Gives the targets whose decoded weights can be written.
    """

    name = NAME
    is_exact = True

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def options(self, layer: Layer) -> Sequence[Option]:
        """Parquet's options; each takes the bytes of the source."""
        offered = self._lookup(DEFAULT).options(layer)
        return [replace(option, nbytes=_source_bytes(layer)) for option in offered if not option.is_kept] + [
            _kept(layer)
        ]

    def stores(self, layer: Layer, option: Option) -> bool:
        """Whether another format has an option of its width, scheme and group size, and the bytes are the source's."""
        if option.is_kept:
            return option == _kept(layer)
        owner, scheme = self._owner(option)
        wanted = option.bits, scheme, option.group_size
        # A wide option is not offered everywhere, so the formats are asked what they have of any size in bytes.
        return option.nbytes == _source_bytes(layer) and any(
            (found.bits, found.scheme, found.group_size) == wanted for found in owner.options(layer)
        )

    def quantized(self, layer: Layer, bits: int, scheme: str, group_size: int) -> Option:
        """The option wished for."""
        return Option(bits, scheme, group_size, _source_bytes(layer))

    def error(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> Error:
        """What rows of a layer [rows, cols] lose when they are stored as an option."""
        return measure_error(
            weights, self.decoded(weights, option, tensor, row_start, encoding), tensor, row_start
        )

    def measure(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> Trial:
        """What each row of a layer [rows, cols] loses, and the codes that its weights are decoded from."""
        owner, plain = self._plain(option)
        decoded = self.decoded(weights, option, tensor, row_start, encoding)
        patterns, is_half = patterns_of(weights)
        sums = np.zeros((len(weights), 3))
        bad = load_kernels().error_sums(patterns, is_half, decoded.reshape(-1), weights.shape[1], sums)
        if bad >= 0:
            raise_not_finite(weights, bad, tensor, row_start)
        return Trial(sums, owner.measure(weights, plain, tensor, row_start, encoding).code_counts)

    def decoded(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding = FAST
    ) -> NDArray[np.float32]:
        """What rows of a layer [rows, cols] come back as: decoded and rounded to their dtype."""
        return self.rounded(weights, option, tensor, row_start, encoding)[0].astype(np.float32)

    def rounded(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding
    ) -> tuple[NDArray[Any], float]:
        """The same in the dtype of the source, and ‖ŵ − rounded‖²."""
        owner, plain = self._plain(option)
        exact = owner.decoded(weights, plain, tensor, row_start, encoding)
        # No finite weight may round to infinity.
        largest = min(float(ml_dtypes.finfo(weights.dtype).max), float(np.finfo(np.float32).max))
        stored = np.clip(exact, -largest, largest).astype(weights.dtype)
        exact -= stored.astype(np.float32)  # rounding errors are exact in float32
        lost = exact.reshape(-1)
        pieces = (lost[at : at + PIECE].astype(np.float64) for at in range(0, lost.size, PIECE))
        return stored, float(sum(piece @ piece for piece in pieces))

    def writer(
        self, checkpoint: Checkpoint, plan: Plan, encodings: Encodings | None = None
    ) -> SafetensorsWriter:
        """What writes the files; they are divided as the source's."""
        scheme = _DequantizedScheme(self, checkpoint.metadata, encodings)
        return SafetensorsWriter(scheme, checkpoint, plan, 0, encodings)

    @contextmanager
    def checker(
        self, checkpoint: Checkpoint, folder: Path, encodings: Encodings | None = None
    ) -> Iterator[Check]:
        """What reads units back and compares each block with what its plan decodes to, which is worked out again.

        It raises a `QuantizationError` if a stored weight is another.

        Raises
        ------
        ConfigurationError
            If the plan's codes are weighed by a calibration that is not given.
        """
        scheme = _DequantizedScheme(self, {}, encodings)
        payload = SafetensorsPayload(scheme, folder, watched=False)
        scheme.encodings = encodings or Encodings.of_plan(payload.plan)
        yield payload.checker(checkpoint)

    def open(self, folder: Path) -> SafetensorsPayload:
        """Open the files in a folder."""
        return SafetensorsPayload(_DequantizedScheme(self, {}), folder)

    def _owner(self, option: Option) -> tuple[Target, str]:
        """The target whose weights an option names, and its scheme there."""
        name, slash, scheme = option.scheme.partition("/")
        return (self._lookup(name), scheme) if slash else (self._lookup(DEFAULT), name)

    def _plain(self, option: Option) -> tuple[Target, Option]:
        owner, scheme = self._owner(option)
        return owner, replace(option, scheme=scheme)


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


class _DequantizedScheme(Scheme):
    def __init__(
        self, target: DequantizedTarget, metadata: Mapping[str, str], encodings: Encodings | None = None
    ) -> None:
        self.encodings = encodings
        self._target = target
        # transformers and accelerate refuse files that do not say it, though they load sources without.
        self.metadata = {FORMAT_KEY: FORMAT, **metadata}

    def pieces(self, tensor: TensorInfo, option: Option) -> Sequence[Piece]:
        return (Piece(tensor.name, tensor.dtype, tensor.shape),)

    def encode(
        self, weights: NDArray[Any], option: Option, tensor: str, row_start: int, encoding: Encoding
    ) -> Sequence[NDArray[Any]]:
        return (self._target.rounded(weights, option, tensor, row_start, encoding)[0],)

    def decode(self, rows: Sequence[NDArray[Any]], option: Option, cols: int) -> NDArray[np.float32]:
        return rows[0].astype(np.float32).reshape(-1, cols)

    def check(
        self, weights: NDArray[Any], rows: Sequence[NDArray[Any]], option: Option, block: Block
    ) -> BlockCheck:
        name = block.tensor.name
        assert self.encodings is not None
        encoding = self.encodings.of(name, block.tensor.shape)
        expected, rounding = self._target.rounded(weights, option, name, block.row_start, encoding)
        if rows[0].tobytes() != expected.tobytes():
            raise QuantizationError(
                f"Rows {block.row_start} to {block.row_start + block.rows} of {name!r} are not what the plan's "
                f"option {option.scheme} of {option.bits} bits decodes to: the file is damaged. Export again.",
                tensor=name,
            )
        error = measure_error(weights, expected.astype(np.float32), name, block.row_start)
        return BlockCheck(name, weights.nbytes, error, rounding=rounding)

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


def _index_name(files: Mapping[str, object]) -> str:
    """What the index of shards is called: ``model-00001-of-00002.safetensors`` has ``model.safetensors.index.json``."""
    first = Path(min(files)).name.removesuffix(".safetensors")
    stem = first.rpartition("-of-")[0].rpartition("-")[0] or first
    return f"{stem}.safetensors.index.json"


def _kept(layer: Layer) -> Option:
    return kept(layer, DTYPES[layer.dtype].itemsize)


def _source_bytes(layer: Layer) -> int:
    return _kept(layer).nbytes
