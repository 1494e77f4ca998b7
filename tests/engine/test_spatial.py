"""Equalisation end to end: which folds are made, what the files are worth, and that every export can be proved."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from workbench import zoo
from workbench.calibration import ActivationTables, CalibrationRecords, pool
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.engine import InlineExecutor, SpatialQuantizer, write_folded
from workbench.engine.equalization.fold_search import LEAST_GAIN, _step_energy, _try
from workbench.engine.equalization.spatial import restore
from workbench.folds.fold import TOLERANCE, Fold
from workbench.folds.folded import FoldedCheckpoint
from workbench.folds.records import divided
from workbench.folds.sites import find_sites
from workbench.formats import TargetSettings, target_named
from workbench.thermo import DamageModel
from workbench.zoo.digits_dit.sample import load as load_digits
from workbench.zoo.stdlib_mdlm.model import load as load_language_model

DIGITS, LANGUAGE = "zoo:digits-dit", "zoo:stdlib-mdlm"


@pytest.fixture(scope="module")
def opened() -> Iterator[dict[str, Checkpoint]]:
    with open_checkpoint(DIGITS) as digits, open_checkpoint(LANGUAGE) as language:
        yield {DIGITS: digits, LANGUAGE: language}


@pytest.fixture(scope="module")
def spatial(opened: dict[str, Checkpoint]) -> dict[str, SpatialQuantizer]:
    return {
        name: SpatialQuantizer.of(checkpoint, name, bits=3, group_size=64, executor=InlineExecutor())
        for name, checkpoint in opened.items()
    }


@pytest.fixture(scope="module")
def written(
    spatial: dict[str, SpatialQuantizer], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("folded")
    found = {}
    for name, quantizer in spatial.items():
        found[name] = write_folded(quantizer, folder / name.removeprefix("zoo:")).path
    return found


# ---- the search -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [DIGITS, LANGUAGE])
def test_a_fold_is_made_where_it_helps_and_nowhere_else(
    spatial: dict[str, SpatialQuantizer], model: str
) -> None:
    rows = spatial[model].table().to_pylist()
    made = [row for row in rows if row["alpha"]]
    assert 0 < len(made) < len(rows) == {DIGITS: 10, LANGUAGE: 21}[model]
    for row in rows:
        helps = row["after"] <= (1 - LEAST_GAIN) * row["before"]
        assert bool(row["alpha"]) is helps is (row["remark"] == "")
        if helps:
            assert 0 < row["deviation"] < TOLERANCE
        else:
            assert row["remark"] == "refused, as no fold takes 5% off the error of its consumers"
    assert spatial[model].summary.startswith(f"{len(made)} of {len(rows)} exact folds were made")


def test_the_error_is_that_of_the_decoded_weights(spatial: dict[str, SpatialQuantizer]) -> None:
    """D of one site, computed anew: what the moments of the input make of the decoded weights' errors."""
    quantizer = spatial[DIGITS]
    outcome = next(outcome for outcome in quantizer.outcomes if outcome.site.name.startswith("proj_out_1"))
    assert outcome.fold is not None
    [name] = outcome.site.consumers
    target, found = target_named("parquet"), []
    for checkpoint, records in (
        (quantizer.checkpoint.source, quantizer.source_records),
        (quantizer.checkpoint, quantizer.records),
    ):
        layer = next(layer for layer in checkpoint.layers if layer.name == name)
        weights = checkpoint.read_rows(name, 0, layer.rows)
        option = target.quantized(layer, 3, "asymmetric", 64)
        error = weights.astype(np.float32) - target.encoder(checkpoint).encode(layer, option, weights).decoded
        record = records.layer(name)
        variance = record.second_moment - record.mean**2
        noise = (np.square(error) @ variance.T).sum(axis=0) + np.square(error @ record.mean.T).sum(axis=0)
        found.append(float(noise @ record.count / record.count.sum()))
    assert found[1] / found[0] == pytest.approx(outcome.after / outcome.before, rel=0.2)  # type: ignore[operator]


