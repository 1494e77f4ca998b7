"""Guards the profile: every statistic against NumPy and SciPy, standard errors, the cache, changes and NaN."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file
from scipy import stats

import workbench
from workbench.checkpoint import Checkpoint, blocks, open_checkpoint
from workbench.errors import ArgumentError, CancelledError, QuantizationError, ValidationError
from workbench.thermo import CacheWarning, ThermodynamicMetrics, cache_folder, metrics, profile
from workbench.work import InlineExecutor

DTYPES = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "e5m2": np.dtype(ml_dtypes.float8_e5m2),
}

SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda g, shape: 0.05 * g.standard_normal(shape),
    "heavy tails": lambda g, shape: np.clip(0.02 * g.standard_t(2.5, shape), -8, 8),
    "far from zero": lambda g, shape: 2.0 + 0.1 * g.standard_normal(shape),
    "half zero": lambda g, shape: g.standard_normal(shape) * (g.random(shape) < 0.5),
    "constant": lambda g, shape: np.full(shape, -0.75),
    "zero": lambda g, shape: np.zeros(shape),
}

Measure = Callable[..., ThermodynamicMetrics]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def save(**tensors: np.ndarray[Any, Any]) -> Path:
        path = tmp_path / "model.safetensors"
        save_file({f"{name}.to_q.weight": tensor for name, tensor in tensors.items()}, path)
        return path

    return save


@pytest.fixture
def measure(save: Callable[..., Path], store: Path) -> Measure:
    """The metrics of a checkpoint of one layer."""

    def measure(weights: np.ndarray[Any, Any], **settings: Any) -> ThermodynamicMetrics:
        with open_checkpoint(save(layer=weights)) as checkpoint:
            return metrics(profile(checkpoint, cache=store, **settings))[0]

    return measure


def truth(weights: np.ndarray[Any, Any]) -> dict[str, float]:
    """The statistics by NumPy and SciPy, from weights as float64."""
    values = weights.astype(np.float64).ravel()
    counts, _ = np.histogram(values, 256, (values.min(), values.max()))
    sigma = values.std()
    return {
        "min": values.min(),
        "max": values.max(),
        "sigma": sigma,
        "crest": np.abs(values).max() / sigma,
        "kurtosis": stats.kurtosis(values, fisher=False),
        "outlier_share": np.mean(np.abs(values - values.mean()) > 6 * sigma),
        "entropy": stats.entropy(counts, base=256),
    }


def exponents(weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The exponent fields by frexp; below the normal range all are the same."""
    info = ml_dtypes.finfo(weights.dtype)
    _, found = np.frexp(weights.astype(np.float64))
    return np.where(np.abs(weights.astype(np.float64)) < float(info.smallest_normal), -9999, found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "far from zero", "half zero"])
def test_statistics_are_those_of_numpy_and_scipy(
    kind: str, dtype: str, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_WEIGHTS", 10_000)
    weights = SHAPES[kind](np.random.default_rng(0), (300, 311)).astype(DTYPES[dtype])
    found = measure(weights)
    if dtype == "f64":
        weights = weights.astype(np.float32)
    for name, value in truth(weights).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9), name
    if dtype not in ("e4m3", "e5m2"):  # their exponents are counted as bfloat16's
        _, counts = np.unique(exponents(weights), return_counts=True)
        assert found.exponent_entropy == pytest.approx(stats.entropy(counts, base=2), rel=1e-12)
    assert found.measured_rows == 300
    assert found.sigma_stderr == found.kurtosis_stderr == found.differential_entropy_stderr == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["constant", "zero"])
def test_a_constant_layer_has_no_spread(kind: str, dtype: str, measure: Measure) -> None:
    weights = SHAPES[kind](np.random.default_rng(0), (200, 129)).astype(DTYPES[dtype])
    for settings in ({}, {"sample_rows": 64}):
        found = measure(weights, **settings)
        assert found.min == found.max == weights.flat[0]
        assert (found.sigma, found.outlier_share, found.entropy, found.exponent_entropy) == (0, 0, 0, 0)
        assert found.crest is None
        assert found.kurtosis is None
        assert found.differential_entropy == -np.inf


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize(
    "law",
    [stats.norm(0, 0.03), stats.uniform(-0.5, 1.0), stats.laplace(0, 0.02), stats.norm(1.0, 0.2)],
    ids=["normal", "uniform", "laplace", "off centre"],
)
def test_differential_entropy_is_the_laws(law: Any, dtype: str, measure: Measure) -> None:
    for shape, tolerance in (((1000, 500), 0.015), ((40, 50), 0.06)):
        weights = law.rvs(shape, random_state=1).astype(DTYPES[dtype])
        assert measure(weights).differential_entropy == pytest.approx(
            law.entropy() / np.log(2), abs=tolerance
        )


