"""Guards that what a plan does to a model is measured as it is, and that a session learns from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import workbench as wb
from workbench.checkpoint import Checkpoint
from workbench.errors import CancelledError, ConfigurationError
from workbench.live import Comparison, capture, compare, weight_errors
from workbench.live.validation.comparison import layer_effects, rank_correlation
from workbench.live.validation.single_layers import neighbour
from workbench.session import Session

Store = Callable[..., Checkpoint]
TIMES = (90.0, 50.0, 10.0)


class Loop:
    """Three denoising steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, number: int) -> Tensor:
        x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(number))
        for time in TIMES:
            x = self.model(x, time, torch.arange(2))
        return x


@pytest.fixture
def run(toy: Any) -> Loop:
    return Loop(toy)


@pytest.fixture
def session(toy: Any, run: Loop, store: Store, tmp_path: Path) -> Iterator[Session]:
    checkpoint = store(toy)
    with capture(toy, checkpoint) as rec, torch.no_grad():
        run(100)
    with wb.open(checkpoint.path, calibration=rec.records, num_time_groups=3, cache=tmp_path) as session:
        session.set_bits("*", 4)
        yield session


def test_the_error_of_the_final_output_and_of_every_call(toy: Any, run: Loop, session: Session) -> None:
    found = compare(toy, run, session, runs=2)
    deltas = weight_errors(session.checkpoint, session.plan)
    before = [run(number).detach() for number in range(2)]
    calls = [outputs_of(toy, run, number) for number in range(2)]
    weights = dict(toy.named_parameters())
    for name, delta in deltas.items():
        weights[name].data += delta
    after = [run(number).detach() for number in range(2)]
    others = [outputs_of(toy, run, number) for number in range(2)]
    for error, x, y in zip(found.errors, before, after, strict=True):
        assert error == pytest.approx(float((x - y).square().sum() / x.square().sum()), rel=1e-4)
    assert found.error == pytest.approx(found.errors.mean())
    rows = found.calls.to_pylist()
    assert [(row["run"], row["call"], row["time"]) for row in rows] == [
        (number, call, time) for number in range(2) for call, time in enumerate(TIMES)
    ]
    for row in rows:
        x, y = calls[row["run"]][row["call"]], others[row["run"]][row["call"]]
        assert row["error"] == pytest.approx(float((x - y).square().sum() / x.square().sum()), rel=1e-4)
    np.testing.assert_array_equal(found.samples[0], before[0].numpy())
    np.testing.assert_allclose(found.samples[1], after[0].numpy(), rtol=1e-5, atol=1e-6)


def outputs_of(model: nn.Module, run: Loop, number: int) -> list[Tensor]:
    seen: list[Tensor] = []
    handle = model.register_forward_hook(lambda module, args, output: seen.append(output.detach().clone()))
    run(number)
    handle.remove()
    return seen


@torch.no_grad()
def test_the_errors_of_the_layers_own_outputs(toy: Any, run: Loop, session: Session, keep: Any) -> None:
    found = compare(toy, run, session, runs=1)
    modules = {
        name: toy.get_submodule(name.removesuffix(".weight")) for name in found.layers["layer"].to_pylist()
    }
    kept = keep(modules)
    with kept.keeping(toy, lambda args, kwargs: args[1]):
        run(0)
    deltas = weight_errors(session.checkpoint, session.plan)
    assert session.time_aware is not None
    for row in found.layers.to_pylist():
        module, delta = modules[row["layer"]], deltas[row["layer"]]
        for group, measured in enumerate(row["measured_by_group"]):
            low, high = session.time_aware.groups.ranges[group]
            noise = signal = 0.0
            for name, times, given, output in kept.calls:
                if name != row["layer"] or not low <= times[0] <= high:
                    continue
                own, module.weight.data = module.weight.data, delta.reshape(module.weight.shape)
                bias = getattr(module, "bias", None)
                spread = 0.0 if bias is None else bias.reshape(-1, *[1] * (module.weight.dim() - 2))
                noise += float((module(given) - spread).square().sum())
                signal += float((output - spread).square().sum())
                module.weight.data = own
            assert measured == pytest.approx(noise / signal, rel=1e-4)
        assert row["measured"] == pytest.approx(
            float(np.average(row["measured_by_group"], weights=session.time_aware.groups.shares)), rel=1e-6
        )
    # The calibration saw other inputs of the same kind, so that the prediction is near.
    ratios = found.layers["measured"].to_numpy() / found.layers["predicted"].to_numpy()
    assert 0.3 < np.median(ratios) < 3
    assert len(found.by_group()) == 3


def test_what_is_learnt_makes_the_prediction_what_was_measured(toy: Any, run: Loop, session: Session) -> None:
    found = compare(toy, run, session, runs=2, alone=True)
    before = session.costs.damage.copy()
    totals = session.learn(found.factors)
    assert totals.damage == pytest.approx(found.error, rel=1e-6)
    assert not np.array_equal(session.costs.damage, before)
    # Comparing again learns nothing new of the whole.
    again = compare(toy, run, session, runs=2)
    assert again.ratio == pytest.approx(1, rel=1e-6)
    # Learning is a step of undo, and goes along to another target.
    assert session.undo()
    assert np.array_equal(session.costs.damage, before)
    assert session.redo()
    session.retarget("parquet")
    assert session.learnt.keys() == session.snapshot.measurements.index.keys()


