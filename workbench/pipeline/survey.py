"""Looking at every layer before anything is written: is it finite, how is it distributed, what width does it take?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.errors import QuantizationError, ValidationError
from workbench.formats import Target
from workbench.formats.blocks import blocks_of
from workbench.plan import Layer, Option
from workbench.quantize import FAST, Encoding, Error, count_weights, entropy_bits, find_range
from workbench.thermo import entropy_widths
from workbench.thermo.statistics import BINS

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
        return _kept(layer, target)
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


def entropy_of(layer: Layer, checkpoint: Checkpoint, target: Target, advance: Callable[[int], None]) -> float:
    """Normalised histogram entropy of a layer, without counting as work done.

    Raises
    ------
    ValidationError
        If it has a NaN or Inf.
    """
    return _look(layer, checkpoint, target, None, FAST, lambda _: advance(0))[0]


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
    first = wishes[0] if len(wishes) > 1 else None
    try:
        entropy, error = _look(layer, checkpoint, target, first, encoding, advance)
    except ValidationError:
        if not wishes[0].is_kept:
            raise
        return Survey(layer.name, None, wishes[0])
    for option in wishes[:-1]:
        if misses:
            error = _error(layer, checkpoint, option, target, encoding)
        if error.cosine >= min_accuracy:
            return Survey(layer.name, entropy, option, tuple(misses))
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
    return Survey(layer.name, entropy, wishes[-1], tuple(misses))


def fallbacks(layer: Layer, wish: Option, config: DiffusionQuantConfig, target: Target) -> list[Option]:
    """The option wished for and those to fall back to: the next of 4 bits, 8 bits, the source dtype."""
    if wish.is_kept or config.min_accuracy <= 0.0:
        return [wish]
    wider = [at_width(layer, bits, config, target) for bits in (4, 8) if bits > wish.bits]
    return [
        wish,
        *(option for option in wider if wish.bits < option.bits and not option.is_kept),
        _kept(layer, target),
    ]


def _kept(layer: Layer, target: Target) -> Option:
    return next(option for option in target.options(layer) if option.is_kept)


def _rows(layer: Layer, checkpoint: Checkpoint) -> Iterator[tuple[int, NDArray[Any]]]:
    for block in blocks_of(checkpoint.tensors[layer.name]):
        if block.rows:
            yield (
                block.row_start,
                checkpoint.read_rows(layer.name, block.row_start, block.row_start + block.rows),
            )


def _look(
    layer: Layer,
    checkpoint: Checkpoint,
    target: Target,
    option: Option | None,
    encoding: Encoding,
    advance: Callable[[int], None],
) -> tuple[float, Error]:
    """Normalised histogram entropy of a layer, and on the way its error as an option, if one is given."""
    low, high, error = math.inf, -math.inf, Error()
    for row_start, weights in _rows(layer, checkpoint):
        least, most = find_range(weights, layer.name, row_start)
        low, high = min(low, least), max(high, most)
        if option is not None:
            error += target.error(weights, option, layer.name, row_start, encoding)
        advance(weights.nbytes)
    counts = np.zeros(BINS, np.int64)
    for _, weights in _rows(layer, checkpoint):
        count_weights(weights, low, high, counts)
        advance(0)
    return entropy_bits(counts) / math.log2(BINS), error


def _error(layer: Layer, checkpoint: Checkpoint, option: Option, target: Target, encoding: Encoding) -> Error:
    total = Error()
    for row_start, weights in _rows(layer, checkpoint):
        total += target.error(weights, option, layer.name, row_start, encoding)
    return total
