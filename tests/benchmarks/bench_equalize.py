"""What equalisation is worth: the error of the final output with and without exact folds, on held-out seeds.

    python tests/benchmarks/bench_equalize.py [--models digits,mdlm] [--bits 4,3] [--targets parquet] [--seeds N]
        [--draws N] [--group N] [--activations MODE] [--json FILE]

Every layer is quantized to the same bits; the folds are chosen for these options by the shipped calibration, whose
seeds are others. Beside the folds that the search makes stand those that one strength makes at all sites, helpful or
not.

Rounding has its luck: the errors of layers add up or cancel, and other weights that quantize just as well give a whole
model an error that is several percent off. So beside what would be exported ("exported": error power with folds over
that without, over all seeds; "better" counts them) the searched folds are judged in several draws: with exact folds by
factors of about 1 ± 0.1 on top, at all sites, the same with the searched folds and without. The ratio is the mean over
these draws, on the first seeds, ± its standard error. With ``--activations int8-time`` or ``int8-static`` the layers'
inputs are rounded too, and the search knows it. One thread.
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
from printed import print_table
from subjects import JUDGED, Subject, digits, language_model

from workbench.calibration import ActivationTables, CalibrationRecords, TimeAwareQuantizer
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.engine import InlineExecutor, SpatialQuantizer
from workbench.folds.fold import Fold, Site, balance
from workbench.folds.folded import FoldedCheckpoint
from workbench.folds.records import fold_records
from workbench.formats import target_named
from workbench.live import Applied
from workbench.live.model.clock import clock_for
from workbench.live.model.modules import match_layers
from workbench.live.validation.rounding import Rounding

MODELS: dict[str, tuple[Callable[[], Subject], str]] = {
    "digits": (digits, "zoo:digits-dit"),
    "mdlm": (language_model, "zoo:stdlib-mdlm"),
}
FORCED = 0.5
DRAWN = 2
"""Seeds that the draws are judged on."""


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
    parser.add_argument("--activations", default="none")
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
                        subject,
                        checkpoint,
                        records,
                        exact,
                        target,
                        bits,
                        given.group,
                        given.draws,
                        given.activations,
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
    activations: str,
) -> list[dict[str, Any]]:
    spatial = SpatialQuantizer.of(
        checkpoint,
        records,
        target=target,
        bits=bits,
        group_size=group,
        activations=activations,
        executor=InlineExecutor(),
    )
    made, sites = spatial.checkpoint.folds, [outcome.site for outcome in spatial.outcomes]
    plans: dict[str, Sequence[Fold]] = {
        "as it is": (),
        "searched": made,
        f"α = {FORCED} at all sites": [forced(checkpoint, site, records) for site in sites],
    }

    def measure(folds: Sequence[Fold], seeds: int) -> tuple[list[float], list[torch.Tensor], int]:
        folded = FoldedCheckpoint(checkpoint, folds)
        with (
            stored(subject, folded, target, bits, group) as nbytes,
            rounded(subject, checkpoint, fold_records(records, folded), activations),
        ):
            outputs = [subject.judged(seed) for seed in range(JUDGED, JUDGED + seeds)]
        return [subject.distance(*pair) for pair in zip(outputs, exact[:seeds], strict=True)], outputs, nbytes

    rows, base = [], np.zeros(0)
    for name, folds in plans.items():
        found, outputs, nbytes = measure(folds, len(exact))
        errors = np.array(found)
        base = base if folds else errors
        rows.append(
            {
                "model": subject.name, "target": target, "bits": bits, "folds": name,
                "made": f"{len(folds)}/{len(sites)}", "bytes": nbytes, "error power": float(errors.mean()),
                "exported": float(errors.mean() / base.mean()), "better": f"{(errors < base).sum()}/{len(exact)}",
                "ratio": None, "±": None,
                **{key: round(value, 4) for key, value in subject.quality(outputs).items()},
            }
        )  # fmt: skip
    if draws and made:
        ratios = []
        for draw in range(draws):
            with_, without = (np.mean(measure(moved(folds, sites, draw), DRAWN)[0]) for folds in (made, ()))
            ratios.append(with_ / without)
        rows[1] |= {"ratio": float(np.mean(ratios)), "±": float(np.std(ratios, ddof=1) / np.sqrt(draws))}
    predicted = sum(
        (outcome.after if outcome.fold else outcome.before) or 0.0 for outcome in spatial.outcomes
    )
    before = sum(outcome.before or 0.0 for outcome in spatial.outcomes)
    print_table(rows)
    print(f"predicted: Σ D of the consumers of the sites {before:.4g} → {predicted:.4g}\n", flush=True)
    return rows


def moved(folds: Sequence[Fold], sites: Sequence[Site], draw: int) -> list[Fold]:
    """The folds, and on top of them small ones at all sites, which round the weights otherwise and no better."""
    chance = np.random.default_rng(draw)
    made = {fold.site.name: fold.factors for fold in folds}
    return [
        Fold(
            site,
            0.0,
            made.get(site.name, np.float32(1))
            * np.exp(0.1 * chance.standard_normal(site.channels), dtype=np.float32),
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
                values = format_.encoder(folded).encode(info, option, values).decoded
        else:
            nbytes += info.nbytes
        state[name] = torch.from_numpy(values.astype(np.float32)).reshape(info.shape)
    before = {name: value.clone() for name, value in subject.module.state_dict().items()}
    subject.module.load_state_dict(state, strict=False)
    try:
        yield nbytes
    finally:
        subject.module.load_state_dict(before)


@contextmanager
def rounded(
    subject: Subject, checkpoint: Checkpoint, records: CalibrationRecords, activations: str
) -> Iterator[None]:
    """The model with its layers' inputs rounded by the tables that an export carries."""
    if activations == "none":
        yield
        return
    tables = ActivationTables.from_dict(TimeAwareQuantizer.of(records).to_dict())
    tables = tables.static() if activations == "int8-static" else tables
    match = match_layers(subject.module, checkpoint)
    clock = clock_for(match.root, checkpoint, None) if len(tables.borders) else None
    layers = {name: found for name, found in match.modules.items() if name in tables.scales}
    with Applied(match, iter(()), {}, Rounding(match.root, layers, tables, clock)):
        yield


if __name__ == "__main__":
    main()
