"""The report of an export: every figure measured on what was written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from workbench.engine.resolution.survey import Survey
from workbench.plan import Layer, Option
from workbench.quantize import Error, entropy_bits


@dataclass(frozen=True)
class LayerReport:
    """One layer of an export."""

    name: str
    """Its tensor in the checkpoint."""
    role: str
    """What it is for."""
    shape: tuple[int, ...]
    """Its shape."""
    bits: int
    """Nominal bits per weight; those of the source where it was kept."""
    scheme: str
    """How it is stored; ``"keep"`` where it was kept."""
    group_size: int
    """Weights that share a scale; 0 where it was kept."""
    bpw: float
    """Bits per weight in the file, scales included."""
    nbytes: int
    """Bytes of its tensor data."""
    cosine: float
    """Cosine between the source's weights and the decoded ones."""
    nsr: float
    """Noise-to-signal ratio ‖W−Ŵ‖²/‖W‖²."""
    entropy: float | None
    """Normalised histogram entropy of the weights, 0 to 1; None where they are not finite."""
    code_entropy: float | None
    """Entropy of the stored codes in bits per weight; None where it was kept."""
    fallback: tuple[str, ...]
    """Widths that were tried first and missed min_accuracy, with their cosines."""
    met: bool
    """Whether its cosine reaches min_accuracy."""


@dataclass(frozen=True)
class Report:
    """An export, measured by reading it back from disk."""

    target: str
    """The export format."""
    compression_ratio: float
    """Bytes of all tensors in the source over bytes of the payload."""
    cosine_similarity: float
    """Mean of the layers' cosines, weighted by their number of weights."""
    model_size_mb: float
    """The payload in MB (10^6 bytes)."""
    bpw: float
    """Bits of the layers' data per layer weight, scales included."""
    nsr: float
    """Sum of the layers' noise-to-signal ratios over the number of layers."""
    predicted_bytes: int
    """Size of the payload as predicted; an upper bound for Parquet."""
    actual_bytes: int
    """Size of the payload on disk."""
    source_bytes: int
    """Bytes of all tensors in the source."""
    seconds: float
    """Wall-clock time of the run; with resume, of the last one."""
    peak_anon_mb: float
    """Highest anonymous resident memory of the process in MB, sampled; 0 where the system does not tell."""
    min_accuracy: float
    """The cosine that every layer was to reach."""
    met: bool
    """Whether every layer reached it."""
    modality: str
    """What the model generates."""
    modality_evidence: str
    """How that is known."""
    kernels: str
    """The kernels that computed it."""
    notes: tuple[str, ...]
    """What was switched off, capped or found odd, each in a sentence."""
    layers: tuple[LayerReport, ...] = field(repr=False)
    """One entry a layer, in the checkpoint's order."""
    note_layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """All layers of each note that names only a few of them."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_dict`; a figure that was not finite is NaN."""
        layers = tuple(
            LayerReport(**{**_figures(layer, ("cosine", "nsr")), **_tuples(layer, ("shape", "fallback"))})
            for layer in values["layers"]
        )
        figures = _figures(values, ("cosine_similarity", "nsr"))
        note_layers = {note: tuple(names) for note, names in values.get("note_layers", {}).items()}
        parts = {"layers": layers, "note_layers": note_layers}
        return cls(**{**figures, **_tuples(values, ("notes",)), **parts})

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self, dict_factory=plain)


def _figures(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {**values, **{name: math.nan for name in names if values[name] is None}}


def _tuples(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: tuple(values[name]) for name in names}


def plain(fields: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a dataclass as JSON has them: None for what is not finite, lists for tuples."""

    def value_of(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, dict):
            return {key: value_of(item) for key, item in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return {key: value_of(value) for key, value in fields}


def layer_report(
    layer: Layer,
    option: Option,
    survey: Survey,
    error: Error,
    counts: NDArray[np.int64] | None,
    min_accuracy: float,
) -> LayerReport:
    """The report of a layer from what was read back of it."""
    return LayerReport(
        name=layer.name,
        role=layer.role,
        shape=layer.shape,
        bits=option.bits,
        scheme=option.scheme,
        group_size=option.group_size,
        bpw=8.0 * option.nbytes / max(layer.params, 1),
        nbytes=option.nbytes,
        cosine=error.cosine,
        nsr=error.nsr,
        entropy=survey.entropy,
        code_entropy=None if counts is None else entropy_bits(counts),
        fallback=survey.fallback,
        met=error.cosine >= min_accuracy,
    )


def summarise(layers: Sequence[LayerReport], sizes: Mapping[str, int], **facts: Any) -> Report:
    """The report of a model from those of its layers and the sizes ``source``, ``actual`` and ``predicted``."""
    weights = [math.prod(layer.shape) for layer in layers]
    total = max(sum(weights), 1)
    cosine = sum(layer.cosine * count for layer, count in zip(layers, weights, strict=True)) / total
    return Report(
        compression_ratio=sizes["source"] / sizes["actual"],
        cosine_similarity=cosine if layers else 1.0,
        model_size_mb=sizes["actual"] / 1e6,
        bpw=8.0 * sum(layer.nbytes for layer in layers) / total,
        nsr=sum(layer.nsr for layer in layers) / max(len(layers), 1),
        predicted_bytes=sizes["predicted"],
        actual_bytes=sizes["actual"],
        source_bytes=sizes["source"],
        met=all(layer.met for layer in layers),
        layers=tuple(layers),
        **facts,
    )
