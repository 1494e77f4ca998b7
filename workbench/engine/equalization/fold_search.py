"""Finding the strength of a fold: each candidate is tried by quantizing what its consumers would be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.calibration import ActivationMode, CalibrationRecords, TimeAwareQuantizer
from workbench.calibration.activation_tables import LEVELS
from workbench.checkpoint import Checkpoint
from workbench.checkpoint.blocks import read_blocks
from workbench.folds.check import Step, deviation
from workbench.folds.fold import TOLERANCE, Fold, SingleArray, Site, balance
from workbench.folds.folded import DTYPE
from workbench.folds.records import divided
from workbench.formats import Encoder, Format
from workbench.plan import Layer, Option
from workbench.thermo import DamageModel
from workbench.thermo.measurement.sampling import draw_rows
from workbench.thermo.options.damage_model import Stress
from workbench.thermo.options.option_table import PER_STRATUM, SAMPLE_ROWS, SAMPLE_WEIGHTS

ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidates that are tried beside no fold, which counts as 0."""

LEAST_GAIN = 0.05
"""Part of its consumers' error that a fold must take away to be made.

Less drowns in the luck of rounding, which moves a whole model's error by some percent with any change of weights."""

PASSES = 3
"""How often the weights of a consumer are read at most: for their extremes, the trials and the check."""

OptionOf = Callable[[Layer], Option]
"""What a layer is to be stored as."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a site."""

    site: Site
    """Where."""
    fold: Fold | None
    """The fold that is made; None where the site is left alone."""
    before: float | None
    """Σ D over the consumers as they are, of the sampled rows; None where it could not be measured."""
    after: float | None
    """The same with the best fold, whether it is made or not."""
    deviation: float | None
    """Relative change of the float32 function that was found by trying; None where no fold came so far."""
    remark: str
    """Why the site is left alone; empty where it is not."""

    @property
    def alpha(self) -> float:
        """α of the fold; 0 where there is none."""
        return 0.0 if self.fold is None else self.fold.alpha


def study(
    checkpoint: Checkpoint,
    site: Site,
    damage_model: DamageModel,
    target: Format,
    option_of: OptionOf,
    alphas: Sequence[float],
    activations: ActivationMode,
    step: Step,
) -> Outcome:
    """Find the best fold at a site, and whether to make it.

    The error is D of the consumers under their options, by the moments of their input channels, on a sample of rows;
    the same rows for every candidate. Where inputs are rounded to eight bits, so is theirs: a fold also makes the
    channels of one size, so that fewer levels are spent on the one that is largest.

    Parameters
    ----------
    checkpoint : Checkpoint
    site : Site
    pricing : Pricing
        What the calibration says of the layers.
    target : Format
    option_of : callable
        What each layer is to be stored as.
    alphas : sequence of float
        Candidates; those of 0 mean no fold.
    activations : str
        How the consumers' inputs will be rounded.
    step : callable
        Hears of source bytes done; raises when the work is to stop.

    Raises
    ------
    ArrowQuantError
        If the checkpoint changed or cannot be read.
    """
    by_name = {layer.name: layer for layer in checkpoint.layers}
    consumers = [by_name[name] for name in site.consumers]
    stresses = [damage_model.stress(layer) for layer in consumers]
    if any(stress is None for stress in stresses):
        missing = next(
            layer.name for layer, stress in zip(consumers, stresses, strict=True) if stress is None
        )
        return Outcome(site, None, None, None, None, f"{missing} did not run while the model was captured")
    met = [stress for stress in stresses if stress is not None]
    weights = _extremes(checkpoint, site, consumers, step)
    if not np.isfinite(weights).all():
        return Outcome(site, None, None, None, None, "a weight is NaN or Inf")
    greatest = _activations(site, damage_model)
    candidates = [Fold(site, alpha, balance(greatest, weights, alpha)) for alpha in alphas if alpha != 0.0]
    errors = np.zeros(1 + len(candidates))
    for layer, stress in zip(consumers, met, strict=True):
        importance = _row_importance(checkpoint, layer, damage_model.time_aware.records)
        steps = [
            _step_energy(damage_model.time_aware, layer, factors, activations)
            for factors in (None, *(fold.factors[site.spread] for fold in candidates))
        ]
        errors += _try(checkpoint, layer, stress, importance, candidates, steps, target, option_of, step)
    before, tried = float(errors[0]), errors[1:]
    best: tuple[float, float | None] = (before, None)
    for place in np.argsort(tried, kind="stable").tolist():
        fold, after = candidates[place], float(tried[place])
        if not after <= (1 - LEAST_GAIN) * before or before == 0.0:
            break
        moved = deviation(checkpoint, fold, damage_model.time_aware.records, step)
        if moved <= TOLERANCE:
            return Outcome(site, fold, before, after, moved, "")
        best = (after, moved) if best[1] is None else best
    if best[1] is not None:
        remark = (
            f"refused, as it would change the float32 function by {best[1]:.1e}, more than {TOLERANCE:.0e}"
        )
        return Outcome(site, None, before, best[0], best[1], remark)
    after = float(tried.min()) if len(tried) else before
    remark = f"refused, as no fold takes {LEAST_GAIN:.0%} off the error of its consumers"
    return Outcome(site, None, before, after, None, remark)


