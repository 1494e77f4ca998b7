"""Guards the option table: exact errors and bytes, honest standard errors of samples, and the bridge to the solver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from safetensors.numpy import save_file

from workbench.checkpoint import Checkpoint, blocks, open_checkpoint
from workbench.errors import ArgumentError, ValidationError
from workbench.formats import target_named
from workbench.quantize import entropy_bits
from workbench.thermo import cost_table, measure_options, options_of, solve
from workbench.thermo.measurement.sampling import draw_rows
from workbench.work import InlineExecutor

TARGETS = ("parquet", "mlx")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def digits() -> Any:
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        yield checkpoint


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def save(**tensors: np.ndarray[Any, Any]) -> Path:
        path = tmp_path / "model.safetensors"
        save_file({f"{name}.to_q.weight": tensor for name, tensor in tensors.items()}, path)
        return path

    return save


def rounded(weights: np.ndarray[Any, Any], bits: int, group: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Asymmetric min-max rounding in plain NumPy: decoded weights and codes; rows must divide into groups."""
    values = weights.astype(np.float32).reshape(len(weights), -1, group)
    low, high = values.min(2, keepdims=True), values.max(2, keepdims=True)
    scale = (high - low) / np.float32(2**bits - 1)
    codes = np.clip(np.rint((values - low) / scale), 0, 2**bits - 1)
    return (codes * scale + low).reshape(weights.shape), codes.astype(np.int64).reshape(weights.shape)


def test_options_are_those_of_plain_numpy(digits: Checkpoint, store: Path) -> None:
    table = measure_options(
        digits,
        target_named("parquet"),
        exact=True,
        schemes=["asymmetric"],
        group_sizes=[64],
        cache=store,
    )
    for row in table.to_pylist():
        weights = np.asarray(digits.view(row["layer"])).astype(np.float32)
        weights = weights.reshape(len(weights), -1)
        if row["scheme"] == "keep" or weights.shape[1] % 64:
            continue
        decoded, codes = rounded(weights, row["bits"], 64)
        w, d = weights.astype(np.float64), (weights - decoded).astype(np.float64)
        assert row["nsr"] == pytest.approx((d**2).sum() / (w**2).sum(), rel=1e-3)
        cosine = (w * decoded).sum() / np.linalg.norm(w) / np.linalg.norm(decoded.astype(np.float64))
        assert row["cosine"] == pytest.approx(cosine, abs=1e-4)
        assert row["code_entropy"] == pytest.approx(entropy_bits(np.bincount(codes.ravel())), abs=1e-3)
        assert row["damage_stderr"] == 0.0


@pytest.mark.parametrize("name", TARGETS)
def test_there_is_a_row_for_every_legal_option(name: str, digits: Checkpoint, store: Path) -> None:
    target = target_named(name)
    table = measure_options(digits, target, sample_rows=64, cache=store)
    options = options_of(table)
    assert list(options) == [layer.name for layer in digits.layers]
    for layer in digits.layers:
        assert options[layer.name] == tuple(target.options(layer))
    kept = table.filter(pc.field("scheme") == "keep")
    assert set(kept["nsr"].to_pylist()) == {0.0}
    assert set(kept["cosine"].to_pylist()) == {1.0}
    assert kept["code_entropy"].null_count == kept.num_rows
    assert table["error_by_group"].null_count == table.num_rows