def test_each_layer_is_tried_alone_at_its_option_and_the_next(toy: Any, run: Loop, session: Session) -> None:
    found = compare(toy, run, session, runs=2, alone=True)
    outputs = [run(number).detach() for number in range(2)]
    options = session.options.to_pylist()
    rows = found.trials.to_pylist()
    assert [row["layer"] for row in rows] == 2 * found.layers["layer"].to_pylist()
    for row in rows:
        name = row["layer"]
        own = next(o for o in options if o["layer"] == name and matches(o, session.plan.choices[name]))
        tried = next(
            o for o in options if all(o[key] == row[key] for key in ("layer", "bits", "scheme", "group_size"))
        )
        assert row["is_present"] == (tried is own)
        assert row["predicted"] == tried["damage"] > 0
        if not row["is_present"]:
            assert tried["nbytes"] < own["nbytes"], "a step down, for there is one"
        session.keep("*")
        session.set_option(
            name, wb.Option(tried["bits"], tried["scheme"], tried["group_size"], tried["nbytes"])
        )
        with wb.live.apply(toy, session.plan, session.checkpoint), torch.no_grad():
            errors = [float((run(n) - x).square().sum() / x.square().sum()) for n, x in enumerate(outputs)]
        session.undo()
        session.undo()
        assert row["measured"] == pytest.approx(errors, rel=1e-3)
    assert found.alone.keys() == set(found.layers["layer"].to_pylist())


def matches(row: dict[str, Any], option: wb.Option) -> bool:
    return (row["bits"], row["scheme"], row["group_size"]) == (option.bits, option.scheme, option.group_size)


def test_the_option_beside_is_on_the_hull() -> None:
    def option(nbytes: int, damage: float) -> dict[str, float]:
        return {"nbytes": nbytes, "damage": damage}

    lossy = [option(10, 1.0), option(15, 0.9), option(20, 0.3), option(30, 0.1)]
    options = [*lossy, option(60, 0.0)]
    assert neighbour(lossy[3], options) == lossy[2]
    assert neighbour(lossy[2], options) == lossy[0], "15 bytes are no bargain"
    assert neighbour(lossy[1], options) == lossy[0]
    assert neighbour(lossy[0], options) == lossy[2]
    assert neighbour(options[4], options) == lossy[3]
    assert neighbour(lossy[0], [lossy[0], option(60, 0.0)]) is None, "there is nothing to measure"


def test_what_is_learnt_is_what_layer_effects_believe(toy: Any, run: Loop, session: Session) -> None:
    found = compare(toy, run, session, runs=3, alone=True)
    names = found.layers["layer"].to_pylist()
    rows = found.trials.to_pylist()
    logs = np.array(
        [
            [
                np.log(np.array(row["measured"]) / row["predicted"]).mean()
                for present in (False, True)
                for row in rows
                if (row["layer"], row["is_present"]) == (name, present)
            ]
            for name in names
        ]
    )
    factors = np.log([found.factors[name] for name in names])
    wanted = layer_effects(logs)
    np.testing.assert_allclose(factors - np.median(factors), wanted - np.median(wanted), atol=1e-9)
    total = sum(row["damage"] * found.factors[row["layer"]] for row in found.layers.to_pylist())
    assert total == pytest.approx(found.error)


def test_learning_twice_from_one_measurement_is_learning_once(toy: Any, run: Loop, session: Session) -> None:
    found = compare(toy, run, session, runs=2, alone=True)
    session.learn(found)
    once = session.costs.damage.copy()
    session.learn(found)
    np.testing.assert_array_equal(session.costs.damage, once)
    # Another measurement of the same corrects what is already corrected: the factors are of the first prediction.
    session.set_bits("*", 3)
    again = compare(toy, run, session, runs=2, alone=True)
    assert again.learnt == session.learnt
    assert session.learn(again).damage == pytest.approx(again.error, rel=1e-6)
    session.learn(dict.fromkeys(session.learnt, 1.0))
    session.set_bits("*", 4)
    assert session.totals.damage == pytest.approx(found.predicted_error)


def test_an_edit_while_the_plan_runs_does_not_reach_the_comparison(
    toy: Any, run: Loop, session: Session
) -> None:
    before = session.plan

    def edited(number: int) -> Tensor:
        session.set_bits("*", 2)
        return run(number)

    found = compare(toy, edited, session, runs=1)
    assert found.plan_digest == before.digest != session.plan.digest
    assert set(found.layers["bits"].to_pylist()) == {4}
    session.set_bits("*", 4)
    assert found.predicted_error == pytest.approx(session.totals.damage)


CHANCE = 0.4


