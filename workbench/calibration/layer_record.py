"""What was recorded of one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from workbench.errors import ShapeMismatchError
from workbench.plan import Layer, LayerKind

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
SingleArray = NDArray[np.float32]

MAX_BUCKETS = 64
"""Most intervals of time for which moments of channels are kept."""

MAX_STEPS = 1024
"""Most intervals of time for which scalars are kept."""


@dataclass(frozen=True, eq=False)
class StepStatistics:
    """The distribution of a layer's input values at each step; arrays [steps].

    A step at which the layer did not run has a count of 0 and NaN elsewhere.
    """

    count: IntArray
    """Values seen."""
    mean: FloatArray
    """Mean m_t."""
    variance: FloatArray
    """Variance v_t, of all values as one population."""
    minimum: FloatArray
    """Least value."""
    maximum: FloatArray
    """Greatest value."""
    absmax_p99: FloatArray
    """99th percentile of the absolute values, estimated from a bounded sample of them."""
    absmax_p999: FloatArray
    """99.9th percentile, likewise."""


@dataclass(frozen=True, eq=False)
class LayerRecord:
    """What was recorded of one layer.

    The channels are those of the input: in_features of a Linear, in_channels of a convolution, the vocabulary of an
    Embedding, whose input counts as one-hot vectors.
    """

    kind: LayerKind
    """The kind of module."""
    steps: StepStatistics
    """By step."""
    count: IntArray
    """Input vectors (of an Embedding: look-ups) seen in each bucket, [buckets]; 0 where the layer did not run."""
    mean: SingleArray
    """Mean of each channel, [buckets, channels]; of an Embedding, the share of each row in the look-ups."""
    second_moment: SingleArray
    """E[x²] of each channel, [buckets, channels]; of an Embedding, the mean again."""
    absmax: SingleArray
    """Greatest |x| of each channel, [buckets, channels]."""
    output_energy: FloatArray
    """E‖Wx‖², the mean energy of an output vector without the bias, [buckets]."""
    sensitivity: Mapping[str, FloatArray] = field(default_factory=dict)
    """By estimator, [buckets]: see `workbench.live.importance`. NaN where it was not measured."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sensitivity", MappingProxyType(dict(self.sensitivity)))

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return int(self.mean.shape[1])


STEP_FIELDS = tuple(item.name for item in fields(StepStatistics))
"""The columns of `StepStatistics`."""


def check_channels(layer: Layer, kind: LayerKind, channels: int) -> None:
    """Make sure that an input of so many channels can be a layer's.

    Raises
    ------
    ShapeMismatchError
        If it cannot.
    """
    match kind:
        case "embedding":
            fits = layer.rows == channels
        case "linear":
            fits = layer.cols == channels
        case _:
            fits = channels % layer.shape[1] == 0 and layer.rows % (channels // layer.shape[1]) == 0
    if not fits:
        raise ShapeMismatchError(
            f"The calibration has {channels} input channels for {layer.name!r}, a {kind} of shape {layer.shape}. "
            "Capture it with the checkpoint's own model.",
            tensor=layer.name,
            shape=layer.shape,
            channels=channels,
        )
