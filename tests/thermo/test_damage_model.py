"""Guards damage: D from moments is the error of the layer's output, group by group, where it must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.linalg import hadamard

from workbench import zoo
from workbench.calibration import (
    CalibrationRecords,
    LayerRecord,
    StepStatistics,
    TimeAwareQuantizer,
    groups_at,
)
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.errors import ArgumentError, ShapeMismatchError, ValidationError
from workbench.formats import target_named
from workbench.live import capture, importance_by_gradients
from workbench.plan import Layer, Option
from workbench.thermo import measure_options, options_of
from workbench.thermo.options.damage_model import DamageModel
from workbench.zoo.digits_dit.sample import denoise, load

Array = np.ndarray[Any, Any]
Save = Callable[..., Checkpoint]

COLS = 64
DESIGN = hadamard(128)[:, 1 : 1 + COLS].astype(np.float64)
"""128 inputs whose channels have mean 0, variance 1 and no correlation at all."""

NAMES = {"line": "block.to_q.weight", "conv": "block.conv.weight", "tokens": "embed_tokens.weight"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    # Two threads that wait for each other take twenty times as long when another process has one of the cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def save(tmp_path: Path) -> Any:
    opened: list[Checkpoint] = []

    def save(**weights: Array) -> Checkpoint:
        path = tmp_path / f"model{len(opened)}.safetensors"
        save_file({NAMES.get(key, key): value.astype(np.float32) for key, value in weights.items()}, path)
        opened.append(open_checkpoint(path))
        return opened[-1]

    yield save
    for checkpoint in opened:
        checkpoint.close()


def records_of(
    checkpoint: Checkpoint,
    inputs: Mapping[str, list[Array | None]],
    sensitivity: Mapping[str, Mapping[str, Array]] | None = None,
    calls: list[float] | None = None,
) -> CalibrationRecords:
    """Records of Linears and Embeddings from their inputs in each bucket; None where one did not run."""
    layers = {}
    for name, given in inputs.items():
        weights = np.asarray(checkpoint.view(name)).astype(np.float64)
        token = name == NAMES["tokens"]
        found: dict[str, list[Any]] = {"mean": [], "second_moment": [], "absmax": [], "output_energy": []}
        for values in given:
            x = np.zeros((1, len(weights) if token else weights.shape[1])) if values is None else values
            if token and values is not None:
                x = np.eye(len(weights))[values]
            y = x @ (weights if token else weights.T)
            found["mean"].append(x.mean(0))
            found["second_moment"].append(np.square(x).mean(0))
            found["absmax"].append(np.abs(x).max(0))
            found["output_energy"].append(np.square(y).sum(1).mean())
        channels = {
            key: np.array(value, np.float32) for key, value in found.items() if key != "output_energy"
        }
        layers[name] = LayerRecord(
            kind="embedding" if token else "linear",
            steps=StepStatistics(np.zeros(len(given), np.int64), *np.full((6, len(given)), np.nan)),
            count=np.array([0 if values is None else len(values) for values in given], np.int64),
            output_energy=np.array(found["output_energy"]),
            sensitivity=(sensitivity or {}).get(name, {}),
            **channels,
        )
    buckets = len(next(iter(inputs.values())))
    axis = np.repeat(np.arange(buckets, dtype=np.float64)[:, None], 2, axis=1)
    shares = np.array(calls or [1.0] * buckets)
    return CalibrationRecords(checkpoint.fingerprint, "timestep", axis, shares, axis, shares, layers)


def damage_model_of(
    records: CalibrationRecords, checkpoint: Checkpoint, edges: Any = None, importance: str | None = None
) -> DamageModel:
    groups = groups_at(records, range(len(records.buckets) + 1) if edges is None else edges)
    return DamageModel.of(TimeAwareQuantizer(records, groups), checkpoint.layers, importance)


def rows_of(
    checkpoint: Checkpoint, damage_model: DamageModel | None, tmp_path: Path, target: str = "parquet"
) -> Any:
    """Rows of the exact option table, each with its ΔW."""
    found = target_named(target)
    table = measure_options(
        checkpoint, found, exact=True, damage_model=damage_model, cache=tmp_path / "cache"
    )
    layers = {layer.name: layer for layer in checkpoint.layers}
    for row in table.to_pylist():
        layer = layers[row["layer"]]
        weights = np.array(checkpoint.view(layer.name)).reshape(layer.rows, layer.cols)
        option = Option(*(row[key] for key in ("bits", "scheme", "group_size", "nbytes")))
        encoder = found.encoder(checkpoint)
        decoded = weights if option.is_kept else encoder.encode(layer, option, weights).decoded
        yield row, weights.astype(np.float64), weights.astype(np.float64) - decoded


def relative(x: Array, delta: Array, weights: Array) -> float:
    """E‖ΔWx‖²/E‖Wx‖² on inputs that were kept."""
    return float(np.square(x @ delta.T).sum() / np.square(x @ weights.T).sum())


@pytest.fixture
def loud_and_quiet() -> list[Array]:
    """Uncorrelated channels of different levels, the first bucket with means that the second has not."""
    rng = np.random.default_rng(1)
    first = DESIGN * np.exp(rng.normal(0, 1, COLS)) + rng.normal(0, 2, COLS)
    return [first, DESIGN * np.exp(rng.normal(-2, 1, COLS))]


@pytest.mark.parametrize("target", ["parquet", "mlx"])
def test_the_damage_of_uncorrelated_channels_is_the_error_of_the_output(
    target: str, save: Save, tmp_path: Path, loud_and_quiet: list[Array]
) -> None:
    checkpoint = save(line=np.random.default_rng(0).normal(size=(48, COLS)))
    records = records_of(checkpoint, {NAMES["line"]: list(loud_and_quiet)}, calls=[1.0, 3.0])
    count = 0
    for row, weights, delta in rows_of(checkpoint, damage_model_of(records, checkpoint), tmp_path, target):
        parts = [relative(x, delta, weights) for x in loud_and_quiet]
        assert row["error_by_group"] == pytest.approx(parts, rel=1e-3, abs=1e-12)
        assert row["damage"] == pytest.approx(0.25 * parts[0] + 0.75 * parts[1], rel=1e-3, abs=1e-12)
        plain = np.square(delta).sum() / np.square(weights).sum()
        assert row["nsr"] == pytest.approx(plain, rel=1e-3, abs=1e-12)
        count += row["scheme"] != "keep"
    assert count > 5


def test_regrouping_the_steps_changes_the_damage(save: Save, tmp_path: Path) -> None:
    """Taken together, the loud step is all that counts; apart, the quiet one counts as much."""
    rng = np.random.default_rng(2)
    checkpoint = save(line=np.exp(rng.normal(size=(48, COLS))))
    inputs = [DESIGN * np.exp(rng.normal(shift, 1.5, COLS)) for shift in (0, -3)]
    records = records_of(checkpoint, {NAMES["line"]: list(inputs)})
    apart, together = (
        list(rows_of(checkpoint, damage_model_of(records, checkpoint, edges), tmp_path))
        for edges in ([0, 1, 2], [0, 2])
    )
    differences = []
    for (two, weights, delta), (one, _, _) in zip(apart, together, strict=True):
        if two["scheme"] == "keep":
            continue
        assert two["damage"] == pytest.approx(
            np.mean([relative(x, delta, weights) for x in inputs]), rel=1e-3
        )
        assert one["damage"] == pytest.approx(relative(np.concatenate(inputs), delta, weights), rel=1e-3)
        assert one["error_by_group"] == pytest.approx([one["damage"]])
        differences.append(abs(two["damage"] / one["damage"] - 1))
    assert np.median(differences) > 0.02


def test_the_damage_of_an_embedding_is_exact(save: Save, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    checkpoint = save(tokens=rng.normal(size=(40, 64)) * np.exp(rng.normal(size=(40, 1))))
    ids = [rng.integers(0, 40, 300), np.array([3, 3, 3, 7])]
    records = records_of(checkpoint, {NAMES["tokens"]: list(ids)})
    for row, weights, delta in rows_of(checkpoint, damage_model_of(records, checkpoint), tmp_path):
        parts = [np.square(delta[i]).sum() / np.square(weights[i]).sum() for i in ids]
        assert row["error_by_group"] == pytest.approx(parts, rel=1e-5, abs=1e-12)
        assert row["damage"] == pytest.approx(np.mean(parts), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(("groups", "kernel"), [(1, (3, 3)), (4, (3, 3)), (2, (1, 4))])
def test_the_damage_of_a_convolution_of_white_inputs(
    groups: int, kernel: tuple[int, int], save: Save, tmp_path: Path
) -> None:
    """Against the convolution itself, on an image of noise whose channels differ in mean and variance."""
    torch.manual_seed(0)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(16, 24, kernel, groups=groups)})

        def forward(self, x: torch.Tensor, t: float) -> torch.Tensor:
            return self.block["conv"](x)

    model = Model()
    conv: Any = model.block["conv"]
    checkpoint = save(conv=conv.weight.detach().numpy())
    level, mean = torch.linspace(0.2, 3, 16)[:, None, None], torch.linspace(-1, 2, 16)[:, None, None]
    x = torch.randn(1, 16, 90, 90) * level + mean
    with torch.no_grad(), capture(model, checkpoint) as rec:
        model(x, 1.0)
    with torch.no_grad():
        power = (torch.nn.functional.conv2d(x, conv.weight, groups=groups)).square().mean()
        for row, _, delta in rows_of(checkpoint, damage_model_of(rec.records, checkpoint), tmp_path):
            if row["scheme"] == "keep":
                continue
            weight = torch.from_numpy(delta).float().reshape(conv.weight.shape)
            error = torch.nn.functional.conv2d(x, weight, groups=groups).square().mean()
            assert row["damage"] == pytest.approx(float(error / power), rel=0.03)


def test_white_noise_costs_its_sensitivity(save: Save) -> None:
    """Σ over single weights of D(1 in that weight) is Σ_b a_b: what a sensitivity is by definition."""
    rng = np.random.default_rng(4)
    checkpoint = save(
        line=rng.normal(size=(5, COLS)), tokens=rng.normal(size=(6, 3)), conv=rng.normal(size=(4, 2, 3, 3))
    )
    measured = {name: {"fisher:step": rng.uniform(0, 1, 3)} for name in NAMES.values()}
    records = records_of(
        checkpoint,
        {
            NAMES["line"]: [DESIGN, DESIGN * 3 + 1, DESIGN / 9],
            NAMES["tokens"]: [rng.integers(0, 6, 9) for _ in range(3)],
        },
        measured,
    )
    line = records.layers[NAMES["line"]]
    conv = replace(
        line,
        kind="conv",
        mean=line.mean[:, :4], second_moment=line.second_moment[:, :4], absmax=line.absmax[:, :4],
        sensitivity=measured[NAMES["conv"]],
    )  # fmt: skip
    records = replace(records, layers={**records.layers, NAMES["conv"]: conv})
    for edges in ([0, 1, 2, 3], [0, 2, 3], [0, 3]):
        damage_model = damage_model_of(records, checkpoint, edges)
        assert damage_model.estimator == "fisher:step"
        for layer in checkpoint.layers:
            stress = damage_model.stress(layer)
            assert stress is not None
            total = 0.0
            for row in range(layer.rows):
                each = np.eye(layer.cols, dtype=np.float32)
                total += float((stress.noise(each, np.full(layer.cols, row)) @ stress.damage_per_noise).sum())
            assert total == pytest.approx(float(measured[layer.name]["fisher:step"].sum()), rel=1e-4)


@pytest.fixture(scope="module")
def digits() -> Any:
    """digits-dit with records of a short run, and its importance."""
    folder = zoo.locate("digits-dit")
    model, scheduler = load(folder, torch.float32)

    def run(number: int) -> torch.Tensor:
        return denoise(model, scheduler, [0, 1, 2, 3], number, 4)

    with open_checkpoint(str(folder)) as checkpoint:
        with torch.no_grad(), capture(model, checkpoint) as rec:
            run(0)
        records = importance_by_gradients(model, run, checkpoint, rec.records, span="step", runs=1)
        yield checkpoint, records


@pytest.mark.parametrize("importance", ["none", "fisher:step"])
def test_sampled_damage_is_within_its_standard_error(digits: Any, tmp_path: Path, importance: str) -> None:
    checkpoint, records = digits
    damage_model = damage_model_of(records, checkpoint, [0, 2, 4], importance)
    settings: dict[str, Any] = {
        "schemes": ["asymmetric"], "group_sizes": [64], "damage_model": damage_model, "cache": tmp_path / "cache",
    }  # fmt: skip
    exact = measure_options(checkpoint, target_named("parquet"), exact=True, **settings)
    truth = np.array(exact["damage"])
    assert set(exact["damage_stderr"].to_pylist()) == {0.0}
    deviations = []
    for seed in range(4):
        table = measure_options(checkpoint, target_named("parquet"), sample_rows=64, seed=seed, **settings)
        found, stderr = np.array(table["damage"]), np.array(table["damage_stderr"])
        sampled = stderr > 0
        np.testing.assert_allclose(found[~sampled], truth[~sampled], rtol=1e-6)
        deviations.append((found - truth)[sampled] / stderr[sampled])
        if importance == "none":
            parts = np.array(table["error_by_group"].to_pylist())
            np.testing.assert_allclose(parts.mean(axis=1), found, rtol=1e-6, atol=1e-15)
    every = np.concatenate(deviations)
    assert every.size > 500
    assert np.mean(np.abs(every) <= 3) >= 0.97
    assert 0.7 < np.sqrt(np.mean(every**2)) < 1.4


def test_the_parts_by_group_make_up_the_damage(digits: Any, tmp_path: Path) -> None:
    """Σ_g ω_g·κ_lg·N_lg/E_lg, as design.md has it, for whatever importance."""
    checkpoint, records = digits
    layers = {layer.name: layer for layer in checkpoint.layers}
    for importance in ("none", "fisher:step"):
        damage_model = damage_model_of(records, checkpoint, [0, 1, 3, 4], importance)
        table = measure_options(
            checkpoint, target_named("parquet"), sample_rows=64, group_sizes=[64], damage_model=damage_model,
            cache=tmp_path / "cache",
        )  # fmt: skip
        for row in table.to_pylist():
            kappa = damage_model.kappa(layers[row["layer"]])
            assert row["damage"] == pytest.approx(float(kappa @ row["error_by_group"]), rel=1e-6, abs=1e-15)
        if importance == "none":
            assert kappa == pytest.approx([0.25, 0.5, 0.25])
            assert damage_model.typical == pytest.approx(1.0)


def test_the_best_estimator_that_was_run_is_taken(digits: Any) -> None:
    checkpoint, records = digits
    assert damage_model_of(records, checkpoint).estimator == "fisher:step"
    name = checkpoint.layers[0].name
    record = records.layers[name]
    better = replace(record, sensitivity={**record.sensitivity, "fisher:trajectory": np.ones(4)})
    records = replace(records, layers={**records.layers, name: better})
    assert damage_model_of(records, checkpoint).estimator == "fisher:trajectory"
    bare = {key: replace(one, sensitivity={}) for key, one in records.layers.items()}
    assert damage_model_of(replace(records, layers=bare), checkpoint).estimator == "none"


def test_an_unknown_estimator_is_an_error_that_lists_those_there_are(digits: Any) -> None:
    checkpoint, records = digits
    with pytest.raises(
        ArgumentError, match=r"no importance 'white:step'; it has fisher:step, none\."
    ) as raised:
        damage_model_of(records, checkpoint, importance="white:step")
    assert raised.value.key == "importance"


def three(save: Save, rng: Any) -> Checkpoint:
    return save(**{f"block.{key}.weight": rng.normal(size=(48, COLS)) for key in ("to_q", "to_k", "to_v")})


def test_a_layer_without_a_record_counts_as_a_typical_one(save: Save, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    checkpoint = three(save, rng)
    measured = {
        "block.to_q.weight": {"noise": np.array([2e-4, 1e-4])}, "block.to_v.weight": {"noise": np.array([5e-3, 0])},
    }  # fmt: skip
    names = list(measured)
    records = records_of(checkpoint, {name: [DESIGN, DESIGN * 2] for name in names}, measured)
    damage_model = damage_model_of(records, checkpoint)
    layers = {layer.name: layer for layer in checkpoint.layers}
    kappas = [damage_model.kappa(layers[name]).sum() for name in names]
    assert damage_model.typical == pytest.approx(np.median(kappas))
    for row, _, _ in rows_of(checkpoint, damage_model, tmp_path):
        if row["layer"] == "block.to_k.weight":
            assert row["damage"] == pytest.approx(damage_model.typical * row["nsr"])
            assert row["error_by_group"] is None


def test_a_layer_that_the_estimator_left_out_counts_as_a_typical_one(save: Save, tmp_path: Path) -> None:
    """Two layers without the measurement do not make its one layer untypical."""
    checkpoint = three(save, np.random.default_rng(6))
    names = [layer.name for layer in checkpoint.layers]
    measured = {names[0]: {"measured": np.array([3e-6])}}
    records = records_of(checkpoint, {name: [DESIGN] for name in names}, measured)
    damage_model = damage_model_of(records, checkpoint)
    layers = {layer.name: layer for layer in checkpoint.layers}
    assert damage_model.estimator == "measured"
    assert damage_model.typical == pytest.approx(damage_model.kappa(layers[names[0]]).sum())
    assert damage_model.typical < 0.1
    for row, weights, delta in rows_of(checkpoint, damage_model, tmp_path):
        if row["layer"] != names[0] and row["scheme"] != "keep":
            assert row["damage"] == pytest.approx(
                damage_model.typical * relative(DESIGN, delta, weights), rel=1e-3
            )


def test_groups_in_which_a_layer_did_not_run_cost_nothing(save: Save, tmp_path: Path) -> None:
    checkpoint = save(line=np.random.default_rng(7).normal(size=(48, COLS)))
    records = records_of(checkpoint, {NAMES["line"]: [DESIGN, None]}, calls=[1, 1])
    for row, weights, delta in rows_of(checkpoint, damage_model_of(records, checkpoint), tmp_path):
        part = relative(DESIGN, delta, weights)
        assert row["error_by_group"] == [pytest.approx(part, rel=1e-3, abs=1e-12), None]
        assert row["damage"] == pytest.approx(part / 2, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("measured", [False, True])
def test_a_layer_that_gives_nothing_but_zeros_has_a_finite_damage(
    save: Save, tmp_path: Path, measured: bool
) -> None:
    """Output projections begin as zeros; so do inputs in their first step."""
    checkpoint = save(line=np.zeros((48, COLS)), **{"block.to_k.weight": np.ones((48, COLS))})
    sensitivity = {NAMES["line"]: {"noise": np.array([0.1, 0.2])}} if measured else {}
    records = records_of(
        checkpoint,
        {NAMES["line"]: [DESIGN, DESIGN], "block.to_k.weight": [DESIGN, np.zeros((4, COLS))]},
        sensitivity,
    )
    for row, _, _ in rows_of(checkpoint, damage_model_of(records, checkpoint), tmp_path):
        assert np.isfinite(row["damage"])
        if row["layer"] == NAMES["line"]:
            assert row["damage"] == 0.0
            assert row["error_by_group"] == [None, None]


def test_a_record_of_another_shape_is_named(save: Save) -> None:
    checkpoint = save(line=np.ones((48, COLS)))
    records = records_of(checkpoint, {NAMES["line"]: [DESIGN]})
    layer = Layer(NAMES["line"], "attention.q", "linear", 0, (48, 2 * COLS), "F32")
    with pytest.raises(ShapeMismatchError, match="64 input channels for 'block") as raised:
        damage_model_of(records, checkpoint).stress(layer)
    assert raised.value.tensor == NAMES["line"]


def test_records_of_another_checkpoint_are_refused(save: Save, tmp_path: Path) -> None:
    checkpoint, other = (save(line=np.full((48, COLS), value)) for value in (1.0, 2.0))
    damage_model = damage_model_of(records_of(checkpoint, {NAMES["line"]: [DESIGN]}), checkpoint)
    with pytest.raises(ValidationError, match="made with other weights"):
        measure_options(other, target_named("parquet"), damage_model=damage_model, cache=tmp_path / "cache")


def test_options_are_remembered_by_all_that_decides_them(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, records = digits
    name = next(layer.name for layer in checkpoint.layers if layer.cols >= 64)
    louder = replace(records.layers[name], second_moment=records.layers[name].second_moment * 2)
    models = [
        None,
        damage_model_of(records, checkpoint),
        damage_model_of(records, checkpoint, importance="none"),
        damage_model_of(records, checkpoint, [0, 2, 4]),
        damage_model_of(records, checkpoint, [0, 1, 4]),
        damage_model_of(replace(records, layers={**records.layers, name: louder}), checkpoint),
    ]
    settings: dict[str, Any] = {
        "sample_rows": 64, "schemes": ["affine"], "group_sizes": [64], "cache": tmp_path / "cache",
    }  # fmt: skip
    target = target_named("mlx")
    tables = [
        measure_options(checkpoint, target, damage_model=damage_model, **settings) for damage_model in models
    ]
    assert len(list((tmp_path / "cache").glob("options-*.parquet"))) == len(models)
    assert len({str(table["damage"].to_pylist()) for table in tables}) == len(models)
    monkeypatch.setattr(Checkpoint, "read_rows", None)
    renamed = replace(records, made_by={"who": "somebody else"})
    again = measure_options(checkpoint, target, damage_model=damage_model_of(renamed, checkpoint), **settings)
    assert again.equals(tables[1])
    assert options_of(again) == options_of(tables[0])
