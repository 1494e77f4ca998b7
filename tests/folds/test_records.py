"""Records computed for a folded checkpoint are those that a capture of the folded model gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from workbench import zoo
from workbench.calibration import CalibrationRecords, TimeAwareQuantizer
from workbench.checkpoint import open_checkpoint
from workbench.errors import ValidationError
from workbench.folds.fold import Fold
from workbench.folds.folded import FoldedCheckpoint
from workbench.folds.records import fold_records
from workbench.folds.sites import find_sites
from workbench.live import capture
from workbench.thermo import DamageModel
from workbench.zoo.digits_dit.sample import denoise, load


@dataclass(frozen=True)
class Case:
    folded: FoldedCheckpoint
    source: CalibrationRecords
    computed: CalibrationRecords
    captured: CalibrationRecords


@pytest.fixture(scope="module")
def case() -> Iterator[Case]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model, scheduler = load(zoo.locate("digits-dit"), torch.float32)
    rng = np.random.default_rng(0)
    with open_checkpoint("zoo:digits-dit") as checkpoint, torch.no_grad():
        folds = [
            Fold(site, 0.5, np.exp(0.7 * rng.standard_normal(site.channels)).astype(np.float32))
            for site in find_sites(checkpoint).sites
        ]
        folded = FoldedCheckpoint(checkpoint, folds)
        found = []
        for changed in (False, True):
            if changed:
                state = {name: torch.from_numpy(np.array(folded.view(name))) for name in folded.changes}
                model.load_state_dict(state, strict=False)
            with capture(model, checkpoint, check_weights=not changed) as rec:
                denoise(model, scheduler, np.arange(4), 0, 4)
            found.append(rec.records)
        rng = np.random.default_rng(1)
        layers = {
            name: replace(record, sensitivity={"noise": rng.uniform(1, 2, len(record.count))})
            for name, record in found[0].layers.items()
        }
        source = replace(found[0], layers=layers)
        yield Case(folded, source, fold_records(source, folded), found[1])
    torch.set_num_threads(threads)


def test_channels_are_those_of_a_capture(case: Case) -> None:
    for name, captured in case.captured.layers.items():
        computed = case.computed.layers[name]
        assert computed.count.tolist() == captured.count.tolist()
        for field in ("mean", "second_moment", "absmax"):
            ours, theirs = getattr(computed, field), getattr(captured, field)
            np.testing.assert_allclose(
                ours, theirs, rtol=2e-3, atol=1e-4 * np.abs(theirs).max(), err_msg=f"{name} {field}"
            )
            assert ours.dtype == np.float32


def test_the_energy_a_layer_gives_is_that_of_a_capture(case: Case) -> None:
    for name, captured in case.captured.layers.items():
        ratio = case.computed.layers[name].output_energy / captured.output_energy
        change = case.folded.changes.get(name)
        if change is None or change.rows is None:
            np.testing.assert_allclose(ratio, 1, rtol=1e-3, err_msg=name)
        else:  # which rows had how much of it is not recorded: told by the moments, channels independent
            np.testing.assert_allclose(ratio, 1, rtol=0.25, err_msg=name)


def test_ranges_hold_what_a_capture_saw(case: Case) -> None:
    moved = 0
    for name, captured in case.captured.layers.items():
        computed, before = case.computed.layers[name].steps, case.source.layers[name].steps
        slack = 1e-4 * np.abs(captured.steps.maximum)
        assert (computed.maximum >= captured.steps.maximum - slack).all()
        assert (computed.minimum <= captured.steps.minimum + slack).all()
        assert (computed.minimum <= computed.mean).all()
        assert (computed.mean <= computed.maximum).all()
        assert (computed.absmax_p99 <= computed.absmax_p999).all()
        change = case.folded.changes.get(name)
        if change is None or change.columns is None:
            assert computed is before
        else:
            moved += 1
            widest = np.maximum(np.abs(captured.steps.maximum), np.abs(captured.steps.minimum))
            assert (np.maximum(computed.maximum, -computed.minimum) <= 1.0001 * widest).all(), (
                "a bucket a step here"
            )
            np.testing.assert_allclose(computed.variance, captured.steps.variance, rtol=0.25, err_msg=name)
    assert moved == 16


def test_what_a_unit_of_relative_error_costs_stays(case: Case) -> None:
    layers = case.folded.layers
    before = DamageModel.of(TimeAwareQuantizer.of(case.source, 4), layers, "noise")
    after = DamageModel.of(TimeAwareQuantizer.of(case.computed, 4), layers, "noise")
    for layer in layers:
        if layer.name in case.source.layers:
            np.testing.assert_allclose(before.kappa(layer), after.kappa(layer), rtol=1e-4, err_msg=layer.name)


def test_they_are_saved_and_fit_the_folded_checkpoint_alone(case: Case, tmp_path: object) -> None:
    case.computed.check_fit(case.folded)
    case.computed.save(f"{tmp_path}/records.parquet")
    again = CalibrationRecords.load(f"{tmp_path}/records.parquet")
    assert again.digest == case.computed.digest != case.source.digest
    assert again.made_by["folded from"] == case.source.fingerprint
    with pytest.raises(ValidationError, match="other weights"):
        case.computed.check_fit(case.folded.source)
    with pytest.raises(ValidationError, match="other weights"):
        fold_records(case.computed, case.folded)
    assert fold_records(case.source, case.folded, "f" * 64).fingerprint == "f" * 64
