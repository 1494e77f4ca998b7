"""The table of options: exact bytes, error of the weights and damage of every legal option of every layer."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import astuple
from typing import Any

import numpy as np
import pyarrow as pa

from workbench.checkpoint import Checkpoint
from workbench.checkpoint.blocks import read_blocks
from workbench.errors import ANY, ConfigurationError, ValidationError, setting
from workbench.formats import Encoder, Format, kept_as
from workbench.plan import Layer, Option
from workbench.quantize import Encodings, check_finite, entropy_bits
from workbench.quantize.error import error_of
from workbench.thermo.costs import CostTable
from workbench.thermo.measurement.cache import Entry
from workbench.thermo.measurement.profile import check_sample
from workbench.thermo.measurement.sampling import RowSample, draw_rows, ratio, total
from workbench.thermo.measurement.sweep import Rows, Step, sweep
from workbench.thermo.options.damage_model import DamageModel, Stress
from workbench.work import ProgressCallback

VERSION = 4
"""Changes with what the table holds or how it is computed, so that older ones in the cache are not taken."""

SAMPLE_ROWS = 64
SAMPLE_WEIGHTS = 2**20
"""A sample has at least so many rows or weights, whichever are more."""

PER_STRATUM = 8
"""Rows drawn from each stratum: enough for a variance in each, few enough for many strata."""

SCHEMA = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("bits", pa.int32(), nullable=False),
        pa.field("scheme", pa.string(), nullable=False),
        pa.field("group_size", pa.int32(), nullable=False),
        pa.field("nbytes", pa.int64(), nullable=False),
        pa.field("nsr", pa.float64(), nullable=False),
        pa.field("damage", pa.float64(), nullable=False),
        pa.field("damage_stderr", pa.float64(), nullable=False),
        pa.field("error_by_group", pa.list_(pa.float64())),
        pa.field("cosine", pa.float64(), nullable=False),
        pa.field("code_entropy", pa.float64()),
    ]
)
"""Columns of the table that `measure_options` makes."""


def measure_options(
    checkpoint: Checkpoint,
    target: Format,
    *,
    schemes: Sequence[str] | None = None,
    group_sizes: Sequence[int] | None = None,
    exact: bool = False,
    sample_rows: int | None = None,
    seed: int = 0,
    keep: Collection[str] = (),
    damage_model: DamageModel | None = None,
    encodings: Encodings | None = None,
    executor: Executor | None = None,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> pa.Table:
    """Bytes, error and code entropy of every legal option of every layer.

    Errors are measured by quantizing rows as an export would. By default those are a seeded sample: rows drawn
    without replacement from strata of consecutive rows, at least 64 or 2^20 weights, whichever is more, or all rows
    where that is more than half of them. The NSR is then the ratio estimator of `ratio` with its standard error;
    cosine and code entropy are those of the sample.

    Parameters
    ----------
    checkpoint : Checkpoint
    target : Format
        The export format.
    schemes, group_sizes : sequence, optional
        Only these of the options that quantize; by default all that the target has. More to choose from never makes
        a plan worse, only slower to make. Keeping the source dtype is always there.
    exact : bool
        Measure all rows.
    sample_rows : int, optional
        Rows to sample of each layer instead, at least 64.
    seed : int
        Which rows.
    keep : collection of str
        Layers that have no option but to keep the source dtype; they are not measured.
    damage_model : DamageModel, optional
        Predicts damage from a calibration. Without one the damage of an option is its NSR.
    encodings : Encodings, optional
        How the weights become codes, as in the export to be; by default ``fast``.
    executor, callback, cancel, cache
        As for `workbench.thermo.measurement.profile.profile`.

    Returns
    -------
    pyarrow.Table
        A row a layer × option, in the checkpoint's order and fewest bytes first: layer, bits, scheme, group_size,
        nbytes (exact), nsr (‖W−Ŵ‖²/‖W‖²), damage (D), damage_stderr (0 where all rows were measured), error_by_group
        (N_g/E_g, the relative error power of the layer's own output in each time group, null where it did not run;
        null without a damage model), cosine, code_entropy (bits per weight; null where the layer is kept).

    Raises
    ------
    ConfigurationError
        If the target has no such scheme or group size for any layer, or `sample_rows` is too small.
    ValidationError
        If a weight that is measured is NaN or Inf; names the tensor and the first such weight. If the damage model
        has records of another checkpoint.
    QuantizationError
        If the checkpoint changed since it was opened.
    CancelledError
        If the work was cancelled; what was measured is not measured again.
    """
    check_sample(sample_rows)
    if damage_model is not None:
        damage_model.time_aware.records.check_fit(checkpoint)
    encodings = encodings or Encodings()
    layers = [layer for layer in checkpoint.layers if layer.params]
    options = {
        layer.name: [kept_as(layer, target)]
        if layer.name in keep
        else _legal(target, layer, schemes, group_sizes)
        for layer in layers
    }
    if layers and not any(option for found in options.values() for option in found if not option.is_kept):
        way_out = (
            f"with schemes={schemes} and group_sizes={group_sizes}; leave them out to see all there are"
            if schemes is not None or group_sizes is not None
            else f"in fewer bytes than the source; choose another target: {setting('target', ANY)}"
        )
        raise ConfigurationError(
            f"No layer can be stored in {target.name} {way_out}.",
            key="schemes" if group_sizes is None else "group_sizes",
            value=schemes if group_sizes is None else group_sizes,
        )
    parameters = {
        "target": target.name,
        "options": [[astuple(option) for option in found] for found in options.values()],
        "sample_rows": "all" if exact else sample_rows,
        "seed": None if exact else seed,
        "damage_model": None if damage_model is None else damage_model.key,
        "encodings": [encodings.effort, encodings.weighted_by],
    }
    entry = Entry.of(checkpoint, "options", VERSION, parameters, SCHEMA, cache)

    encoder = target.encoder(checkpoint, encodings)

    def measure(layer: Layer, step: Step) -> Rows:
        count = sample_rows or max(SAMPLE_ROWS, -(-SAMPLE_WEIGHTS // layer.cols))
        sample = None if exact else draw_rows(layer, count, PER_STRATUM, seed)
        return _measure(checkpoint, encoder, layer, options[layer.name], sample, damage_model, step)

    return sweep(checkpoint, measure, entry, "measuring options", executor, callback, cancel)


def options_of(table: pa.Table) -> dict[str, tuple[Option, ...]]:
    """The options of each layer in a table of `measure_options`, or in a part of it, in the order of its rows."""
    found: dict[str, list[Option]] = {}
    for row in table.select(["layer", "bits", "scheme", "group_size", "nbytes"]).to_pylist():
        found.setdefault(row.pop("layer"), []).append(Option(**row))
    return {name: tuple(options) for name, options in found.items()}


def cost_table(
    table: pa.Table, layers: Iterable[Layer], importance: Mapping[str, float] | None = None
) -> CostTable:
    """What the solver works on: the bytes and the damage of the options in a table.

    Parameters
    ----------
    table : pyarrow.Table
        Of `measure_options`, or those of its rows that a plan may choose from.
    layers : iterable of Layer
        Those of the checkpoint.
    importance : mapping of str to float, optional
        A factor of the damage of layers, by name; 1 where it is not given.

    Returns
    -------
    CostTable
        Places along its options are those in `options_of(table)`.

    Raises
    ------
    ValidationError
        If the table or the importance has a layer that is not among the layers, or an importance is negative.
    """
    params = {layer.name: layer.params for layer in layers}
    options = options_of(table)
    importance = importance or {}
    for name in sorted({*options, *importance} - set(params)):
        raise ValidationError(f"There is no layer {name!r} in the checkpoint.", tensor=name)
    damage: dict[str, list[float]] = {name: [] for name in options}
    cosine: dict[str, list[float]] = {name: [] for name in options}
    for row in table.select(["layer", "damage", "cosine"]).to_pylist():
        damage[row["layer"]].append(importance.get(row["layer"], 1.0) * row["damage"])
        cosine[row["layer"]].append(row["cosine"])
    return CostTable.of(
        list(options),
        [params[name] for name in options],
        list(options.values()),
        list(damage.values()),
        list(cosine.values()),
    )


def _legal(
    target: Format, layer: Layer, schemes: Sequence[str] | None, group_sizes: Sequence[int] | None
) -> list[Option]:
    return [
        option
        for option in target.options(layer)
        if option.is_kept
        or (
            (schemes is None or option.scheme in schemes)
            and (group_sizes is None or option.group_size in group_sizes)
        )
    ]


def _measure(
    checkpoint: Checkpoint,
    encoder: Encoder,
    layer: Layer,
    options: Sequence[Option],
    sample: RowSample | None,
    damage_model: DamageModel | None,
    step: Step,
) -> Rows:
    """The rows of a layer in the table."""
    tried = [option for option in options if not option.is_kept]
    rows = None if sample is None else sample.rows.reshape(-1)
    measured = layer.rows if rows is None else len(rows)
    stress = None if damage_model is None else damage_model.stress(layer)
    kept_apart = 1 if rows is None else len(rows)
    sums = np.zeros((len(tried), kept_apart, 3))
    noise = np.zeros((len(tried), kept_apart, 0 if stress is None else len(stress.damage_per_noise)))
    counts = [np.zeros(1 << option.bits, np.int64) for option in tried]
    done = 0
    for some, weights in read_blocks(checkpoint, layer.name, rows) if tried else ():
        check_finite(weights, layer.name, some)
        exact = weights.astype(np.float32) if stress else None
        at = slice(0, 1) if rows is None else slice(done, done + len(some))
        for place, option in enumerate(tried):
            encoded = encoder.encode(layer, option, weights, int(some[0]))
            sums[place, at] += encoded.sums.sum(axis=0) if rows is None else encoded.sums
            counts[place] += encoded.code_counts
            if stress is not None and exact is not None:
                found = stress.noise(exact - encoded.decoded, some)
                noise[place, at] += found.sum(axis=0) if rows is None else found
            step(len(some) / measured / len(tried))
        done += len(some)
    values = [_values(*found, sample) for found in zip(sums, counts, strict=True)]
    if damage_model is not None:
        values = [
            value | _damage(damage_model, stress, value, found, sample)
            for value, found in zip(values, noise, strict=True)
        ]
    remaining = iter(values)
    nothing = None if stress is None else [None if math.isnan(part) else 0.0 for part in stress.energy]
    kept = {"nsr": 0.0, "damage": 0.0, "damage_stderr": 0.0, "cosine": 1.0}
    return [
        {
            "layer": layer.name,
            "bits": option.bits,
            "scheme": option.scheme,
            "group_size": option.group_size,
            "nbytes": option.nbytes,
            "error_by_group": nothing,
            "code_entropy": None,
            **(kept if option.is_kept else next(remaining)),
        }
        for option in options
    ]


def _values(
    sums: np.ndarray[Any, Any], counts: np.ndarray[Any, Any], sample: RowSample | None
) -> dict[str, Any]:
    """NSR, cosine and code entropy, of sums [rows drawn or 1, 3] and the counts of codes; the damage is the NSR."""
    if sample is None:
        error = error_of(sums)
        nsr, stderr = error.nsr, 0.0
    else:
        strata = sums.reshape(*sample.rows.shape, 3)
        nsr, stderr = ratio(sample, strata[..., 0], strata[..., 1])
        error = error_of(strata.sum(axis=1) * (sample.sizes / sample.rows.shape[1])[:, None])
    return {
        "nsr": nsr,
        "damage": nsr,
        "damage_stderr": stderr,
        "cosine": error.cosine,
        "code_entropy": entropy_bits(counts),
    }


def _damage(
    damage_model: DamageModel,
    stress: Stress | None,
    value: dict[str, Any],
    noise: np.ndarray[Any, Any],
    sample: RowSample | None,
) -> dict[str, Any]:
    """D, its standard error and its parts by group, of the noise of rows [rows drawn or 1, groups]."""
    if stress is None:  # no record: as much as a relative error in a typical layer
        return {key: damage_model.typical * value[key] for key in ("damage", "damage_stderr")}
    damage = noise @ stress.damage_per_noise
    if sample is None:
        whole, stderr, by_group = float(damage.sum()), 0.0, noise.sum(axis=0)
    else:
        whole, stderr = total(sample, damage.reshape(sample.rows.shape))
        strata = noise.reshape(*sample.rows.shape, -1).mean(axis=1)
        by_group = sample.sizes @ strata
    shares = by_group / stress.energy
    return {
        "damage": whole,
        "damage_stderr": stderr,
        "error_by_group": [share if math.isfinite(share) else None for share in shares.tolist()],
    }