def _extremes(checkpoint: Checkpoint, site: Site, consumers: Sequence[Layer], step: Step) -> SingleArray:
    """max|W_:,j| over the consumers, by factor; NaN or Inf where a weight is."""
    found = np.zeros(site.channels, np.float32)
    for layer in consumers:
        columns = np.zeros(layer.cols, np.float32)
        for _, weights in read_blocks(checkpoint, layer.name):
            step(weights.nbytes)
            np.maximum(columns, np.abs(weights.astype(np.float32)).max(axis=0), out=columns)
        np.maximum(found, site.gather(columns), out=found)
    return found


def _activations(site: Site, damage_model: DamageModel) -> SingleArray:
    """max|x_j| over all times and consumers, by factor."""
    found = np.zeros(site.channels, np.float32)
    for name in site.consumers:
        record = damage_model.time_aware.records.layer(name)
        np.maximum(found, site.gather(record.absmax[record.count > 0].max(axis=0)), out=found)
    return found


def _try(
    checkpoint: Checkpoint,
    layer: Layer,
    stress: Stress,
    importance: NDArray[np.float64],
    candidates: Sequence[Fold],
    steps: Sequence[NDArray[np.float64]],
    target: Format,
    option_of: OptionOf,
    step: Step,
) -> NDArray[np.float64]:
    """D of a layer on sampled rows: as it is, then with each fold."""
    sample = draw_rows(layer, max(SAMPLE_ROWS, -(-SAMPLE_WEIGHTS // layer.cols)), PER_STRATUM, seed=0)
    single = replace(layer, dtype=DTYPE)
    spread = [fold.factors[fold.site.spread] for fold in candidates]
    trials: list[tuple[SingleArray | None, Stress, Option, Encoder]] = [
        (None, stress, option_of(layer), target.encoder(checkpoint))
    ]
    trials += [
        (
            factors,
            _moved(stress, factors, single),
            option_of(single),
            target.encoder(_Scaled(checkpoint, factors)),
        )
        for factors in spread
    ]
    errors = np.zeros(len(trials))
    for rows, weights in read_blocks(
        checkpoint, layer.name, None if sample is None else sample.rows.reshape(-1)
    ):
        for place, (factors, moved, option, encoder) in enumerate(trials):
            step(weights.nbytes // len(trials))
            if option.is_kept and not steps[place].any():
                continue
            some = weights if factors is None else weights.astype(np.float32) * factors
            single_precision = some.astype(np.float32)
            decoded = single_precision
            if not option.is_kept:
                decoded = encoder.encode(layer, option, some, int(rows[0]), measured=False).decoded
            noise = moved.noise(single_precision - decoded, rows)
            if steps[place].any():
                # The input's rounding errors are independent; a channel within half a step of 0 is lost as a whole.
                power = np.square(moved.mean) + moved.variance
                lost = np.minimum(steps[place][:, None], power).astype(np.float32)
                noise += np.square(decoded) @ lost.T
            errors[place] += float(importance[rows] @ noise @ moved.damage_per_noise)
    return errors


def _step_energy(
    time_aware: TimeAwareQuantizer, layer: Layer, factors: SingleArray | None, activations: ActivationMode
) -> NDArray[np.float64]:
    """Variance of the rounding of a layer's input when its channels are divided by factors, [groups].

    Δ²/12, where Δ is the scale that the export's tables would have; 0 where inputs are not rounded, or the layer did
    not run.
    """
    records = time_aware.records
    record = records.layer(layer.name)
    if activations == "none" or record.kind == "embedding":
        return np.zeros(len(time_aware.groups))
    if factors is not None:
        record = divided(record, factors, records)
    folded = replace(time_aware, records=replace(records, layers={layer.name: record}))
    low, high = folded.ranges(layer.name).T
    if activations == "int8-static":
        low, high = np.full_like(low, np.nanmin(low)), np.full_like(high, np.nanmax(high))
    found: NDArray[np.float64] = np.nan_to_num(np.square((high - low) / LEVELS) / 12)
    return found


def _row_importance(checkpoint: Checkpoint, layer: Layer, records: CalibrationRecords) -> NDArray[np.float64]:
    """How much an error in each row of a layer counts, [rows], 1 on average.

    The rows of a language model's head are tokens, and what a token's logit is worth goes with its probability: a fold
    that serves the many rows of rare tokens at the cost of the few frequent ones does harm. The calibration has seen
    how often each token was looked up; masks were not written by anybody, and do not count. All other rows are alike.
    """
    alike = np.ones(layer.rows)
    tables = [record for record in records.layers.values() if record.kind == "embedding"]
    vocabulary = [record for record in tables if record.channels == layer.rows]
    if layer.role != "head" or len(vocabulary) != 1:
        return alike
    seen = vocabulary[0].count @ vocabulary[0].mean.astype(np.float64)
    mask = checkpoint.config.get("mask_token_id")
    if isinstance(mask, int) and 0 <= mask < len(seen):
        seen[mask] = 0.0
    return seen / seen.mean() if seen.any() else alike


@dataclass(frozen=True)
class _Scaled:
    """A checkpoint whose rows are multiplied by the factors of a fold."""

    checkpoint: Checkpoint
    factors: SingleArray

    def read_rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        weights = self.checkpoint.read_rows(name, start, stop)
        return weights.astype(np.float32) * self.factors


def _moved(stress: Stress, factors: SingleArray, layer: Layer) -> Stress:
    """What a layer's errors meet when its input channels are divided by factors."""
    variance: SingleArray = stress.variance / (factors * factors)
    return replace(stress, mean=stress.mean / factors, variance=variance, layer=layer)
