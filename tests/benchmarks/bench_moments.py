"""How well the moments of the channels predict a layer's relative output error: N_g/E_g against all activations.

    python tests/benchmarks/bench_moments.py [--models digits,unet,mdlm] [--json FILE]

Every input of every layer is kept, and E‖ΔWx‖² / E‖Wx‖² computed from it by time group for 2, 3, 4 and 8 bits
(Parquet, groups of 64). Beside it stands what the calibration records predict from means and variances of single
channels, as if channels were independent. One thread.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_importance import options, show, stored
from scipy.stats import spearmanr
from subjects import CALIBRATION, Subject, digits, language_model, random_unet
from torch import nn

from workbench.calibration import TimeAwareQuantizer
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.live import capture, match_modules
from workbench.live.model.clock import clock_for
from workbench.live.model.modules import kind_of
from workbench.plan import Layer
from workbench.thermo.options.damage_model import DamageModel

MODELS: dict[str, Callable[[], Subject]] = {"digits": digits, "unet": random_unet, "mdlm": language_model}
WIDTHS = (2, 3, 4, 8)
GROUPS = 5
KEPT = 8192
"""Input vectors kept of a layer and a call, at most, evenly spread."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="digits,unet,mdlm")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name in given.models.split(","):
        subject = MODELS[name]()
        with open_checkpoint(str(subject.folder)) as checkpoint:
            results[subject.name] = study(subject, checkpoint)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


def study(subject: Subject, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    with capture(subject.module, checkpoint) as rec, torch.no_grad():
        subject.run(CALIBRATION)
    damage_model = DamageModel.of(TimeAwareQuantizer.of(rec.records, GROUPS), checkpoint.layers, "none")
    kept = keep_inputs(subject, checkpoint, damage_model)
    rows = []
    for layer in checkpoint.layers:
        stress = damage_model.stress(layer)
        if stress is None or stress.kind == "embedding":  # of a look-up the moments say everything
            continue
        for bits in WIDTHS:
            option = next(o for o in options(layer) if o.bits == bits and not o.is_kept)
            weights, decoded = stored(checkpoint, layer, option)
            predicted = stress.noise(weights - decoded, np.arange(layer.rows)).sum(axis=0) / stress.energy
            for group, inputs in kept[layer.name].items():
                true = relative_error(weights, decoded, inputs)
                rows.append((layer, bits, group, predicted[group], true))
    return report(subject.name, rows)


def relative_error(weights: Any, decoded: Any, inputs: list[np.ndarray[Any, Any]]) -> float:
    x = np.concatenate(inputs)
    noise, signal = x @ (weights - decoded).T, x @ weights.T
    return float(np.square(noise, dtype=np.float64).sum() / np.square(signal, dtype=np.float64).sum())


def keep_inputs(
    subject: Subject, checkpoint: Checkpoint, damage_model: DamageModel
) -> dict[str, dict[int, list[np.ndarray[Any, Any]]]]:
    """The input vectors of every layer by time group: of convolutions, the patches that the kernel sees."""
    kept: dict[str, dict[int, list[np.ndarray[Any, Any]]]] = defaultdict(lambda: defaultdict(list))
    clock = clock_for(subject.module, checkpoint, None)
    ranges = damage_model.time_aware.groups.ranges
    borders = (ranges[:-1, 1] + ranges[1:, 0]) / 2
    now = [0]

    def tick(module: nn.Module, args: Any, kwargs: Any) -> None:
        now[0] = int(np.searchsorted(borders, np.mean(clock.times(module, args, kwargs)), side="right"))

    def keep(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            given = args[0].detach().float()
            if kind_of(module) == "conv":
                given = nn.functional.unfold(
                    given, module.kernel_size, padding=module.padding, stride=module.stride
                ).transpose(1, 2)
            if kind_of(module) != "embedding":
                vectors = given.reshape(-1, given.shape[-1])
                step = max(len(vectors) // KEPT, 1)
                kept[name][now[0]].append(vectors[::step].numpy().copy())

        return hook

    handles = [subject.module.register_forward_pre_hook(tick, with_kwargs=True)]
    handles += [
        module.register_forward_hook(keep(name))
        for name, module in match_modules(subject.module, checkpoint).items()
    ]
    try:
        with torch.no_grad():
            subject.run(CALIBRATION)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def report(name: str, rows: list[tuple[Layer, int, int, float, float]]) -> list[dict[str, Any]]:
    """The rank correlation over layers, groups and widths, the ratio, and the layers where it is farthest off."""
    ratio = np.array([predicted / true for *_, predicted, true in rows])
    print(
        f"\n{name}: {len(rows)} layers × groups × widths, rank correlation "
        f"{spearmanr([r[3] for r in rows], [r[4] for r in rows]).statistic:.3f}, predicted/true: median "
        f"{np.median(ratio):.3f}, 5 % below {np.quantile(ratio, 0.05):.3f}, 5 % above {np.quantile(ratio, 0.95):.3f}"
    )
    table = []
    for role in sorted({row[0].role for row in rows}):
        for bits in WIDTHS:
            some = [row for row in rows if row[0].role == role and row[1] == bits]
            part = np.array([predicted / true for *_, predicted, true in some])
            ranks = [[row[3] for row in some], [row[4] for row in some]]
            table.append(
                {
                    "role": role, "bits": bits, "cases": len(some),
                    "rank": round(float(spearmanr(*ranks).statistic), 3) if len(some) > 3 else None,
                    "median ratio": round(float(np.median(part)), 3),
                    "least": round(float(part.min()), 3), "most": round(float(part.max()), 3),
                }
            )  # fmt: skip
    show(table)
    return table


if __name__ == "__main__":
    main()