@pytest.mark.parametrize("mode", ["int8-static", "int8-time"])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_error_of_rounded_inputs_is_that_of_rounding_them(
    opened: dict[str, Checkpoint], mode: Any, spread: float
) -> None:
    """Inputs of the recorded moments, rounded by the tables that an export of the folded checkpoint carries."""
    checkpoint, generator = opened[DIGITS], np.random.default_rng(0)
    damage_model = DamageModel.read(DIGITS, checkpoint, num_time_groups=4)
    time_aware = damage_model.time_aware
    site = next(site for site in find_sites(checkpoint).sites if site.name.startswith("proj_out_1"))
    [name] = site.consumers
    layer = next(layer for layer in checkpoint.layers if layer.name == name)
    fold = Fold(site, 0.5, np.exp(spread * generator.standard_normal(site.channels)).astype(np.float32))
    scale = fold.factors[site.spread]
    weights = checkpoint.read_rows(name, 0, layer.rows).astype(np.float32) * scale
    record = divided(time_aware.records.layer(name), scale, time_aware.records)
    folded = replace(time_aware, records=replace(time_aware.records, layers={name: record}))
    tables = ActivationTables.from_dict(folded.to_dict())
    tables = tables.static() if mode == "int8-static" else tables
    moments = pool(record, time_aware.groups.group_of, 4)
    stress = damage_model.stress(layer)
    assert stress is not None
    expected = 0.0
    for group in range(4):
        deviation = np.sqrt(np.maximum(moments.variance[group], 0))
        inputs = moments.mean[group] + deviation * generator.standard_normal((2000, layer.cols))
        at = 0 if mode == "int8-static" else group
        step, zero = tables.scales[name][at], tables.zero_points[name][at]
        # Without clipping, for a normal distribution has longer tails than what was seen.
        moved = (np.round(inputs / step + zero) - zero) * step - inputs
        energy = np.square(moved @ weights.T).sum(axis=1).mean()
        expected += energy * stress.damage_per_noise[group]
    steps = [_step_energy(time_aware, layer, factors, mode) for factors in (None, scale)]

    def kept(layer: Any) -> Any:
        return next(option for option in target_named("parquet").options(layer) if option.is_kept)

    _, found = _try(
        checkpoint, layer, stress, np.ones(layer.rows), [fold], steps, target_named("parquet"), kept,
        lambda nbytes: None,
    )  # fmt: skip
    assert found == pytest.approx(expected, rel=0.15)


def test_folds_that_smooth_activations(opened: dict[str, Checkpoint]) -> None:
    """At 8 bits the weights hardly err: what is left to gain is in the activations."""
    settings: dict[str, Any] = {"bits": 8, "group_size": 64}
    plain = SpatialQuantizer.of(opened[LANGUAGE], LANGUAGE, **settings)
    smooth = SpatialQuantizer.of(opened[LANGUAGE], LANGUAGE, **settings, activations="int8-static")
    by_time = SpatialQuantizer.of(opened[LANGUAGE], LANGUAGE, **settings, activations="int8-time")
    rows = zip(*(one.table().to_pylist() for one in (plain, by_time, smooth)), strict=True)
    for without, time, static in rows:
        assert without["before"] < time["before"] <= static["before"] * 1.001, (
            "a scale for each time loses less"
        )
    assert len(smooth.checkpoint.folds) > len(plain.checkpoint.folds)
    assert smooth.to_dict()["made_by"]["activations"] == "int8-static"
    assert "activations" not in plain.to_dict()["made_by"]
    with pytest.raises(wb.ConfigurationError, match="allowed: none, int8-time, int8-static"):
        SpatialQuantizer.of(opened[LANGUAGE], LANGUAGE, activations="int4")


def test_one_strength_may_be_asked_for(opened: dict[str, Checkpoint]) -> None:
    one = SpatialQuantizer.of(opened[DIGITS], DIGITS, bits=3, group_size=64, alpha=0.2)
    assert {fold.alpha for fold in one.checkpoint.folds} == {0.2}
    none = SpatialQuantizer.of(opened[DIGITS], DIGITS, bits=3, group_size=64, alpha=0.0)
    assert none.checkpoint.folds == ()
    assert none.summary == "none of 10 exact folds was made, as none helps"
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(wb.ConfigurationError, match="from 0 to 1"):
            SpatialQuantizer.of(opened[DIGITS], DIGITS, alpha=wrong)