def effects(seed: int, spread: float, layers: int = 200) -> tuple[Any, Any]:
    """Layers' true effects, and what is measured at two options."""
    generator = np.random.default_rng(seed)
    true = spread * generator.standard_normal(layers)
    return true, true[:, None] + [0.3, -0.1] + CHANCE * generator.standard_normal((layers, 2))


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.4, 2.0])
def test_effects_are_believed_as_far_as_they_exceed_chance(spread: float) -> None:
    believed, means, errors, naive = [], [], [], []
    for seed in range(20):
        true, logs = effects(seed, spread)
        found = layer_effects(logs)
        means.append(logs.mean(axis=1) - np.median(logs.mean(axis=1)))
        believed.append(found - np.median(found))
        errors.append(found - found.mean() - true + true.mean())
        naive.append(logs[:, 1] - logs[:, 1].mean() - true + true.mean())
    part = np.sum(np.multiply(believed, means)) / np.sum(np.square(means))
    assert part == pytest.approx(spread**2 / (spread**2 + CHANCE**2 / 2), abs=0.05)
    # Nearer to the truth than what was measured at the present option.
    assert np.square(errors).mean() < 0.6 * np.square(naive).mean()


def test_a_level_that_all_layers_share_is_no_effect() -> None:
    _, logs = effects(0, 1.0)
    plain, moved = layer_effects(logs), layer_effects(logs + np.array([0.0, 3.0]))
    np.testing.assert_allclose(moved - np.median(moved), plain - np.median(plain), atol=1e-12)


def test_a_layer_measured_at_one_option_is_believed_less() -> None:
    _, logs = effects(1, 0.6)
    logs[7] = [logs[7].mean(), np.nan]
    logs[8] = logs[7, 0] - [0.0, 0.4]
    found = layer_effects(logs)
    middle = np.median(found)
    assert 0 < (found[7] - middle) / (found[8] - middle) < 1


@pytest.mark.parametrize("logs", [np.zeros((1, 2)), np.arange(5.0)[:, None], np.ones((4, 2))])
def test_nothing_is_believed_without_something_to_compare(logs: Any) -> None:
    np.testing.assert_array_equal(layer_effects(logs), np.full(len(logs), np.median(logs)))


def test_the_solver_follows_what_was_learnt(session: Session) -> None:
    session.set_bits("*", 3)
    size = session.totals.nbytes
    session.solve(size)
    plain = {name: option.bits for name, option in session.plan.choices.items()}
    name = min(plain, key=lambda name: (plain[name], name))
    session.learn({other: (1e4 if other == name else 1.0) for other in plain})
    session.solve(size)
    assert session.plan.choices[name].bits > plain[name]


@pytest.mark.parametrize(
    "factors", [{}, {"nobody.weight": 1.0}, {"to_q.weight": 0.0}, {"to_q.weight": np.nan}]
)
def test_nothing_is_learnt_of_nonsense(session: Session, factors: dict[str, float]) -> None:
    before = session.totals
    with pytest.raises(ConfigurationError, match="Nothing can be learnt"):
        session.learn(factors)
    assert session.totals == before


def test_cancelling_leaves_the_model_as_it_was(toy: Any, run: Loop, session: Session) -> None:
    own = {name: value.clone() for name, value in toy.state_dict().items()}
    cancel = threading.Event()

    def stop(fraction: float, message: str) -> None:
        if message == "running the plan":
            cancel.set()

    with pytest.raises(CancelledError):
        compare(toy, run, session, runs=20, callback=stop, cancel=cancel)
    assert all(torch.equal(value, own[name]) for name, value in toy.state_dict().items())
    assert not toy._forward_hooks
    assert not toy._forward_pre_hooks


def test_metrics_and_rounded_inputs(toy: Any, run: Loop, session: Session) -> None:
    def metrics(outputs: Any) -> dict[str, float]:
        return {"energy": float(torch.cat(list(outputs)).square().mean())}

    plain = compare(toy, run, session, runs=1, metrics=metrics)
    rounded = compare(toy, run, session, runs=1, activations="int8-time", metrics=metrics)
    assert plain.metrics["energy"][0] == rounded.metrics["energy"][0] != plain.metrics["energy"][1]
    assert rounded.error != plain.error
    assert "int8-time" in str(rounded)
    assert "rank correlation" in str(plain)


def test_a_session_without_calibration(toy: Any, run: Loop, store: Store, tmp_path: Path) -> None:
    with wb.open(store(toy).path, cache=tmp_path) as session:
        found: Comparison = compare(toy, run, session, runs=1)
        assert found.layers["measured"].null_count == 0
        assert set(found.calls["group"].to_pylist()) == {0}
        with pytest.raises(ConfigurationError, match="needs scales"):
            compare(toy, run, session, runs=1, activations="int8-static")


def test_ranks_are_spearmans() -> None:
    generator = np.random.default_rng(0)
    a = generator.integers(0, 6, 40).astype(float)
    b = a + generator.integers(0, 6, 40).astype(float)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b)[0])
    assert np.isnan(rank_correlation(a[:2], b[:2]))