def test_differential_entropy_does_not_hear_outliers(measure: Measure) -> None:
    weights = 0.02 * np.random.default_rng(0).standard_normal((500, 500))
    quiet = measure(weights.astype(np.float32))
    weights.flat[:5] = 100.0
    loud = measure(weights.astype(np.float32))
    assert loud.entropy < 0.01 < quiet.entropy
    assert loud.differential_entropy == pytest.approx(quiet.differential_entropy, abs=0.01)


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_extreme_magnitudes(dtype: str, measure: Measure) -> None:
    peak = float(ml_dtypes.finfo(DTYPES[dtype]).max)
    tiny = float(ml_dtypes.finfo(DTYPES[dtype]).smallest_subnormal)
    for weights in (
        np.random.default_rng(0).choice([-peak, peak, 0.0], (100, 100)),
        tiny * np.random.default_rng(0).integers(-5, 6, (100, 100)),
    ):
        found = measure(weights.astype(DTYPES[dtype]))
        want = truth(weights.astype(DTYPES[dtype]))
        for name in ("min", "max", "sigma", "kurtosis", "entropy"):
            assert getattr(found, name) == pytest.approx(want[name], rel=1e-9), name
        if dtype != "f32" or found.max == peak:  # float32's subnormals count as zeros
            assert np.isfinite(found.differential_entropy)


def test_the_zoo_model(store: Path) -> None:
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        table = profile(checkpoint, cache=store)
        assert table["name"].to_pylist() == [layer.name for layer in checkpoint.layers]
        for found, layer in zip(metrics(table), checkpoint.layers, strict=True):
            assert (found.role, found.depth, found.shape) == (layer.role, layer.depth, layer.shape)
            for name, value in truth(checkpoint.view(layer.name)).items():
                assert getattr(found, name) == pytest.approx(value, rel=1e-9), (layer.name, name)


def test_a_profile_has_the_columns_of_its_value(store: Path, save: Callable[..., Path]) -> None:
    with open_checkpoint(
        save(empty=np.zeros((0, 8), np.float32), full=np.ones((4, 8), np.float32))
    ) as checkpoint:
        table = profile(checkpoint, cache=store)
    assert table["name"].to_pylist() == ["full.to_q.weight"]
    assert set(table.column_names) == set(ThermodynamicMetrics.__dataclass_fields__)
    assert workbench.ThermodynamicMetrics is ThermodynamicMetrics


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_standard_errors_are_honest(dtype: str, save: Callable[..., Path], tmp_path: Path) -> None:
    """Over many seeds, 3 standard errors hold nearly all errors, and errors are as large as they are said to be."""
    rng = np.random.default_rng(0)
    scale = np.exp(0.1 * rng.standard_normal((400, 1)))
    weights = (scale * rng.standard_normal((400, 150))).astype(DTYPES[dtype])
    names = ("sigma", "kurtosis", "differential_entropy", "exponent_entropy")
    apart: dict[str, list[float]] = {name: [] for name in names}
    with open_checkpoint(save(layer=weights)) as checkpoint:
        exact = metrics(profile(checkpoint, cache=tmp_path))[0]
        for seed in range(60):
            found = metrics(profile(checkpoint, sample_rows=64, seed=seed, cache=tmp_path))[0]
            assert found.measured_rows == 64
            for name in names:
                difference = getattr(found, name) - getattr(exact, name)
                apart[name].append(difference / getattr(found, f"{name}_stderr"))
    for name, deviations in apart.items():
        assert np.mean(np.abs(deviations) <= 3) >= 0.95, name
        assert 0.7 < np.sqrt(np.mean(np.square(deviations))) < 1.5, name


def test_a_sample_is_seeded_and_never_thin(measure: Measure) -> None:
    weights = np.random.default_rng(0).standard_normal((200, 20)).astype(np.float32)
    first, again, other = (measure(weights, sample_rows=64, seed=seed).sigma for seed in (1, 1, 2))
    assert first == again != other
    assert measure(weights[:127], sample_rows=64).sigma_stderr == 0.0, "more than half: all are measured"
    with pytest.raises(ArgumentError, match="at least 64"):
        measure(weights, sample_rows=63)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "f16", "e5m2"])
