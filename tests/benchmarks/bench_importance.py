"""Which estimator of importance predicts best, and whether plans priced by it are better.

    python tests/benchmarks/bench_importance.py [--models digits,small,mdlm] [--seeds N] [--json FILE]

For every model: one layer at a time is quantized to 2 and 3 bits (Parquet, groups of 64), the error of the final
output is measured over some seeds, and compared with what each estimator predicts over all layers. Then whole plans,
each of the bytes of a uniform one, are compared on held-out seeds. One thread; seconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from printed import print_table
from scipy.stats import spearmanr
from subjects import CALIBRATION, JUDGED, Subject, digits, language_model, small_digits

from workbench.calibration import CalibrationRecords, TimeAwareQuantizer
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.config import GROUP_SIZES
from workbench.formats import target_named
from workbench.live import (
    capture,
    directional,
    importance_by_gradients,
    importance_by_trial,
    match_modules,
)
from workbench.live.importance.trials import changed
from workbench.plan import Layer, Option
from workbench.thermo import cost_table, measure_options, options_of, solve
from workbench.thermo.options.damage_model import UNWEIGHTED, DamageModel

MODELS: dict[str, Callable[[], Subject]] = {"digits": digits, "small": small_digits, "mdlm": language_model}
GROUP = 64
WIDTHS = (2, 3)
ESTIMATORS = (
    ("fisher", "trajectory", True), ("fisher", "trajectory", False), ("fisher", "step", False),
    ("white", "trajectory", False), ("white", "step", False),
)  # fmt: skip
"""Method, span, and whether the runs stand on the way to 2 bits."""

Deltas = dict[tuple[str, int], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="digits,small,mdlm")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for name in given.models.split(","):
        subject = MODELS[name]()
        with open_checkpoint(str(subject.folder)) as checkpoint:
            results.append(study(subject, checkpoint, given.seeds, given.runs))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


def study(subject: Subject, checkpoint: Checkpoint, seeds: int, runs: int) -> dict[str, Any]:
    print(f"\n{subject.name}: {len(checkpoint.layers)} layers, one thread", flush=True)
    deltas = quantization_errors(checkpoint)
    with capture(subject.module, checkpoint) as rec, torch.no_grad():
        subject.run(CALIBRATION)
    records, seconds = estimate(subject, checkpoint, rec.records, deltas, runs)
    predicted = predict(subject, checkpoint, records, deltas, runs, seconds)
    measured = measure(subject, checkpoint, deltas, seeds)
    table = [judge(name, values, measured, seconds.get(name)) for name, values in predicted.items()]
    print_table(table)
    print()
    plans = compare_plans(subject, checkpoint, records, seeds)
    return {"model": subject.name, "estimators": table, "plans": plans}


def quantization_errors(checkpoint: Checkpoint) -> Deltas:
    """Ŵ − W of every layer at each width."""
    found: Deltas = {}
    for layer in checkpoint.layers:
        for bits in WIDTHS:
            option = next(o for o in options(layer) if o.bits == bits and not o.is_kept)
            weights, decoded = stored(checkpoint, layer, option)
            found[layer.name, bits] = torch.from_numpy(decoded - weights).reshape(layer.shape)
    return found


def stored(checkpoint: Checkpoint, layer: Layer, option: Option) -> tuple[Any, Any]:
    weights = checkpoint.read_rows(layer.name, 0, layer.rows)
    exact = weights.astype(np.float32)
    if option.is_kept:
        return exact, exact
    return exact, target_named("parquet").encoder(checkpoint).encode(layer, option, weights).decoded


def options(layer: Layer) -> list[Option]:
    return [
        option
        for option in target_named("parquet").options(layer)
        if option.is_kept or (option.scheme == "asymmetric" and option.group_size == GROUP)
    ]


def estimate(
    subject: Subject, checkpoint: Checkpoint, records: CalibrationRecords, deltas: Deltas, runs: int
) -> tuple[CalibrationRecords, dict[str, float]]:
    """All estimators of importance, and what each took."""
    seconds = {}

    def run(number: int) -> torch.Tensor:
        return subject.run(CALIBRATION + number)

    coarse = {name: delta for (name, bits), delta in deltas.items() if bits == WIDTHS[0]}
    method: Any
    span: Any
    for method, span, is_toward in ESTIMATORS:
        started = time.perf_counter()
        records = importance_by_gradients(
            subject.module, run, checkpoint, records, method=method, span=span, probe=subject.probe,
            toward=coarse if is_toward else None, runs=runs if span == "trajectory" else max(runs // 4, 1),
        )  # fmt: skip
        seconds[f"{method}:{span}{':toward' if is_toward else ''}"] = time.perf_counter() - started
    trials: list[tuple[str, Mapping[str, torch.Tensor] | None]] = [
        ("noise", None),
        ("measured", coarse),
    ]
    for name, changes in trials:
        started = time.perf_counter()
        records = importance_by_trial(
            subject.module, run, checkpoint, records, deltas=changes, distance=subject.distance
        )
        seconds[name] = time.perf_counter() - started
    return records, seconds


def predict(
    subject: Subject,
    checkpoint: Checkpoint,
    records: CalibrationRecords,
    deltas: Deltas,
    runs: int,
    seconds: dict[str, float],
) -> dict[str, dict[tuple[str, int], float]]:
    found: dict[str, dict[tuple[str, int], float]] = {}
    for importance in ("weight", UNWEIGHTED, *records.estimators):
        table = planner(checkpoint, records, importance)
        rows = table.filter(pc.is_in(table["bits"], pa_array(WIDTHS))).to_pylist()
        found[importance] = {
            (row["layer"], row["bits"]): row["damage"] for row in rows if row["scheme"] != "keep"
        }
    for span in ("trajectory", "step"):
        started = time.perf_counter()
        found[f"directional:{span}"] = directional(
            subject.module, lambda number: subject.run(CALIBRATION + number), checkpoint, records, deltas,
            span=span, probe=subject.probe, runs=runs if span == "trajectory" else max(runs // 4, 1),
        )  # fmt: skip
        seconds[f"directional:{span}"] = time.perf_counter() - started
    return found


def pa_array(values: tuple[int, ...]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.int32())


def planner(
    checkpoint: Checkpoint, records: CalibrationRecords, importance: str, groups: tuple[int, ...] = (GROUP,)
) -> Any:
    damage_model = None
    if importance != "weight":
        damage_model = DamageModel.of(TimeAwareQuantizer.of(records, 5), checkpoint.layers, importance)
    return measure_options(
        checkpoint,
        target_named("parquet"),
        schemes=["asymmetric"],
        group_sizes=groups,
        exact=True,
        damage_model=damage_model,
    )


def measure(
    subject: Subject, checkpoint: Checkpoint, deltas: Deltas, seeds: int
) -> dict[tuple[str, int], float]:
    """Mean error of the final output with one layer quantized."""
    modules = match_modules(subject.module, checkpoint)
    found = dict.fromkeys(deltas, 0.0)
    with torch.no_grad():
        for seed in range(seeds):
            undisturbed = subject.run(seed)
            for (name, bits), delta in deltas.items():
                with changed(modules[name], delta):
                    found[name, bits] += subject.distance(subject.run(seed), undisturbed) / seeds
    return found


def judge(
    name: str,
    predicted: Mapping[tuple[str, int], float],
    measured: Mapping[tuple[str, int], float],
    seconds: float | None,
) -> dict[str, Any]:
    row: dict[str, Any] = {"estimator": name}
    for bits in WIDTHS:
        keys = [key for key in measured if key[1] == bits]
        ours, true = (np.array([values[key] for key in keys]) for values in (predicted, measured))
        worst, named = set(np.argsort(-true)[:3].tolist()), set(np.argsort(-ours)[:5].tolist())
        row |= {
            f"rank {bits}b": round(float(spearmanr(ours, true).statistic), 3),
            f"worst 3 in 5, {bits}b": f"{len(worst & named)} of 3",
            f"Σ ratio {bits}b": round(float(ours.sum() / true.sum()), 3),
        }
    return row | {"seconds": None if seconds is None else round(seconds, 1)}


def compare_plans(
    subject: Subject, checkpoint: Checkpoint, records: CalibrationRecords, seeds: int
) -> dict[str, list[dict[str, Any]]]:
    """Plans of the bytes of uniform ones in groups of 64, out of all group sizes, judged on held-out seeds."""
    modules = match_modules(subject.module, checkpoint)
    true = judged(subject, seeds)
    found = {}
    table = planner(checkpoint, records, "weight", GROUP_SIZES)
    table_options = options_of(table)
    weight_only = cost_table(table, checkpoint.layers)
    for width in WIDTHS:  # with a scale and a zero point in float32 for 64 weights: 3 and 4 bits a weight
        same = [
            table_options[layer.name].index(
                target_named("parquet").quantized(layer, width, "asymmetric", GROUP)
            )
            for layer in checkpoint.layers
        ]
        choices = {"uniform": (weight_only, np.array(same))}
        budget = weight_only.nbytes_of(choices["uniform"][1])
        bpw = weight_only.bpw(budget)
        for importance in ("weight", UNWEIGHTED, *records.estimators):
            costs = cost_table(planner(checkpoint, records, importance, GROUP_SIZES), checkpoint.layers)
            choices[importance] = costs, solve(costs, nbytes=budget).choice
        rows = []
        for name, (costs, choice) in choices.items():
            plan = {
                layer: table_options[layer][place]
                for layer, place in zip(costs.names, choice.tolist(), strict=True)
            }
            with quantized(checkpoint, modules, plan):
                outputs = judged(subject, seeds)
            apart = [subject.distance(*pair) for pair in zip(outputs, true, strict=True)]
            merit = {key: round(value, 4) for key, value in subject.quality(outputs).items()}
            rows.append(
                {
                    "bpw": round(bpw, 3), "plan": name, "bytes": costs.nbytes_of(choice) / budget,
                    "predicted": round(costs.damage_of(choice), 4),
                    "error power": round(float(np.mean(apart)), 4), **merit,
                }
            )  # fmt: skip
        merit = {key: round(value, 4) for key, value in subject.quality(true).items()}
        rows.append(
            {
                "bpw": round(bpw, 3),
                "plan": "not quantized",
                "bytes": None,
                "predicted": 0,
                "error power": 0.0,
                **merit,
            }
        )
        print_table(rows)
        print()
        found[f"{width + 1} bpw"] = rows
    return found


def judged(subject: Subject, seeds: int) -> list[torch.Tensor]:
    """The outputs of held-out seeds."""
    with torch.no_grad():
        return [subject.judged(seed) for seed in range(JUDGED, JUDGED + seeds)]


@contextmanager
def quantized(
    checkpoint: Checkpoint, modules: Mapping[str, Any], plan: Mapping[str, Option]
) -> Iterator[None]:
    layers = {layer.name: layer for layer in checkpoint.layers}
    before = {name: modules[name].weight.data for name in plan}
    for name, option in plan.items():
        _, decoded = stored(checkpoint, layers[name], option)
        modules[name].weight.data = torch.from_numpy(np.ascontiguousarray(decoded)).reshape(
            before[name].shape
        )
    try:
        yield
    finally:
        for name, weight in before.items():
            modules[name].weight.data = weight


if __name__ == "__main__":
    main()