@pytest.mark.parametrize("name", TARGETS)
def test_options_measured_exactly_are_what_an_export_will_lose(
    name: str, digits: Checkpoint, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_WEIGHTS", 30_000)
    target = target_named(name)
    table = measure_options(digits, target, exact=True, group_sizes=[32], cache=store)
    for row in table.filter(pc.field("bits") == 3).to_pylist():
        layer = next(layer for layer in digits.layers if layer.name == row["layer"])
        weights = np.array(digits.view(layer.name)).reshape(layer.rows, layer.cols)
        option = next(o for o in options_of(table)[row["layer"]] if (o.bits, o.scheme) == (3, row["scheme"]))
        error = target.encoder(digits).encode(layer, option, weights).error
        assert row["nsr"] == pytest.approx(error.nsr, rel=1e-6)
        assert row["cosine"] == pytest.approx(error.cosine, abs=1e-7)


@pytest.mark.parametrize("name", TARGETS)
def test_sampled_errors_are_within_their_standard_errors(
    name: str, digits: Checkpoint, tmp_path: Path
) -> None:
    """64 rows of each layer, 30 seeds: 3 standard errors hold 99 % of the errors, and are at most 5 % in the median."""
    target, groups = target_named(name), [64]
    exact = measure_options(
        digits, target, exact=True, group_sizes=groups, schemes=["asymmetric", "affine"], cache=tmp_path
    )
    truth = np.array(exact["nsr"])
    apart, relative = [], []
    for seed in range(30):
        table = measure_options(
            digits,
            target,
            sample_rows=64,
            seed=seed,
            group_sizes=groups,
            schemes=["asymmetric", "affine"],
            cache=tmp_path,
        )
        stderr = np.array(table["damage_stderr"])
        sampled = stderr > 0
        apart.append((np.array(table["nsr"]) - truth)[sampled] / stderr[sampled])
        relative.append(stderr[sampled] / truth[sampled])
    deviations = np.concatenate(apart)
    share, median = np.mean(np.abs(deviations) <= 3), np.median(np.concatenate(relative))
    print(f"{name}: {share:.2%} of {deviations.size} within 3 stderr, median stderr {median:.2%} of the NSR")
    assert deviations.size > 4_000
    assert share >= 0.99
    assert abs(deviations.mean()) < 0.1
    assert 0.8 < np.sqrt(np.mean(deviations**2)) < 1.2
    assert median <= 0.05


def test_a_layer_of_unlike_parts_is_sampled_from_each(save: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scale = np.repeat([0.01, 1.0, 0.1, 10.0], 128)[:, None]
    tails = rng.standard_t(4, (512, 128)) * scale
    path = save(fused=tails.astype(np.float32))
    target = target_named("parquet")
    settings: dict[str, Any] = {"schemes": ["asymmetric"], "group_sizes": [128], "cache": tmp_path / "cache"}
    with open_checkpoint(path) as checkpoint:
        truth = np.array(measure_options(checkpoint, target, exact=True, **settings)["nsr"])[:-1]
        for seed in range(10):
            table = measure_options(checkpoint, target, sample_rows=64, seed=seed, **settings)
            apart = np.array(table["nsr"])[:-1] - truth
            assert (np.abs(apart) <= 4 * np.array(table["damage_stderr"])[:-1]).all()


def test_samples(digits: Checkpoint) -> None:
    layer = next(layer for layer in digits.layers if layer.rows == 1536)
    sample = draw_rows(layer, 64, 8, seed=0)
    assert sample is not None
    assert sample.rows.shape == (8, 8)
    assert sample.sizes.tolist() == [192] * 8
    assert len(set(sample.rows.ravel().tolist())) == 64
    assert (sample.rows.ravel() // 192 == np.repeat(np.arange(8), 8)).all()
    again = draw_rows(layer, 64, 8, seed=0)
    assert again is not None
    assert (again.rows == sample.rows).all()
    assert draw_rows(layer, 769, 8, seed=0) is None


def test_it_does_not_matter_who_does_the_work(digits: Checkpoint, tmp_path: Path) -> None:
    target = target_named("mlx")
    tables = [
        measure_options(digits, target, sample_rows=64, executor=executor, cache=tmp_path / str(place))
        for place, executor in enumerate((None, InlineExecutor()))
    ]
    assert tables[0].equals(tables[1])


def test_options_are_remembered_by_all_that_decides_them(
    digits: Checkpoint, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_named("mlx")
    settings: list[dict[str, Any]] = [
        {"sample_rows": 64},
        {"sample_rows": 64, "seed": 1},
        {"exact": True},
        {"sample_rows": 64, "group_sizes": [64]},
    ]
    tables = [measure_options(digits, target, cache=store, **given) for given in settings]
    assert len(list(store.glob("options-*.parquet"))) == 4
    monkeypatch.setattr(Checkpoint, "read_rows", None)
    for given, table in zip(settings, tables, strict=True):
        assert measure_options(digits, target, cache=store, **given).equals(table)
    assert measure_options(digits, target, cache=store, exact=True, seed=9).equals(tables[2]), (
        "no seed where all is measured"
    )


def test_what_is_not_finite_is_named(save: Callable[..., Path], store: Path) -> None:
    weights = np.ones((256, 32), ml_dtypes.bfloat16)
    weights[200:] = np.nan
    with open_checkpoint(save(layer=weights)) as checkpoint:
        with pytest.raises(ValidationError, match="row 200, column 0") as exact:
            measure_options(checkpoint, target_named("mlx"), exact=True, cache=store)
        with pytest.raises(ValidationError) as sampled:
            measure_options(checkpoint, target_named("mlx"), sample_rows=64, cache=store)
    assert exact.value.tensor == sampled.value.tensor == "layer.to_q.weight"
    assert sampled.value.index[0] >= 200


def test_what_the_target_lacks_is_an_error(digits: Checkpoint, store: Path) -> None:
    with pytest.raises(ArgumentError, match="schemes=\\['affine'\\]"):
        measure_options(digits, target_named("parquet"), schemes=["affine"], cache=store)
    with pytest.raises(ArgumentError, match="at least 64"):
        measure_options(digits, target_named("parquet"), sample_rows=8, cache=store)


def test_the_solver_takes_the_table(digits: Checkpoint, store: Path) -> None:
    target = target_named("mlx")
    table = measure_options(digits, target, sample_rows=64, group_sizes=[64], cache=store)
    costs = cost_table(table, digits.layers)
    options = options_of(table)
    solution = solve(costs, bpw=5.0)
    chosen = [options[name][place] for name, place in zip(costs.names, solution.choice.tolist(), strict=True)]
    assert sum(option.nbytes for option in chosen) == solution.nbytes
    rows = {(r["layer"], r["bits"], r["scheme"]): r["nsr"] for r in table.to_pylist()}
    total = sum(rows[name, o.bits, o.scheme] for name, o in zip(costs.names, chosen, strict=True))
    assert total == pytest.approx(solution.damage)


def test_importance_multiplies_the_distortion(digits: Checkpoint, store: Path) -> None:
    table = measure_options(digits, target_named("mlx"), sample_rows=64, group_sizes=[64], cache=store)
    name = digits.layers[3].name
    plain = cost_table(table, digits.layers)
    weighted = cost_table(table, digits.layers, {name: 3.0})
    np.testing.assert_array_equal(weighted.damage[3], 3.0 * plain.damage[3])
    np.testing.assert_array_equal(np.delete(weighted.damage, 3, 0), np.delete(plain.damage, 3, 0))
    with pytest.raises(ValidationError, match="no layer 'nobody'"):
        cost_table(table, digits.layers, {"nobody": 1.0})
    few: pa.Table = table.filter(pc.field("bits") <= 4)
    assert cost_table(few, digits.layers).bits.max() == 4
