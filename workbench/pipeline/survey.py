"""Looking at every layer before anything is written: is it finite, how is it distributed, what width does it take?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import backend
from workbench.checkpoint import DTYPES, Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.errors import QuantizationError, ValidationError
from workbench.formats import Target, kept_as
from workbench.formats.blocks import blocks_of
from workbench.plan import Layer, Option
from workbench.quantize import Encoding, Error, count_weights, entropy_bits, find_range
from workbench.quantize.patterns import patterns_of
from workbench.thermo import entropy_widths
from workbench.thermo.statistics import BINS, CELL_BITS, PATTERNS, frame_of, is_finite, tally_patterns

SENSITIVE_ROLES = frozenset({"embedding", "norm", "head", "time_embed", "modulation"})
"""Roles that count as sensitive besides the layers that the user names."""


@dataclass(frozen=True)
class Survey:
    """What was found about a layer, and what is to become of it."""

    layer: str
    """The layer."""
    entropy: float | None
    """Normalised histogram entropy Ĥ, 0 to 1; None where a kept layer is not finite."""
    option: Option
    """How it will be stored."""
    fallback: tuple[str, ...] = ()
    """The widths that were not accurate enough, each with its cosine, such as ``"int2 (0.81)"``."""


def wished_option(
    layer: Layer, config: DiffusionQuantConfig, target: Target, entropy: Callable[[], float]
) -> Option:
    """The option that the configuration asks for, before any fallback; `entropy` measures the layer's Ĥ."""
    option = settled_option(layer, config, target)
    if option is not None:
        return option
    bits = int(entropy_widths(entropy())) if config.enable_entropy_adaptation else config.bit_width
    return at_width(layer, bits, config, target)


def settled_option(layer: Layer, config: DiffusionQuantConfig, target: Target) -> Option | None:
    """The option of a layer that the configuration speaks of, as sensitive or by its width; None of any other."""
    if is_sensitive(layer, config):
        return kept_as(layer, target)
    bits = config.bits_named(layer.name)
    return None if bits is None else at_width(layer, bits, config, target)


def at_width(layer: Layer, bits: int, config: DiffusionQuantConfig, target: Target) -> Option:
    """The option of a width in the configured scheme and group size."""
    return target.quantized(layer, bits, config.scheme, config.group_size)


def is_sensitive(layer: Layer, config: DiffusionQuantConfig) -> bool:
    """Whether the configuration keeps a layer in source precision."""
    return config.skip_sensitive_layers and (
        layer.role in SENSITIVE_ROLES or config.names_sensitive(layer.name)
    )


def entropy_of(layer: Layer, checkpoint: Checkpoint, advance: Callable[[int], None]) -> float:
    """Normalised histogram entropy of a layer, without counting as work done.

    Raises
    ------
    ValidationError
        If it has a NaN or Inf.
    """
    return _look(layer, checkpoint, lambda _: advance(0)).entropy


def survey_layer(
    layer: Layer,
    checkpoint: Checkpoint,
    target: Target,
    wishes: Sequence[Option],
    encoding: Encoding,
    min_accuracy: float,
    fail_fast: bool,
    advance: Callable[[int], None],
) -> Survey:
    """Measure a layer and settle its option.

    Parameters
    ----------
    layer : Layer
    checkpoint : Checkpoint
    target : Target
    wishes : sequence of Option
        The option wished for and those to fall back to, in order; the last is taken as it is. Under a plan,
        one.
    encoding : Encoding
        How its weights become codes.
    min_accuracy : float
        Least cosine.
    fail_fast : bool
        Raise at a miss instead of falling back.
    advance : callable
        Hears of bytes of source done.

    Raises
    ------
    ValidationError
        If a layer that is to be quantized has a NaN or Inf.
    QuantizationError
        If the source changed, or at a miss with `fail_fast`.
    """
    misses: list[str] = []
    try:
        looks = _look(layer, checkpoint, advance)
    except ValidationError:
        if not wishes[0].is_kept:
            raise
        return Survey(layer.name, None, wishes[0])
    for option in wishes[:-1]:
        if encoding.effort == "fast" and looks.least_cosine(option, target) >= min_accuracy:
            return Survey(layer.name, looks.entropy, option, tuple(misses))
        error = _error(layer, checkpoint, option, target, encoding, advance)
        if error.cosine >= min_accuracy:
            return Survey(layer.name, looks.entropy, option, tuple(misses))
        if fail_fast:
            raise QuantizationError(
                f"Layer {layer.name!r} has a cosine of {error.cosine:.6f} at {option.bits} bits, under "
                f"min_accuracy {min_accuracy}. Give it more bits (layer_bit_widths), lower min_accuracy, or turn "
                "fail_fast off to let it fall back.",
                tensor=layer.name,
                cosine=error.cosine,
                min_accuracy=min_accuracy,
                bits=option.bits,
            )
        misses.append(f"int{option.bits} ({error.cosine:.4f})")
    return Survey(layer.name, looks.entropy, wishes[-1], tuple(misses))


