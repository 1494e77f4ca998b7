"""Guards that a running model is told from another of the same shapes, and not from its own casts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor, nn

import workbench as wb
from workbench.errors import ValidationError
from workbench.live import (
    apply,
    attach,
    capture,
    capture_pipeline,
    compare,
    importance_by_gradients,
    importance_by_trial,
)

Store = Callable[..., Any]


def run(model: Any, number: int = 0) -> Tensor:
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(number))
    found: Tensor = model(x, 10.0, torch.tensor([0, 3, 3]))
    return found


@pytest.fixture
def two_transformers(sd3_model: Any, tmp_path: Path) -> tuple[Path, Any, Any]:
    """A diffusers folder as of Wan 2.2, and its two running models."""
    first, second = sd3_model(num_layers=1).eval(), sd3_model(num_layers=1).eval()
    with torch.no_grad():
        for weight in second.parameters():
            weight.mul_(1.3)
    first.save_pretrained(tmp_path / "pipe" / "transformer")
    second.save_pretrained(tmp_path / "pipe" / "transformer_2")
    (tmp_path / "pipe" / "model_index.json").write_text(
        '{"_class_name": "WanPipeline", "transformer": ["diffusers", "SD3Transformer2DModel"], '
        '"transformer_2": ["diffusers", "SD3Transformer2DModel"]}'
    )
    return tmp_path / "pipe", first, second


def test_the_second_transformer_is_not_taken_for_the_first(two_transformers: tuple[Path, Any, Any]) -> None:
    folder, first, second = two_transformers
    with pytest.raises(
        ValidationError,
        match=r"weights: (\d+) of \1 layers differ, the first is '[\w.]+' .*component 'transformer'.*check_weights",
    ) as raised:
        capture(second, folder)
    assert raised.value.tensor
    for model, component in ((first, None), (first, "transformer"), (second, "transformer_2")):
        assert not capture(model, folder, component=component).unmatched
    assert not capture(second, folder, check_weights=False).unmatched


def test_a_pipeline_watches_the_component_of_its_checkpoint(two_transformers: tuple[Path, Any, Any]) -> None:
    folder, first, second = two_transformers

    class Pipe:
        transformer, transformer_2 = second, first

        def __call__(self, num_inference_steps: int, generator: torch.Generator) -> None:
            raise AssertionError("generates in vain")

    with pytest.raises(ValidationError, match="other weights"):
        capture_pipeline(Pipe(), checkpoint=folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_casts_of_the_checkpoints_weights_are_its_own(toy: Any, store: Store, dtype: torch.dtype) -> None:
    checkpoint = store(toy)
    assert not capture(toy.to(dtype), checkpoint).unchecked
    assert not capture(toy.float(), checkpoint).unchecked  # with what the cast has left


@pytest.mark.parametrize("bits", [4, 8])
def test_what_quantizing_leaves_is_tolerated(toy: Any, store: Store, bits: int, tmp_path: Path) -> None:
    checkpoint = store(toy)
    with wb.open(checkpoint.path, cache=tmp_path) as session:
        session.set_bits("*", bits)
        apply(toy, session.plan, checkpoint)
    assert not capture(toy, checkpoint).unchecked


def test_one_layer_that_differs_is_named(toy: Any, store: Store) -> None:
    checkpoint = store(toy)
    with torch.no_grad():
        toy.to_q.weight.add_(0.2)
    with pytest.raises(ValidationError, match=r"1 of 8 layers differ, the first is 'to_q\.weight'") as raised:
        capture(toy, checkpoint)
    assert raised.value.tensor == "to_q.weight"


def test_layers_of_zeros_and_values_that_are_not_finite(toy: Any, store: Store) -> None:
    with torch.no_grad():
        toy.to_q.weight.zero_()
        toy.to_k.weight[0, 0] = float("nan")
    checkpoint = store(toy)
    assert not capture(toy, checkpoint).unchecked
    with torch.no_grad():
        toy.to_q.weight[5, 5] = 1e-3
    with pytest.raises(ValidationError, match=r"'to_q\.weight'"):
        capture(toy, checkpoint)


def test_an_offloaded_model_is_compared_by_the_weights_it_will_use(toy: Any, store: Store) -> None:
    checkpoint = store(toy)
    other = cpu_offload(type(toy)().eval().requires_grad_(False), execution_device=torch.device("cpu"))
    assert all(weight.is_meta for weight in other.parameters())
    with pytest.raises(ValidationError, match="8 of 8 layers differ"):
        capture(other, checkpoint)


def test_everything_that_takes_a_model_compares_it(toy: Any, store: Store, tmp_path: Path) -> None:
    checkpoint = store(toy)
    with torch.no_grad(), capture(toy, checkpoint) as rec:
        run(toy)
    other = type(toy)().eval()

    def again(number: int) -> Tensor:
        return run(other, number)

    with wb.open(checkpoint.path, calibration=rec.records, cache=tmp_path) as session:
        session.set_bits("*", 3)
        calls: list[Callable[..., Any]] = [
            lambda **asked: apply(other, session.plan, checkpoint, **asked).undo(),
            lambda **asked: attach(session, other, again, **asked),
            lambda **asked: compare(other, again, session, runs=1, **asked),
            lambda **asked: importance_by_gradients(other, again, checkpoint, rec.records, runs=1, **asked),
            lambda **asked: importance_by_trial(other, again, checkpoint, rec.records, **asked),
        ]
        for call in calls:
            with pytest.raises(ValidationError, match="8 of 8 layers differ"):
                call()
            call(check_weights=False)


def test_checkpoints_are_taken_as_paths(toy: Any, store: Store, tmp_path: Path) -> None:
    path = store(toy).path
    with torch.no_grad(), capture(toy, str(path)) as rec:
        run(toy)
    records = rec.records
    assert len(wb.live.match_modules(toy, path)) == 8
    measured = importance_by_gradients(toy, lambda n: run(toy, n), path, records, runs=1)
    assert measured.estimators == ("fisher:trajectory",)
    assert importance_by_trial(toy, lambda n: run(toy, n), str(path), records).estimators == ("noise",)
    with wb.open(path, cache=tmp_path) as session:
        session.set_bits("*", 3)
        errors = wb.live.weight_errors(path, session.plan)
    deltas = {(name, 3): delta for name, delta in errors.items()}
    found = wb.live.directional(toy, lambda n: run(toy, n), path, records, deltas, runs=1)
    assert set(found) == set(deltas)
    assert all(value > 0 for value in found.values())
    zoo = wb.CalibrationRecords.load("zoo:digits-dit")
    with pytest.raises(ValidationError, match="none of its"):
        importance_by_gradients(nn.Linear(2, 2), lambda n: torch.ones(1), "zoo:digits-dit", zoo)


def test_progress_is_told_and_work_can_be_cancelled(toy: Any, store: Store, tmp_path: Path) -> None:
    checkpoint = store(toy)
    with torch.no_grad(), capture(toy, checkpoint) as rec:
        run(toy)
    own = [weight.clone() for weight in toy.parameters()]
    with wb.open(checkpoint.path, cache=tmp_path) as session:
        session.set_bits("*", 3)
        session.export(tmp_path / "out").result()
        plan = session.plan
    deltas = {(name, 3): delta for name, delta in wb.live.weight_errors(checkpoint, plan).items()}
    calls: list[Callable[..., Any]] = [
        lambda **asked: apply(toy, plan, checkpoint, **asked).undo(),
        lambda **asked: apply(toy, tmp_path / "out", checkpoint, **asked).undo(),
        lambda **asked: wb.live.weight_errors(checkpoint, plan, **asked),
        lambda **asked: wb.live.directional(
            toy, lambda n: run(toy, n), checkpoint, rec.records, deltas, runs=1, **asked
        ),
    ]
    for call in calls:
        heard: list[float] = []
        call(callback=lambda fraction, message, heard=heard: heard.append(fraction))
        assert heard[-1] == 1.0
        stop = threading.Event()
        stop.set()
        with pytest.raises(wb.CancelledError):
            call(cancel=stop)
        assert all(torch.equal(one, other) for one, other in zip(toy.parameters(), own, strict=True))
