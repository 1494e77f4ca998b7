"""Looking at a layer before it is written: whether it is finite, its distribution, and the width it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workbench.checkpoint import Checkpoint
from workbench.checkpoint.blocks import blocks_of, read_blocks
from workbench.config import DiffusionQuantConfig
from workbench.errors import QuantizationError, ValidationError, setting
from workbench.formats import Encoder
from workbench.plan import Layer, Option
from workbench.quantize import Error

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


def survey_layer(
    layer: Layer,
    checkpoint: Checkpoint,
    encoder: Encoder,
    choices: Sequence[Option],
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
    choices : sequence of Option
        The option asked for and those to fall back to, in order; the last is taken as it is. Under a plan, one.
    entropy : callable
        Measures Ĥ, see `workbench.thermo.measurement.profile.layer_entropy`.
    config : DiffusionQuantConfig
        Says the least cosine, and whether to raise at a miss instead of falling back.
    advance : callable
        Called with the source bytes done; may raise to stop the work.

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
        if not choices[0].is_kept:
            raise
        return Survey(layer.name, None, choices[0])
    misses: list[str] = []
    for option in choices[:-1]:
        if _is_clear(layer, checkpoint, option, encoder, config.min_accuracy, advance):
            return Survey(layer.name, found, option, tuple(misses), is_sampled=True)
        error = Error()
        for rows, weights in read_blocks(checkpoint, layer.name):
            error += encoder.encode(layer, option, weights, int(rows[0])).error
            advance(0)
        if error.cosine >= config.min_accuracy:
            return Survey(layer.name, found, option, tuple(misses))
        misses.append(miss_of(layer.name, option, error, config))
    return Survey(layer.name, found, choices[-1], tuple(misses))


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