def fallbacks(layer: Layer, wish: Option, config: DiffusionQuantConfig, target: Target) -> list[Option]:
    """The option wished for and those to fall back to: the next of 4 bits, 8 bits, the source dtype."""
    if wish.is_kept or config.min_accuracy <= 0.0:
        return [wish]
    wider = [at_width(layer, bits, config, target) for bits in (4, 8) if bits > wish.bits]
    return [
        wish,
        *(option for option in wider if wish.bits < option.bits and not option.is_kept),
        kept_as(layer, target),
    ]


def _rows(layer: Layer, checkpoint: Checkpoint) -> Iterator[tuple[int, NDArray[Any]]]:
    for block in blocks_of(checkpoint.tensors[layer.name]):
        if block.rows:
            yield (
                block.row_start,
                checkpoint.read_rows(layer.name, block.row_start, block.row_start + block.rows),
            )


@dataclass(frozen=True, eq=False)
class _Looks:
    """What a layer looks like."""

    low: float
    """Least weight."""
    high: float
    """Greatest weight."""
    bins: NDArray[np.int64]
    """Weights in each of equal bins between them."""

    @property
    def entropy(self) -> float:
        """Normalised histogram entropy Ĥ."""
        return entropy_bits(self.bins) / math.log2(BINS)

    def least_cosine(self, option: Option, target: Target) -> float:
        """What the layer's cosine as an option is at least, if nothing is searched for.

        With ‖δ‖² ≤ r·‖w‖² and r < 1 the angle between w and w − δ is greatest where δ is at right angles to w − δ: its
        cosine is √(1 − r). Of ‖w‖² it is known how near to 0 the weights of a bin can be.
        """
        worst = target.worst_error(option, self.low, self.high)
        edges = np.linspace(self.low, self.high, BINS + 1)
        nearest = np.maximum(0.0, np.maximum(edges[:-1], -edges[1:]))
        energy = float(self.bins @ np.square(nearest)) * (1.0 - 1e-6)
        noise = worst**2 * float(self.bins.sum())
        return math.sqrt(1.0 - noise / energy) if noise < energy else 0.0


def _look(layer: Layer, checkpoint: Checkpoint, advance: Callable[[int], None]) -> _Looks:
    """Look at all weights of a layer: once where they have 16 bits, else for their extremes first."""
    if DTYPES[layer.dtype].itemsize == 2:
        is_half, patterns = layer.dtype == "F16", np.zeros(PATTERNS, np.int64)
        for _, weights in _rows(layer, checkpoint):
            backend.kernels().count_patterns(patterns_of(weights)[0], patterns)
            advance(weights.nbytes)
        if not is_finite(patterns, is_half):
            for row_start, weights in _rows(layer, checkpoint):
                find_range(weights, layer.name, row_start)  # which names the first that is not
        frame = frame_of(patterns, is_half, CELL_BITS)
        return _Looks(frame.low, frame.high, tally_patterns(patterns, frame).bins)
    low, high, bins = math.inf, -math.inf, np.zeros(BINS, np.int64)
    for row_start, weights in _rows(layer, checkpoint):
        least, most = find_range(weights, layer.name, row_start)
        low, high = min(low, least), max(high, most)
        advance(weights.nbytes)
    for _, weights in _rows(layer, checkpoint):
        count_weights(weights, low, high, bins)
        advance(0)
    return _Looks(low, high, bins)


def _error(
    layer: Layer,
    checkpoint: Checkpoint,
    option: Option,
    target: Target,
    encoding: Encoding,
    advance: Callable[[int], None],
) -> Error:
    total = Error()
    for row_start, weights in _rows(layer, checkpoint):
        total += target.error(weights, option, layer.name, row_start, encoding)
        advance(0)
    return total
