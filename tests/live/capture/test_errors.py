"""Guards the edges of a capture: what cannot be recorded is said by name, and the model is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.errors import ArgumentError, ShapeMismatchError, ValidationError
from workbench.live import Clock, MissingLayersWarning, capture, match_modules

Store = Callable[..., Any]


def images(batch: int = 3) -> Tensor:
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 3, 3])


def hooks(model: nn.Module) -> list[int]:
    return [
        len(found)
        for module in model.modules()
        for found in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    ]


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, t: float) -> Tensor:
        return self.inner(x, t)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "net."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_prefixes_of_checkpoint_and_model_are_found(
    prefix: str, wrapped: bool, toy: Any, store: Store
) -> None:
    model = Wrapped(toy) if wrapped and not prefix else toy
    found = match_modules(model, store(toy, prefix))
    assert len(found) == 8
    assert found[prefix + "to_q.weight"] is toy.to_q
    assert found[prefix + "conv_in.weight"] is toy.conv_in


def test_layers_without_a_module_are_listed(toy: Any, store: Store) -> None:
    checkpoint = store(Wrapped(toy))
    del toy.label_embed
    rec = capture(toy, checkpoint)
    assert rec.unmatched == ("inner.label_embed.weight",)
    with (
        pytest.warns(MissingLayersWarning, match=r"label_embed\.weight \(not in the model\)"),
        rec,
        torch.no_grad(),
    ):
        toy(images(), 1.0)
    assert rec.records.made_by["not_in_model"] == ["inner.label_embed.weight"]


def test_layers_of_a_twin_under_another_prefix_do_not_count(toy: Any, store: Store) -> None:
    both = nn.ModuleDict({"ema": toy, "model": Wrapped(toy)})
    checkpoint = store(both, name="both")
    assert all(name.startswith(("ema.", "model.inner.")) for name in match_modules(toy, checkpoint))
    assert len({id(found) for found in match_modules(toy, checkpoint).values()}) == 8
    assert len(match_modules(toy, checkpoint)) == 8


def test_a_weight_of_another_shape_is_named(toy: Any, store: Store) -> None:
    checkpoint = store(toy)
    toy.to_q = nn.Linear(6, 7)
    with pytest.raises(
        ShapeMismatchError, match=r"'to_q\.weight' is \(6, 6\), .* 'to_q' has \(7, 6\)"
    ) as raised:
        capture(toy, checkpoint)
    assert raised.value.tensor == "to_q.weight"


def test_a_model_of_other_layers_is_refused(toy: Any, store: Store) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.only = nn.Linear(2, 2)

        def forward(self, x: Tensor, t: float) -> Tensor:
            return self.only(x)

    with pytest.raises(ValidationError, match=r"none of its 8 layers, such as .* is a module of this Other"):
        capture(Other(), store(toy))


class Timeless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 2)

    def forward(self, x: Tensor, when: float | None = None) -> Tensor:
        return self.line(x)


def test_a_model_without_a_known_time_is_refused_and_told_how(store: Store) -> None:
    model = Timeless()
    checkpoint, x = store(model), torch.ones(1, 2)
    with pytest.raises(ArgumentError, match=r"none of the arguments timestep, .* but x, when\. Name the"):
        capture(model, checkpoint)
    with pytest.raises(ArgumentError, match="none of the arguments moment"):
        capture(model, checkpoint, time="moment")
    for time, name in (
        ("when", "when"),
        (lambda module, args, kwargs: args[1], "time"),
        (Clock("sigma", lambda module, args, kwargs: args[1]), "sigma"),
    ):
        with capture(model, checkpoint, time=time) as rec:
            model(x, 3.0)
        assert (rec.records.time, rec.records.steps.tolist()) == (name, [[3.0, 3.0]])


@pytest.mark.parametrize("time", [float("nan"), float("inf"), torch.empty(0)])
def test_a_time_that_is_no_number_is_an_error(store: Store, time: Any) -> None:
    model = Timeless()
    with (
        pytest.raises(ArgumentError, match="must give finite numbers"),
        capture(model, store(model), time="when"),
    ):
        model(torch.ones(1, 2), time)
    assert not any(hooks(model))


@pytest.mark.parametrize("given", [{}, {"when": None}])
def test_a_call_without_its_time_is_an_error(store: Store, given: Any) -> None:
    model = Timeless()
    with (
        pytest.raises(ArgumentError, match="Timeless was called without when"),
        capture(model, store(model), time="when"),
    ):
        model(torch.ones(1, 2), **given)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_names_its_layer(toy: Any, store: Store, value: float) -> None:
    x = images()
    x[1, 2, 3, 4] = value
    with (
        pytest.raises(
            ValidationError, match=r"The input of 'conv_in\.weight' has a value that is NaN"
        ) as raised,
        torch.no_grad(),
        capture(toy, store(toy)),
    ):
        toy(x, 1.0)
    assert raised.value.tensor == "conv_in.weight"
    assert not any(hooks(toy))


def test_an_output_that_overflows_names_its_layer(store: Store) -> None:
    model = Timeless().half()
    model.line.weight.data.fill_(6e4)
    with (
        pytest.raises(ValidationError, match=r"The output of 'line\.weight'"),
        torch.no_grad(),
        capture(model, store(model), time="when"),
    ):
        model(torch.full((1, 2), 6e4, dtype=torch.float16), 1.0)


def test_nothing_captured_is_an_error(toy: Any, store: Store) -> None:
    with capture(toy, store(toy)) as rec:
        pass
    with pytest.raises(ValidationError, match="Nothing was captured: Toy was not called"):
        _ = rec.records


def test_layers_called_by_themselves_belong_to_no_time(toy: Any, store: Store) -> None:
    rec = capture(toy, store(toy))

    def loop() -> None:
        with torch.no_grad(), rec:
            toy.to_q(torch.ones(2, 6))
            with pytest.raises(ValidationError, match="Nothing was captured"):
                _ = rec.records
            toy(images(), 1.0)

    with pytest.warns(MissingLayersWarning, match=r"label_embed\.weight \(never called\)"):
        loop()
    assert rec.records.made_by["called_outside"] == {"to_q.weight": 1}
    assert rec.records.made_by["not_called"] == ["label_embed.weight"]
    assert "label_embed.weight" not in rec.records.layers


def test_samples_at_different_times_must_be_told_apart(store: Store) -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(2, 2)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.line(x.mean(dim=0, keepdim=True))

    model = Mixing()
    with (
        pytest.raises(ValidationError, match=r"different times, and 'line\.weight' mixes them"),
        torch.no_grad(),
        capture(model, store(model)),
    ):
        model(torch.ones(3, 2), torch.tensor([1.0, 2.0, 3.0]))


def test_an_empty_call_changes_nothing(store: Store) -> None:
    model = Timeless()
    with torch.no_grad(), capture(model, store(model), time="when") as rec:
        model(torch.ones(2, 2), 1.0)
        model(torch.ones(0, 2), 1.0)
    assert rec.records.layers["line.weight"].count.tolist() == [2]


@pytest.mark.parametrize("buckets", [0, 65, -1])
def test_the_number_of_buckets_is_bounded(toy: Any, store: Store, buckets: int) -> None:
    with pytest.raises(ArgumentError, match="allowed: 1 to 64"):
        capture(toy, store(toy), buckets=buckets)


def test_hooks_are_gone_afterwards_whatever_happens(toy: Any, store: Store) -> None:
    checkpoint = store(toy)
    before = hooks(toy)
    with torch.no_grad(), capture(toy, checkpoint):
        toy(images(), 1.0, LABELS)
        assert hooks(toy) != before
    assert hooks(toy) == before

    def broken() -> None:
        with torch.no_grad(), capture(toy, checkpoint):
            toy(images(), 1.0)
            raise KeyError("in the loop")

    with pytest.raises(KeyError):
        broken()
    assert hooks(toy) == before


def test_a_call_that_fails_does_not_spoil_the_next(toy: Any, store: Store) -> None:
    with torch.no_grad(), capture(toy, store(toy)) as rec:
        with pytest.raises(RuntimeError):
            toy(torch.ones(1, 3, 8, 8), 7.0)
        toy.to_q(torch.ones(2, 6))
        toy(images(), 1.0, LABELS)
    record = rec.records.layers["to_q.weight"]
    assert rec.records.layers["conv_in.weight"].count.tolist() == [3 * 64, 0]
    assert record.count.tolist() == [27, 0]


def test_outputs_are_those_without_a_capture(toy: Any, store: Store) -> None:
    with torch.no_grad():
        expected = toy(images(), 1.0, LABELS)
        with capture(toy, store(toy)):
            found = toy(images(), 1.0, LABELS)
    assert torch.equal(found, expected)
