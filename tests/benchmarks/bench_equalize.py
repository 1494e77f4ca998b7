"""What equalisation is worth: the error of the final output with and without exact folds, on held-out seeds.

    python tests/benchmarks/bench_equalize.py [--models digits,mdlm] [--bits 4,3] [--targets parquet] [--seeds N]
        [--draws N] [--group N] [--json FILE]

Every layer is quantized to the same bits; the folds are chosen for these options by the shipped calibration, whose
seeds are others. Beside the folds that the search makes stand those that one strength makes at all sites, helpful or
not.

Rounding has its luck: the errors of layers add up or cancel, and other weights that quantize just as well give a whole
model an error that is several percent off. So every choice is judged in several draws: the first as it would be
exported, the others with exact folds by factors of about 1 ± 0.1 on top, at all sites, the same for every choice. The
ratio is that of the mean error power over the seeds with folds to that without, averaged over these draws, ± its
standard error; "exported" is the first draw alone, and "better" counts its seeds. One thread.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from subjects import JUDGED, Subject, digits, language_model

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.formats import target_named
from workbench.pipeline import InlineExecutor, SpatialQuantizer
from workbench.quantize.folded import FoldedCheckpoint
from workbench.quantize.folds import Fold, Site, balance

MODELS: dict[str, tuple[Callable[[], Subject], str]] = {
    "digits": (digits, "zoo:digits-dit"),
    "mdlm": (language_model, "zoo:stdlib-mdlm"),
}
FORCED = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="digits,mdlm")
    parser.add_argument("--bits", default="4,3")
    parser.add_argument("--targets", default="parquet")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for name in given.models.split(","):
        make, calibration = MODELS[name]
        subject, records = make(), CalibrationRecords.load(calibration)
        with open_checkpoint(str(subject.folder)) as checkpoint, torch.no_grad():
            exact = [subject.judged(seed) for seed in range(JUDGED, JUDGED + given.seeds)]
            for target in given.targets.split(","):
                for bits in map(int, given.bits.split(",")):
                    results += study(
                        subject, checkpoint, records, exact, target, bits, given.group, given.draws
                    )
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


def study(
    subject: Subject,
    checkpoint: Checkpoint,
    records: CalibrationRecords,
    exact: Sequence[torch.Tensor],
    target: str,
    bits: int,
    group: int,
    draws: int,
) -> list[dict[str, Any]]:
    spatial = SpatialQuantizer.of(
        checkpoint, records, target=target, bits=bits, group_size=group, executor=InlineExecutor()
    )
    made, sites = spatial.checkpoint.folds, [outcome.site for outcome in spatial.outcomes]
    plans: dict[str, Sequence[Fold]] = {
        "as it is": (),
        "searched": made,
        f"α = {FORCED} at all sites": [forced(checkpoint, site, records) for site in sites],
    }
    rows, base = [], np.zeros(0)
    for name, folds in plans.items():
        errors = np.empty((draws, len(exact)))
        for draw in range(draws):
            folded = FoldedCheckpoint(checkpoint, moved(folds, sites, draw))
            with stored(subject, folded, target, bits, group) as nbytes:
                outputs = [subject.judged(seed) for seed in range(JUDGED, JUDGED + len(exact))]
            errors[draw] = [subject.distance(*pair) for pair in zip(outputs, exact, strict=True)]
            if draw == 0:
                size, quality = nbytes, subject.quality(outputs)
        base = errors if not folds else base
        ratios = errors[1:].mean(axis=1) / base[1:].mean(axis=1)
        rows.append(
            {
                "model": subject.name, "target": target, "bits": bits, "folds": name,
                "made": f"{len(folds)}/{len(sites)}", "bytes": size, "error power": float(errors[0].mean()),
                "exported": float(errors[0].mean() / base[0].mean()),
                "ratio": float(ratios.mean()), "±": float(ratios.std(ddof=1) / np.sqrt(len(ratios))),
                "better": f"{(errors[0] < base[0]).sum()}/{len(exact)}",
                **{key: round(value, 4) for key, value in quality.items()},
            }
        )  # fmt: skip
    predicted = sum(outcome.after if outcome.fold else outcome.before or 0.0 for outcome in spatial.outcomes)
    before = sum(outcome.before or 0.0 for outcome in spatial.outcomes)
    show(rows)
    print(f"predicted: Σ D of the consumers of the sites {before:.4g} → {predicted:.4g}\n", flush=True)
    return rows


def moved(folds: Sequence[Fold], sites: Sequence[Site], draw: int) -> list[Fold]:
    """The folds, and on top of them small ones at all sites, which round the weights otherwise and no better."""
    if draw == 0:
        return list(folds)
    chance = np.random.default_rng(draw)
    made = {fold.site.name: fold.factors for fold in folds}
    return [
        Fold(
            site,
            0.0,
            made.get(site.name, 1.0) * np.exp(0.1 * chance.standard_normal(site.channels), dtype=np.float32),
        )
        for site in sites
    ]


def forced(checkpoint: Checkpoint, site: Site, records: CalibrationRecords) -> Fold:
    """The fold of one strength, whether it helps or not."""
    weights = np.max(
        [
            site.gather(np.abs(checkpoint.view(name).astype(np.float32)).max(axis=0))
            for name in site.consumers
        ],
        axis=0,
    )
    activations = np.max([site.gather(records.absmax(name).max(axis=0)) for name in site.consumers], axis=0)
    return Fold(site, FORCED, balance(activations, weights, FORCED))


@contextmanager
def stored(subject: Subject, folded: FoldedCheckpoint, target: str, bits: int, group: int) -> Iterator[int]:
    """The model with the decoded weights of an export, and with what folds changed of the kept tensors."""
    format_ = target_named(target)
    state: dict[str, torch.Tensor] = {}
    nbytes = 0
    layers = {layer.name: layer for layer in folded.layers}
    for name, info in folded.tensors.items():
        values = folded.read_rows(name, 0, info.shape[0])
        if name in layers:
            option = format_.quantized(layers[name], bits, "asymmetric", group)
            nbytes += option.nbytes
            if not option.is_kept:
                values = format_.decoded(values, option, name, 0)
        else:
            nbytes += info.nbytes
        state[name] = torch.from_numpy(values.astype(np.float32)).reshape(info.shape)
    before = {name: value.clone() for name, value in subject.module.state_dict().items()}
    subject.module.load_state_dict(state, strict=False)
    try:
        yield nbytes
    finally:
        subject.module.load_state_dict(before)


def show(rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        list(rows[0]),
        *([f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows),
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)), flush=True)


if __name__ == "__main__":
    main()