def test_a_fold_that_moves_the_function_is_refused(
    opened: dict[str, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.engine.equalization.fold_search.TOLERANCE", 1e-9)
    strict = SpatialQuantizer.of(opened[DIGITS], DIGITS, bits=3, group_size=64, alpha=0.2)
    assert strict.checkpoint.folds == ()
    remarks = [row["remark"] for row in strict.table().to_pylist() if row["deviation"] is not None]
    assert remarks
    assert all(
        remark.startswith("refused, as it would change the float32 function by ") for remark in remarks
    )


def test_rows_of_a_head_count_by_how_often_their_tokens_occur(opened: dict[str, Checkpoint]) -> None:
    """Judged by all rows alike the fold before the head takes a third off; of the tokens that occur it adds a tenth."""
    records = CalibrationRecords.load(LANGUAGE)
    blind = replace(
        records,
        layers={name: record for name, record in records.layers.items() if record.kind != "embedding"},
    )
    ratios = []
    for given in (records, blind):
        quantizer = SpatialQuantizer.of(opened[LANGUAGE], given, bits=4, group_size=64)
        last = quantizer.outcomes[-1]
        assert last.site.name == "model.norm → lm_head"
        assert last.before is not None
        assert last.after is not None
        ratios.append(last.after / last.before)
        assert (last.fold is None) is (given is records)
    assert ratios[0] > 1.0 > 0.8 > ratios[1]


def test_a_layer_that_never_ran_leaves_its_site_alone(opened: dict[str, Checkpoint]) -> None:
    records = CalibrationRecords.load(DIGITS)
    name = "transformer_blocks.0.attn1.to_k.weight"
    fewer = replace(records, layers={key: value for key, value in records.layers.items() if key != name})
    quantizer = SpatialQuantizer.of(opened[DIGITS], fewer, bits=3, group_size=64)
    assert quantizer.outcomes[0].remark == f"{name} did not run while the model was captured"
    assert quantizer.outcomes[0].fold is None


def test_it_can_be_followed_and_stopped(opened: dict[str, Checkpoint]) -> None:
    heard: list[float] = []
    SpatialQuantizer.of(opened[DIGITS], DIGITS, callback=lambda fraction, message: heard.append(fraction))
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    stop = threading.Event()
    stop.set()
    with pytest.raises(wb.CancelledError):
        SpatialQuantizer.of(opened[DIGITS], DIGITS, cancel=stop)


def test_another_models_calibration_is_refused(opened: dict[str, Checkpoint]) -> None:
    with pytest.raises(wb.ValidationError, match="other weights"):
        SpatialQuantizer.of(opened[DIGITS], LANGUAGE)


# ---- the files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [DIGITS, LANGUAGE])
def test_the_files_hold_the_folded_tensors(
    spatial: dict[str, SpatialQuantizer], written: dict[str, Path], model: str
) -> None:
    folded = spatial[model].checkpoint
    with open_checkpoint(written[model]) as checkpoint:
        assert list(checkpoint.tensors) == list(folded.tensors)
        for name, info in folded.tensors.items():
            assert (checkpoint.tensors[name].dtype, checkpoint.tensors[name].shape) == (
                info.dtype,
                info.shape,
            )
            assert checkpoint.view(name).tobytes() == folded.view(name).tobytes()
        assert checkpoint.metadata == folded.source.metadata
        ours = {side.relative for side in checkpoint.side_files}
        assert ours == {side.relative for side in folded.source.side_files} | {"folds.json"}
        records = CalibrationRecords.load(written[model] / "calibration.parquet")
        records.check_fit(checkpoint)
        assert records.fingerprint == checkpoint.fingerprint
        assert records.layer("proj_out_2.weight" if model == DIGITS else "lm_head.weight").sensitivity
        with open_checkpoint(model) as source:
            document = json.loads((written[model] / "folds.json").read_text())
            again = restore(source, document, "folds.json")
            assert again.fingerprint == folded.fingerprint
    assert sorted(path.name for path in written[model].parent.iterdir() if path.name.startswith(".")) == []


def test_the_model_that_loads_them_computes_the_same(written: dict[str, Path]) -> None:
    torch.set_num_threads(1)
    chance = torch.Generator().manual_seed(0)
    images, times = torch.randn(4, 1, 8, 8, generator=chance), torch.tensor([999, 600, 300, 0])
    tokens = torch.randint(0, 1500, (2, 32), generator=chance)
    with torch.no_grad():
        before, after = (
            load_digits(folder, torch.float32)[0](images, times, torch.arange(4)).sample
            for folder in (zoo.locate("digits-dit"), written[DIGITS])
        )
        assert float((after - before).norm() / before.norm()) < TOLERANCE
        before, after = (
            load_language_model(folder, torch.float32)[0](tokens)
            for folder in (zoo.locate("stdlib-mdlm"), written[LANGUAGE])
        )
        assert float((after - before).norm() / before.norm()) < TOLERANCE


@pytest.mark.parametrize("target", ["parquet", "mlx"])
def test_they_export_to_any_target_with_their_calibration(
    written: dict[str, Path], target: Any, tmp_path: Path
) -> None:
    source = written[LANGUAGE]
    config = wb.DiffusionQuantConfig(
        target=target, bit_width=4, group_size=64, min_accuracy=0.0,
        calibration=str(source / "calibration.parquet"), enable_spatial=False,
    )  # fmt: skip
    wb.DiffusionOrchestrator(config).run(source, tmp_path / "out")
    assert wb.verify(tmp_path / "out", source).ok
    gain = wb.load(tmp_path / "out")["model.layers.4.input_layernorm.weight"]
    assert gain.dtype == np.float32


def test_many_weights_are_written_in_shards(
    spatial: dict[str, SpatialQuantizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "workbench.engine.equalization.folded_output.DEFAULTS", TargetSettings(shard_bytes=4 * 10**6)
    )
    monkeypatch.setattr("workbench.checkpoint.blocks.BLOCK_WEIGHTS", 10_000)
    write_folded(spatial[DIGITS], tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "transformer").glob("*safetensors*"))
    assert names[0] == "diffusion_pytorch_model-00001-of-00003.safetensors"
    assert names[-1] == "diffusion_pytorch_model.safetensors.index.json"
    folded = spatial[DIGITS].checkpoint
    with open_checkpoint(tmp_path / "out") as checkpoint:
        assert all(checkpoint.view(name).tobytes() == folded.view(name).tobytes() for name in folded.tensors)
    model, _ = load_digits(tmp_path / "out", torch.float32)
    weight = model.state_dict()["proj_out_2.weight"].numpy()
    assert weight.tobytes() == folded.view("proj_out_2.weight").tobytes()


def test_nothing_is_left_of_what_was_stopped(spatial: dict[str, SpatialQuantizer], tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(wb.CancelledError):
        write_folded(spatial[DIGITS], tmp_path / "out", cancel=stop)

    def fail(fraction: float, message: str) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        write_folded(spatial[DIGITS], tmp_path / "out", callback=fail)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused(
    spatial: dict[str, SpatialQuantizer],
    opened: dict[str, Checkpoint],
    written: dict[str, Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(wb.ValidationError, match="exists already"):
        write_folded(spatial[DIGITS], written[DIGITS])
    none = SpatialQuantizer.of(opened[DIGITS], DIGITS, alpha=0.0)
    with pytest.raises(wb.QuantizationError, match="none of 10 exact folds was made, as none helps"):
        write_folded(none, tmp_path / "out")
    with open_checkpoint(written[DIGITS]) as folded:
        again = SpatialQuantizer.of(folded, written[DIGITS] / "calibration.parquet", alpha=0.0)
        site = again.outcomes[0].site
        fold = Fold(site, 0.5, np.full(site.channels, 2.0, np.float32))
        with pytest.raises(wb.ValidationError, match="it is folded already"):
            write_folded(replace(again, checkpoint=FoldedCheckpoint(folded, [fold])), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ---- the engine -----------------------------------------------------------------------------------------------


def settings(**changes: Any) -> wb.DiffusionQuantConfig:
    given = {"calibration": DIGITS, "bit_width": 3, "group_size": 64, "min_accuracy": 0.0, **changes}
    return wb.DiffusionQuantConfig(**given)


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "workbench.json").read_text())
    return found


@pytest.mark.parametrize(
    "changes", [{}, {"target": "mlx"}, {"enable_mixed_precision": True}, {"enable_streaming": False}]
)
def test_an_export_is_of_the_folded_checkpoint_and_proved(
    spatial: dict[str, SpatialQuantizer], changes: dict[str, Any], tmp_path: Path
) -> None:
    report = wb.DiffusionOrchestrator(settings(**changes)).run(DIGITS, tmp_path / "out")
    assert any(
        note.startswith("enable_spatial: ") and "exact folds were made" in note for note in report.notes
    )
    with open_checkpoint(DIGITS) as source:
        assert report.source_bytes == source.nbytes, "that of the model which was given"
        folded = restore(source, record(tmp_path / "out")["folds"], "workbench.json")
        assert folded.folds
        exported = wb.load(tmp_path / "out")
        assert exported.plan.fingerprint == folded.fingerprint
        bias = "proj_out_1.bias"
        assert exported[bias].tobytes() == folded.view(bias).tobytes() != source.view(bias).tobytes()
    assert wb.verify(tmp_path / "out", DIGITS).ok


def test_its_activation_tables_are_those_of_the_folded_checkpoint(
    spatial: dict[str, SpatialQuantizer], tmp_path: Path
) -> None:
    tables = []
    for on in (True, False):
        wb.DiffusionOrchestrator(settings(enable_spatial=on)).run(DIGITS, tmp_path / f"{on}")
        tables.append(record(tmp_path / f"{on}")["activation_tables"])
        assert (record(tmp_path / f"{on}")["folds"] is not None) is on
    assert tables[0] != tables[1]


def test_folds_that_were_tampered_with_are_found(tmp_path: Path) -> None:
    wb.DiffusionOrchestrator(settings()).run(DIGITS, tmp_path / "out")
    sound = record(tmp_path / "out")

    def problems(**changes: Any) -> str:
        (tmp_path / "out" / "workbench.json").write_text(json.dumps({**sound, "folds": changes or None}))
        return " ".join(wb.verify(tmp_path / "out", DIGITS).problems)

    folds = sound["folds"]
    assert problems(**folds) == ""
    assert "is not the checkpoint that this export was made from" in problems()
    moved = json.loads(json.dumps(folds))
    moved["folds"][0]["factors"][0] *= 2
    assert "is not the checkpoint that this export was made from" in problems(**moved)
    assert "is not the checkpoint that was folded" in problems(**{**folds, "source": "0" * 64})
    assert "version 9 of the folds is unknown" in problems(**{**folds, "version": 9})
    assert "this is not a record of folds" in problems(**{**folds, "format": "x"})
    assert "the folds must be a list" in problems(**{**folds, "folds": 3})
    assert wb.verify(tmp_path / "out", LANGUAGE).problems


def test_without_a_calibration_it_is_said_to_be_off(tmp_path: Path) -> None:
    report = wb.DiffusionOrchestrator(settings(calibration=None, enable_spatial=True)).run(
        DIGITS, tmp_path / "out"
    )
    assert "enable_spatial is off: there is no calibration." in report.notes
    assert record(tmp_path / "out")["folds"] is None


def test_a_plan_is_executed_as_it_is(tmp_path: Path) -> None:
    wb.DiffusionOrchestrator(settings(enable_spatial=False)).run(DIGITS, tmp_path / "first")
    plan = wb.load(tmp_path / "first").plan
    report = wb.DiffusionOrchestrator(settings()).run(DIGITS, tmp_path / "out", plan=plan)
    assert "enable_spatial is off: a plan is executed as it is." in report.notes
    assert record(tmp_path / "out")["folds"] is None
    assert wb.load(tmp_path / "out").plan.fingerprint == plan.fingerprint


def test_mode_base_folds_nothing(tmp_path: Path) -> None:
    wb.ArrowQuantV2(mode="base").quantize_diffusion_model(DIGITS, tmp_path / "out", settings())
    assert record(tmp_path / "out")["folds"] is None


def test_a_model_without_exact_folds_says_so(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint()
    (source / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with open_checkpoint(source) as checkpoint:
        records = replace(CalibrationRecords.load(DIGITS), fingerprint=checkpoint.fingerprint, layers={})
        records.save(tmp_path / "records.parquet")
    report = wb.DiffusionOrchestrator(settings(calibration=tmp_path / "records.parquet")).run(
        source, tmp_path / "out"
    )
    assert "enable_spatial: nothing was folded: the model has no exact fold." in report.notes
    assert any(note.startswith("UNet2DModel has no fold that is known to be exact") for note in report.notes)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    wb.DiffusionOrchestrator(settings()).run(DIGITS, tmp_path / "whole")
    heard: list[float] = []

    def stop_late(fraction: float, message: str) -> None:
        heard.append(fraction)
        if message.startswith("writing") and fraction > 0.6:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        wb.DiffusionOrchestrator(settings()).run(DIGITS, tmp_path / "out", resume=True, callback=stop_late)
    assert heard == sorted(heard)
    wb.DiffusionOrchestrator(settings()).run(DIGITS, tmp_path / "out", resume=True)
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("part-*")}
        for name in ("whole", "out")
    )
    assert one == other
    shutil.rmtree(tmp_path / "out")
