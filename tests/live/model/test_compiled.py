"""Guards that compiled models are measured as eager ones are: compiled code does not run hooks that came later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.calibration import CalibrationRecords
from workbench.live import apply, capture, importance_by_gradients, importance_by_trial
from workbench.live.model.eager import run_uncompiled, uncompiled

Store = Callable[..., Any]

LABELS = torch.tensor([0, 3, 3])


def images() -> Tensor:
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def loop(model: Any) -> Tensor:
    x = images()
    for time in (90.0, 10.0):
        x = model(x, time, LABELS)
    return x


def whole(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def full_graph(model: Any) -> Any:
    return torch.compile(model, backend="eager", fullgraph=True)


def in_place(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def one_layer(model: Any) -> Any:
    model.to_q = torch.compile(model.to_q, backend="eager")
    return model


def one_layer_in_place(model: Any) -> Any:
    model.to_q.compile(backend="eager")
    return model


def in_parallel(model: Any) -> Any:
    return nn.DataParallel(torch.compile(model, backend="eager"))


WAYS = [whole, full_graph, in_place, one_layer, one_layer_in_place, in_parallel]


@pytest.fixture(autouse=True)
def _forget_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def same(one: CalibrationRecords, other: CalibrationRecords) -> bool:
    return one.digest == other.digest


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_capture_has_all_layers_with_the_figures_of_eager(
    way: Callable[[Any], Any], warm: bool, toy: Any, store: Store
) -> None:
    checkpoint = store(toy)
    with torch.no_grad(), capture(toy, checkpoint) as rec:
        loop(toy)
    expected = rec.records
    model = way(toy)
    with torch.no_grad():
        before = loop(model) if warm else None
        with capture(model, checkpoint) as rec:
            loop(model)
        after = loop(model)
    assert len(rec.records.layers) == 8
    assert same(rec.records, expected)
    assert before is None or torch.equal(before, after)
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_a_compiled_step_around_the_model_is_seen_too(toy: Any, store: Store) -> None:
    step = torch.compile(lambda x, time: toy(x, time, LABELS), backend="eager")
    with torch.no_grad():
        step(images(), 10.0)
        with capture(toy, store(toy)) as rec:
            step(images(), 10.0)
    assert len(rec.records.layers) == 8


@pytest.mark.parametrize("way", [whole, in_place, one_layer])
def test_importance_is_that_of_the_eager_model(way: Callable[[Any], Any], toy: Any, store: Store) -> None:
    checkpoint = store(toy)
    with torch.no_grad(), capture(toy, checkpoint) as rec:
        loop(toy)

    def measured(model: Any) -> list[Any]:
        return [
            importance_by_gradients(model, lambda n: loop(model), checkpoint, rec.records, runs=1),
            importance_by_gradients(
                model, lambda n: loop(model), checkpoint, rec.records, runs=1, span="step", method="white"
            ),
            importance_by_trial(model, lambda n: loop(model), checkpoint, rec.records),
        ]

    expected = measured(toy)
    model = way(toy)
    with torch.no_grad():
        loop(model)
    for ours, theirs in zip(measured(model), expected, strict=True):
        for name, record in theirs.layers.items():
            for estimator, values in record.sensitivity.items():
                np.testing.assert_allclose(ours.layers[name].sensitivity[estimator], values, rtol=1e-6)


@pytest.mark.parametrize("way", [whole, in_place, one_layer])
def test_compare_and_apply_measure_the_plan(
    way: Callable[[Any], Any], toy: Any, store: Store, tmp_path: Path
) -> None:
    checkpoint = store(toy)
    with torch.no_grad(), capture(toy, checkpoint) as rec:
        loop(toy)
    with wb.open(checkpoint.path, calibration=rec.records, num_time_groups=2, cache=tmp_path) as session:
        session.set_bits("*", 3)
        expected = wb.live.compare(toy, lambda n: loop(toy), session, runs=1)
        with torch.no_grad(), apply(toy, session.plan, checkpoint):
            by_plan = loop(toy)
        with (
            torch.no_grad(),
            apply(toy, session.plan, checkpoint, activations="int8-time", tables=session.time_aware),
        ):
            rounded = loop(toy)
        model = way(toy)
        with torch.no_grad():
            own = loop(model)
        found = wb.live.compare(model, lambda n: loop(model), session, runs=1)
        with torch.no_grad(), apply(model, session.plan, checkpoint):
            assert torch.equal(loop(model), by_plan)
        with (
            torch.no_grad(),
            apply(model, session.plan, checkpoint, activations="int8-time", tables=session.time_aware),
        ):
            assert torch.equal(loop(model), rounded)
        with torch.no_grad():
            assert torch.equal(loop(model), own)
    assert found.layers.equals(expected.layers)
    assert found.calls.equals(expected.calls)


def test_overlapping_uses_give_back_the_stance_there_was() -> None:
    with torch.compiler.set_stance("eager_on_recompile"):
        first = run_uncompiled()
        with uncompiled():
            first()
            assert torch._dynamo.eval_frame._stance.stance == "force_eager"
        assert torch._dynamo.eval_frame._stance.stance == "eager_on_recompile"
