"""Looking at every layer before anything is written: is it finite, how is it distributed, what width does it take?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES, Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.errors import QuantizationError, ValidationError, setting
from workbench.formats import Encoder, Format, kept_as
from workbench.formats.blocks import blocks_of
from workbench.kernels import load_kernels
from workbench.plan import Layer, Option
from workbench.quantize import Error, count_weights, entropy_bits, find_range
from workbench.quantize.patterns import patterns_of
from workbench.thermo import entropy_widths
from workbench.thermo.statistics import BINS, CELL_BITS, PATTERNS, frame_of, is_finite, tally_patterns

SENSITIVE_ROLES = frozenset({"embedding", "norm", "head", "time_embed", "modulation"})
"""Roles that count as sensitive besides the layers that the user names."""

LARGE = 2**18
"""Weights from which on a layer's accuracy is judged by a sample, if that is clear."""

SAMPLED = 16
"""One row in so many is in the sample."""

CLEARLY = 0.75
"""How near the sample's noise may come to the most allowed: nearer, and the whole layer is measured."""


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
    is_sampled: bool = False
    """Whether its accuracy was judged by a sample, and is known when the layer is read back."""
    cut_groups: int = 0
    """Groups that the runtime could not have decoded whole, so that the layer is kept."""


def wished_option(
    layer: Layer, config: DiffusionQuantConfig, target: Format, entropy: Callable[[], float]
) -> Option:
    """The option that the configuration asks for, before any fallback; `entropy` measures the layer's Ĥ."""
    option = settled_option(layer, config, target)
    if option is not None:
        return option
    bits = int(entropy_widths(entropy())) if config.enable_entropy_adaptation else config.bit_width
    return at_width(layer, bits, config, target)


def settled_option(layer: Layer, config: DiffusionQuantConfig, target: Format) -> Option | None:
    """The option of a layer that the configuration keeps or gives a width; None of any other."""
    if config.keeps(layer.name, layer.role) or is_sensitive(layer, config):
        return kept_as(layer, target)
    bits = config.bits_named(layer.name)
    return None if bits is None else at_width(layer, bits, config, target)


def at_width(layer: Layer, bits: int, config: DiffusionQuantConfig, target: Format) -> Option:
    """The option of a width in the configured scheme and group size."""
    return target.quantized(layer, bits, config.scheme or target.scheme, config.group_size)


def is_sensitive(layer: Layer, config: DiffusionQuantConfig) -> bool:
    """Whether the configuration keeps a layer in source precision."""
    return config.skip_sensitive_layers and (
        layer.role in SENSITIVE_ROLES or config.names_sensitive(layer.name)
    )


def entropy_of(layer: Layer, checkpoint: Checkpoint, advance: Callable[[int], None]) -> float:
    """Normalised histogram entropy Ĥ of all weights of a layer.

    They are read once where they have 16 bits, else for their extremes first.

    Raises
    ------
    ValidationError
        If it has a NaN or Inf.
    """
    if DTYPES[layer.dtype].itemsize == 2:
        is_half, patterns = layer.dtype == "F16", np.zeros(PATTERNS, np.int64)
        for _, weights in _rows(layer, checkpoint):
            load_kernels().count_patterns(patterns_of(weights)[0], patterns)
            advance(weights.nbytes)
        if not is_finite(patterns, is_half):
            for row_start, weights in _rows(layer, checkpoint):
                find_range(weights, layer.name, row_start)  # which names the first that is not
        bins = tally_patterns(patterns, frame_of(patterns, is_half, CELL_BITS)).bins
        return entropy_bits(bins) / math.log2(BINS)
    low, high, bins = math.inf, -math.inf, np.zeros(BINS, np.int64)
    for row_start, weights in _rows(layer, checkpoint):
        least, most = find_range(weights, layer.name, row_start)
        low, high = min(low, least), max(high, most)
        advance(weights.nbytes)
    for _, weights in _rows(layer, checkpoint):
        count_weights(weights, low, high, bins)
        advance(0)
    return entropy_bits(bins) / math.log2(BINS)


def survey_layer(
    layer: Layer,
    checkpoint: Checkpoint,
    encoder: Encoder,
    wishes: Sequence[Option],
    entropy: Callable[[], float],
    config: DiffusionQuantConfig,
    advance: Callable[[int], None],
) -> Survey:
    """Settle a layer's option.

    Parameters
    ----------
    layer : Layer
    checkpoint : Checkpoint
    encoder : Encoder
        Of the export format and the checkpoint.
    wishes : sequence of Option
        The option wished for and those to fall back to, in order; the last is taken as it is. Under a plan,
        one.
    entropy : callable
        Measures Ĥ, see `entropy_of`.
    config : DiffusionQuantConfig
        Says the least cosine, and whether to raise at a miss instead of falling back.
    advance : callable
        Hears that work goes on, and may stop it.

    Raises
    ------
    ValidationError
        If a layer that is to be quantized has a NaN or Inf.
    QuantizationError
        If the source changed, or at a miss with ``fail_fast``.
    """
    try:
        found = entropy()
    except ValidationError:
        if not wishes[0].is_kept:
            raise
        return Survey(layer.name, None, wishes[0])
    misses: list[str] = []
    for option in wishes[:-1]:
        if _is_clear(layer, checkpoint, option, encoder, config.min_accuracy, advance):
            return Survey(layer.name, found, option, tuple(misses), is_sampled=True)
        error = Error()
        for row_start, weights in _rows(layer, checkpoint):
            error += encoder.encode(layer, option, weights, row_start).error
            advance(0)
        if error.cosine >= config.min_accuracy:
            return Survey(layer.name, found, option, tuple(misses))
        misses.append(miss_of(layer.name, option, error, config))
    return Survey(layer.name, found, wishes[-1], tuple(misses))


def miss_of(name: str, option: Option, error: Error, config: DiffusionQuantConfig) -> str:
    """The option with its cosine, which is under the least allowed.

    Raises
    ------
    QuantizationError
        With ``fail_fast``.
    """
    if config.fail_fast:
        raise QuantizationError(
            f"Layer {name!r} has a cosine of {error.cosine:.6f} at {option.bits} bits, under "
            f"{setting('min_accuracy')} {config.min_accuracy}. Give it more bits ({setting('layer_bit_widths')}), "
            f"lower {setting('min_accuracy')}, or leave out {setting('fail_fast')} to let it fall back.",
            tensor=name,
            cosine=error.cosine,
            min_accuracy=config.min_accuracy,
            bits=option.bits,
        )
    return f"int{option.bits} ({error.cosine:.4f})"


def fallbacks(layer: Layer, wish: Option, config: DiffusionQuantConfig, target: Format) -> list[Option]:
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


def _is_clear(
    layer: Layer,
    checkpoint: Checkpoint,
    option: Option,
    encoder: Encoder,
    min_accuracy: float,
    advance: Callable[[int], None],
) -> bool:
    """Whether the first rows of each block of a large layer leave no doubt that it has the least cosine."""
    if layer.params < LARGE:
        return False
    error = Error()
    for block in blocks_of(checkpoint.tensors[layer.name]):
        stop = block.row_start + -(-block.rows // SAMPLED)
        weights = checkpoint.read_rows(layer.name, block.row_start, stop)
        error += encoder.encode(layer, option, weights, block.row_start).error
        advance(0)
    # Squared sines, to which the noise is proportional where it is small.
    return 1.0 - error.cosine**2 <= CLEARLY * (1.0 - min_accuracy**2)