def test_what_is_not_finite_is_named(
    dtype: str, value: float, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_WEIGHTS", 2_000)
    weights = np.ones((300, 40), DTYPES[dtype])
    weights[217, 31] = weights[250, 0] = value
    with pytest.raises(
        ValidationError, match=r"'layer\.to_q\.weight' has .* at row 217, column 31"
    ) as caught:
        measure(weights)
    assert caught.value.index == (217, 31)
    weights[:] = value
    with pytest.raises(ValidationError) as caught:
        measure(weights, sample_rows=64)
    assert caught.value.index[1] == 0


def test_a_profile_is_made_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[float, str]] = []
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        first = profile(checkpoint, cache=store)
        [entry] = store.iterdir()
        written = entry.stat().st_mtime_ns
        monkeypatch.setattr(Checkpoint, "read_rows", None)
        again = profile(checkpoint, cache=store, callback=lambda *said: heard.append(said))
        assert again.equals(first)
        assert entry.stat().st_mtime_ns == written
    assert heard == [(1.0, "profiling layers")]


@pytest.mark.parametrize("damage", [b"", b"PAR1", "flip", "truncate", "other"])
def test_a_damaged_entry_is_made_again(damage: bytes | str, store: Path) -> None:
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        first = profile(checkpoint, cache=store)
        [entry] = store.iterdir()
        sound = entry.read_bytes()
        match damage:
            case bytes():
                entry.write_bytes(damage)
            case "flip":
                at = len(sound) // 4
                entry.write_bytes(sound[:at] + bytes([sound[at] ^ 0xFF]) + sound[at + 1 :])
            case "truncate":
                entry.write_bytes(sound[: len(sound) // 2])
            case "other":
                pq.write_table(pa.table({"a": [1]}), entry)
        assert profile(checkpoint, cache=store).equals(first)
        assert pq.read_table(entry).equals(first)
        assert list(store.iterdir()) == [entry]


def test_a_changed_file_is_noticed(save: Callable[..., Path], store: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    path = save(layer=weights)
    with open_checkpoint(path) as checkpoint:
        before = metrics(profile(checkpoint, cache=store))[0]
        fingerprint = checkpoint.fingerprint
    weights[40, 7] = 99.0  # where no sample of the fingerprint falls
    save(layer=weights)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.fingerprint == fingerprint
        assert metrics(profile(checkpoint, cache=store))[0].max == 99.0 > before.max


def test_a_file_that_changes_meanwhile_is_an_error(save: Callable[..., Path], store: Path) -> None:
    path = save(**{f"layer{i}": np.ones((64, 64), np.float32) for i in range(8)})

    def touch(fraction: float, message: str) -> None:
        os.utime(path, ns=(0, time.time_ns()))

    with open_checkpoint(path) as checkpoint, pytest.raises(QuantizationError, match="changed on disk"):
        profile(checkpoint, cache=store, executor=InlineExecutor(), callback=touch)
    assert not list(store.glob("*.parquet"))


def test_an_interrupted_profile_goes_on(
    save: Callable[..., Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    path = save(**{f"layer{i}": rng.standard_normal((64, 64)).astype(np.float32) for i in range(8)})
    monkeypatch.setattr("workbench.work.REFRESH_SECONDS", 0.0)

    class StopError(Exception):
        pass

    def stop(fraction: float, message: str) -> None:
        if fraction > 0.6:
            raise StopError

    reads: list[str] = []
    read_rows = Checkpoint.read_rows

    def count(self: Checkpoint, name: str, *rest: Any) -> Any:
        reads.append(name)
        return read_rows(self, name, *rest)

    with open_checkpoint(path) as checkpoint:
        whole = profile(checkpoint, cache=store / "other")
        with pytest.raises(StopError):
            profile(checkpoint, cache=store, executor=InlineExecutor(), callback=stop)
        [journal] = store.glob("*.jsonl")
        done = len(journal.read_text().splitlines())
        with journal.open("a") as file:
            file.write('["layer7.to_q.weight", [{"na')  # as a kill leaves it
        monkeypatch.setattr(Checkpoint, "read_rows", count)
        resumed = profile(checkpoint, cache=store)
    assert resumed.equals(whole)
    assert 0 < done < 8
    assert len(set(reads)) == 8 - done
    assert [path.suffix for path in store.iterdir() if path.is_file()] == [".parquet"]


def test_it_can_be_cancelled(store: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with open_checkpoint("zoo:digits-dit") as checkpoint, pytest.raises(CancelledError):
        profile(checkpoint, cache=store, cancel=cancel)


def test_the_cache_is_where_users_keep_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "arrowquant-workbench"
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        profile(checkpoint)
    assert len(list(cache_folder().glob("profile-*.parquet"))) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder().is_relative_to(tmp_path)


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        open_checkpoint("zoo:digits-dit") as checkpoint,
        pytest.warns(CacheWarning, match="cannot be written"),
    ):
        assert profile(checkpoint, cache=tmp_path / "file").num_rows == len(checkpoint.layers)
