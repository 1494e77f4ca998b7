"""Guards the estimators of importance: on a model so small that its whole Jacobian can be had, they equal it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from workbench.calibration import CalibrationRecords
from workbench.errors import ArgumentError, CancelledError, ValidationError
from workbench.live import (
    MissingLayersWarning,
    capture,
    categorical,
    directional,
    gaussian,
    importance_by_gradients,
    importance_by_trial,
)
from workbench.live.importance.sensitivity import with_sensitivity

TIMES = (3.0, 2.0, 1.0)


class Tiny(nn.Module):
    """A denoiser of [n, 3] of which two layers matter together."""

    def __init__(self) -> None:
        super().__init__()
        self.proj_in, self.proj_out = nn.Linear(3, 4), nn.Linear(4, 3, bias=False)

    def forward(self, x: Tensor, t: float) -> Tensor:
        return self.proj_out(torch.tanh(self.proj_in(x) * (1 + t / 2)))


class Basis:
    """A probe that takes the entries of an output in turn, so that the mean over a round is the exact expectation."""

    def __init__(self, repeat: int = 1) -> None:
        self.calls, self.repeat = 0, repeat

    def __call__(self, output: Tensor, chance: torch.Generator) -> Tensor:
        place = self.calls // self.repeat % output.numel()
        self.calls += 1
        return output.reshape(-1)[place] * output.numel() ** 0.5 / output.detach().norm()


def start() -> Tensor:
    return torch.randn(2, 3, generator=torch.Generator().manual_seed(5))


def loop(call: Callable[[int, Tensor, float], Tensor]) -> Tensor:
    x = start()
    for number, time in enumerate(TIMES):
        x = x - 0.4 * call(number, x, time)
    return x


class Case:
    """A tiny model, its checkpoint and records, and the exact answers."""

    def __init__(self, model: Tiny, checkpoint: Any) -> None:
        self.model, self.checkpoint = model, checkpoint
        with torch.no_grad(), capture(model, checkpoint) as rec:
            self.run(0)
        self.records = rec.records

    names = ("proj_in.weight", "proj_out.weight")

    def run(self, number: int) -> Tensor:
        return loop(lambda _, x, t: self.model(x, t))

    def weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.named_parameters()}

    def jacobians(self, name: str) -> Tensor:
        """∂output/∂W of one layer in each call by itself, [calls, outputs, weights]."""
        base = self.weights()

        def output(*each: Tensor) -> Tensor:
            return loop(
                lambda number, x, t: functional_call(self.model, {**base, name: each[number]}, (x, t))
            ).reshape(-1)

        found = torch.autograd.functional.jacobian(output, (base[name],) * len(TIMES))
        return torch.stack([one.flatten(1) for one in found])

    def step_jacobians(self, name: str) -> tuple[Tensor, Tensor]:
        """The same of each call's own output, and ‖y‖² of it."""
        base, inputs = self.weights(), []
        with torch.no_grad():
            loop(lambda _, x, t: (inputs.append(x.clone()), self.model(x, t))[1])

        def output(place: int, weight: Tensor) -> Tensor:
            return functional_call(self.model, {**base, name: weight}, (inputs[place], TIMES[place])).reshape(
                -1
            )

        found = [
            torch.autograd.functional.jacobian(lambda w, k=k: output(k, w), base[name]).flatten(1)
            for k in range(len(TIMES))
        ]
        power = [float(output(k, base[name]).square().sum()) for k in range(len(TIMES))]
        return torch.stack(found), torch.tensor(power)

    @property
    def power(self) -> float:
        return float(self.run(0).detach().square().sum())

    def measure(self, estimator: str, **options: Any) -> dict[str, np.ndarray[Any, Any]]:
        method: Any
        span: Any
        method, span = estimator.split(":")
        asked: dict[str, Any] = {"runs": 6, "probe": Basis(1 if span == "trajectory" else 3)} | options
        found = importance_by_gradients(
            self.model, self.run, self.checkpoint, self.records, method=method, span=span, **asked
        )
        return {name: found.layers[name].sensitivity[estimator] for name in self.names}


@pytest.fixture
def case(store: Any) -> Case:
    torch.manual_seed(1)
    model = Tiny()
    return Case(model, store(model))


def test_fisher_along_a_trajectory_is_the_exact_jacobian_of_the_whole_loop(case: Case) -> None:
    found = case.measure("fisher:trajectory")
    for name in case.names:
        whole = float(case.jacobians(name).sum(0).square().sum()) / case.power
        assert found[name].sum() == pytest.approx(whole, rel=1e-4)


def test_each_bucket_has_what_its_own_calls_do(case: Case) -> None:
    """Buckets ascend in time, calls descend."""
    found, coherent = (case.measure("fisher:trajectory", coherent=value) for value in (False, True))
    for name in case.names:
        each = case.jacobians(name).square().sum((1, 2)).flip(0).numpy() / case.power
        np.testing.assert_allclose(found[name], each, rtol=1e-4)
        np.testing.assert_allclose(coherent[name] / coherent[name].sum(), each / each.sum(), rtol=1e-4)


def test_buckets_of_several_times_have_the_sum(case: Case) -> None:
    fine = case.measure("fisher:trajectory", coherent=False)
    with torch.no_grad(), capture(case.model, case.checkpoint, buckets=2) as rec:
        case.run(0)
    case.records = rec.records
    assert case.records.buckets.tolist() == [[1, 2], [3, 3]]
    coarse = case.measure("fisher:trajectory", coherent=False)
    for name in case.names:
        np.testing.assert_allclose(coarse[name], [fine[name][:2].sum(), fine[name][2]], rtol=1e-5)


def test_fisher_through_one_step_is_the_exact_jacobian_of_each_call(case: Case) -> None:
    found = case.measure("fisher:step")
    for name in case.names:
        jacobians, power = case.step_jacobians(name)
        each = (jacobians.square().sum((1, 2)) / power).flip(0).numpy() / len(TIMES)
        np.testing.assert_allclose(found[name], each, rtol=1e-4)


@pytest.mark.parametrize("span", ["trajectory", "step"])
def test_white_is_the_jacobian_of_the_layers_outputs(case: Case, span: str) -> None:
    """‖∂y/∂y_l‖_F²·E‖x_l‖² / ‖y‖², each position by itself."""
    found = case.measure(f"white:{span}")
    shapes = {"proj_in.weight": (2, 4), "proj_out.weight": (2, 3)}
    inputs: dict[str, list[Tensor]] = {name: [] for name in case.names}
    given: list[Tensor] = []
    for name in case.names:

        def trace(shift: Tensor, place: int, name: str = name, record: bool = False) -> Tensor:
            """The loop with one layer's output in one call moved; or that call alone."""

            def call(number: int, x: Tensor, t: float) -> Tensor:
                here = shift if number == place else torch.zeros_like(shift)
                hidden = case.model.proj_in(x) + (here if name == "proj_in.weight" else 0)
                mixed = torch.tanh(hidden * (1 + t / 2))
                if record:
                    inputs["proj_in.weight"].append(x.detach())
                    inputs["proj_out.weight"].append(mixed.detach())
                    given.append(x.detach())
                return case.model.proj_out(mixed) + (here if name == "proj_out.weight" else 0)

            if span == "step" and not record:
                return call(place, given[place], TIMES[place])
            return loop(call)

        zero = torch.zeros(shapes[name])
        for found_inputs in (*inputs.values(), given):
            found_inputs.clear()
        trace(zero, 0, record=True)
        expected = []
        for place in range(len(TIMES)):
            jacobian = torch.autograd.functional.jacobian(lambda s, p=place: trace(s, p).reshape(-1), zero)
            power = trace(zero, place).detach().square().sum()
            reach = inputs[name][place].square().sum(1).mean()
            expected.append(float(jacobian.square().sum() * reach / power))
        calls = len(TIMES) if span == "step" else 1
        np.testing.assert_allclose(found[name], np.array(expected[::-1]) / calls, rtol=1e-4)


@pytest.mark.parametrize("estimator", ["fisher:trajectory", "fisher:step"])
def test_gaussian_probes_come_near_the_exact_figures(case: Case, estimator: str) -> None:
    exact = case.measure(estimator)
    found = case.measure(estimator, runs=300, probe=gaussian)
    for name in case.names:
        assert found[name].sum() == pytest.approx(exact[name].sum(), rel=0.2)


@pytest.mark.parametrize("method", ["fisher", "white"])
def test_computing_again_on_the_way_back_gives_the_same(case: Case, method: str) -> None:
    plain, again = (case.measure(f"{method}:trajectory", recompute=value) for value in (False, True))
    for name in case.names:
        np.testing.assert_allclose(again[name], plain[name], rtol=1e-5)


def test_every_kind_of_layer_has_its_exact_jacobian(toy: Any, store: Any) -> None:
    """Convolutions, strided and grouped, an Embedding and shared positions, through two guided steps."""
    checkpoint = store(toy)
    x0 = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, 4])

    def generate(call: Callable[[Tensor, float, Tensor], Tensor]) -> Tensor:
        x = x0
        for time in (60.0, 20.0):
            both = call(torch.cat([x, x]), time, torch.cat([labels, labels * 0]))
            x = x - 0.5 * (both[2:] + 2 * (both[:2] - both[2:]))
        return x.mean((2, 3))

    def run(number: int) -> Tensor:
        return generate(toy)

    with torch.no_grad(), capture(toy, checkpoint) as rec:
        power = float(run(0).square().sum())
    found = importance_by_gradients(toy, run, checkpoint, rec.records, runs=8, probe=Basis())
    base = {name: value.detach() for name, value in toy.named_parameters()}
    assert set(found.layers) == {name for name in base if name.endswith("weight") and "norm" not in name}
    for name, record in found.layers.items():

        def output(weight: Tensor, name: str = name) -> Tensor:
            return generate(lambda *args: functional_call(toy, {**base, name: weight}, args))

        jacobian = torch.autograd.functional.jacobian(output, base[name])
        assert record.sensitivity["fisher:trajectory"].sum() == pytest.approx(
            float(jacobian.square().sum()) / power, rel=1e-3
        )


def test_a_weight_that_two_layers_share_counts_for_both(store: Any) -> None:
    """As the output projection of a language model that is its embedding too."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_tokens = nn.Embedding(7, 3)

            class Inner(nn.Module):
                def __init__(self, weight: nn.Parameter) -> None:
                    super().__init__()
                    self.weight = weight

                def forward(self, x: Tensor) -> Tensor:
                    return nn.functional.linear(x, self.weight)

            self.head = Inner(self.embed_tokens.weight)

        def forward(self, ids: Tensor, t: float) -> Tensor:
            return self.head(torch.tanh(self.embed_tokens(ids)))

    torch.manual_seed(0)
    model, ids = Tied(), torch.tensor([1, 4, 4])
    checkpoint = store(nn.ModuleDict({"embed_tokens": model.embed_tokens}))

    def run(number: int) -> Tensor:
        return model(ids, 1.0)

    with torch.no_grad(), capture(model, checkpoint) as rec:
        power = float(run(0).square().sum())
    before = model.head.weight
    found = importance_by_gradients(model, run, checkpoint, rec.records, runs=21, probe=Basis())
    assert model.head.weight is model.embed_tokens.weight is before

    def output(weight: Tensor) -> Tensor:
        return nn.functional.linear(torch.tanh(weight[ids]), weight)

    jacobian = torch.autograd.functional.jacobian(output, before.detach())
    assert found.layers["embed_tokens.weight"].sensitivity["fisher:trajectory"].sum() == pytest.approx(
        float(jacobian.square().sum()) / power, rel=1e-4
    )


def test_a_forward_of_its_own_is_kept(case: Case) -> None:
    """Some libraries put a function in place of a model's forward."""
    plain = case.measure("fisher:trajectory")
    own = case.model.forward
    case.model.forward = own  # type: ignore[method-assign]
    again = case.measure("fisher:trajectory", recompute=True)
    assert vars(case.model)["forward"] is own
    for name in case.names:
        np.testing.assert_allclose(again[name], plain[name], rtol=1e-5)


def test_directional_is_what_a_change_does_to_first_order(case: Case) -> None:
    chance = torch.Generator().manual_seed(0)
    deltas = {
        (name, key): torch.randn(case.weights()[name].shape, generator=chance)
        for name in case.names
        for key in ("a", "b")
    }
    whole = directional(case.model, case.run, case.checkpoint, case.records, deltas, runs=6, probe=Basis())
    steps = directional(
        case.model, case.run, case.checkpoint, case.records, deltas, span="step", runs=6, probe=Basis(3)
    )
    assert set(whole) == set(steps) == set(deltas)
    for (name, key), delta in deltas.items():
        moved = case.jacobians(name).sum(0) @ delta.reshape(-1)
        assert whole[name, key] == pytest.approx(float(moved.square().sum()) / case.power, rel=1e-4)
        jacobians, power = case.step_jacobians(name)
        each = (jacobians @ delta.reshape(-1)).square().sum(1) / power
        assert steps[name, key] == pytest.approx(float(each.mean()), rel=1e-4)


def test_noise_by_trial_comes_near_the_exact_jacobian(case: Case) -> None:
    found = importance_by_trial(case.model, case.run, case.checkpoint, case.records, level=1e-6, runs=300)
    for name in case.names:
        exact = float(case.jacobians(name).sum(0).square().sum()) / case.power
        values = found.layers[name].sensitivity["noise"]
        assert values.sum() == pytest.approx(exact, rel=0.15)
        assert values == pytest.approx(np.full(3, values.sum() / 3))


def test_a_given_change_is_measured_as_it_is(case: Case) -> None:
    """a·Δ² is ‖Δy‖²/‖y‖² of the very change; layers without one are left out."""
    delta = 0.05 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    before = case.run(0).detach()
    found = importance_by_trial(
        case.model, case.run, case.checkpoint, case.records, deltas={"proj_in.weight": delta}
    )
    with torch.no_grad():
        case.model.proj_in.weight += delta
        after = case.run(0)
    error = float((after - before).square().sum() / before.square().sum())
    values = found.layers["proj_in.weight"].sensitivity["measured"]
    assert values.sum() * float(delta.square().mean()) == pytest.approx(error, rel=1e-4)
    assert found.layers["proj_out.weight"].sensitivity == {}


def test_a_distance_may_be_given(case: Case) -> None:
    found = importance_by_trial(
        case.model, case.run, case.checkpoint, case.records, level=0.5, distance=lambda one, other: 7.0
    )
    name = "proj_out.weight"
    chance = torch.Generator().manual_seed(1)
    power = float(
        (torch.randn(3, 4, generator=chance).square().mean()) * 0.5 * case.weights()[name].square().mean()
    )
    assert found.layers[name].sensitivity["noise"].sum() == pytest.approx(7.0 / power, rel=1e-4)


def test_what_trial_finds_is_shared_by_the_calls_in_which_a_layer_ran(store: Any) -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj_in, self.proj_out = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor, t: float) -> Tensor:
            return self.proj_out(x) if t < 2 else self.proj_in(x)

    model = Late()
    checkpoint = store(model)

    def run(number: int) -> Tensor:
        return loop(lambda _, x, t: model(x, t))

    with torch.no_grad(), capture(model, checkpoint) as rec:
        run(0)
    found = importance_by_trial(model, run, checkpoint, rec.records, runs=2)
    late = found.layers["proj_out.weight"].sensitivity["noise"]
    assert late[0] > 0
    assert np.isnan(late[1:]).all()
    early = found.layers["proj_in.weight"].sensitivity["noise"]
    assert np.isnan(early[0])
    assert early[1] == early[2] > 0
    measured = importance_by_gradients(model, run, checkpoint, rec.records, runs=6, probe=Basis())
    assert np.isnan(measured.layers["proj_out.weight"].sensitivity["fisher:trajectory"]).tolist() == [
        False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize("way", ["fisher", "white", "trial"])
def test_a_layer_that_did_not_run_is_warned_of_and_not_of_no_importance(way: Any, store: Any) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj, self.detail = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor, t: float, detailed: bool = False) -> Tensor:
            return self.detail(self.proj(x)) if detailed else self.proj(x)

    model = Branches()
    checkpoint = store(model)
    with torch.no_grad(), capture(model, checkpoint) as rec:
        loop(lambda _, x, t: model(x, t, detailed=True))

    def run(number: int) -> Tensor:
        return loop(lambda _, x, t: model(x, t))

    measure: Callable[..., CalibrationRecords] = (
        importance_by_trial if way == "trial" else partial(importance_by_gradients, method=way, runs=2)
    )
    with pytest.warns(MissingLayersWarning, match="1 of 2 layers: detail.weight .did not run") as caught:
        found = measure(model, run, checkpoint, rec.records)
    assert list(caught[0].message.layers) == ["detail.weight"]  # type: ignore[union-attr]
    assert found.layers["detail.weight"].sensitivity == {}
    (sensitivity,) = found.layers["proj.weight"].sensitivity.values()
    assert sensitivity.sum() > 0


def test_a_categorical_probe_measures_the_curvature_of_the_kl_divergence(case: Case) -> None:
    """E⟨∇s, ΔW⟩² = 2·KL(p ‖ p̂) per place for a small change."""
    deltas = {
        (name, 0): 0.01 * torch.randn(value.shape, generator=torch.Generator().manual_seed(3))
        for name, value in case.weights().items()
        if name in case.names
    }
    found = directional(
        case.model, case.run, case.checkpoint, case.records, deltas, probe=categorical, runs=800
    )
    for (name, _), delta in deltas.items():
        with torch.no_grad():
            p = case.run(0).double().log_softmax(1)
            parameter = dict(case.model.named_parameters())[name]
            parameter += delta
            q = case.run(0).double().log_softmax(1)
            parameter -= delta
        divergence = float((p.exp() * (p - q)).sum(1).mean())
        assert found[name, 0] == pytest.approx(2 * divergence, rel=0.25)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_steps_are_replayed_with_the_inputs_they_had(case: Case, mode: Any) -> None:
    """A loop that changes its images in place, and cannot be differentiated, gives the same steps."""
    expected = case.measure("fisher:step")

    def run(number: int) -> Tensor:
        with mode():
            x = start()
            for time in TIMES:
                x.sub_(0.4 * case.model(x, time))
            return x

    case.run = run  # type: ignore[method-assign]
    found = case.measure("fisher:step")
    for name in case.names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_the_output_may_be_wrapped(case: Case) -> None:
    expected = case.measure("fisher:step")

    plain = Tiny.forward
    for wrap in (
        lambda y: (y, None),
        lambda y: SimpleNamespace(sample=y),
        lambda y: SimpleNamespace(logits=y),
    ):

        class Wrapping(Tiny):
            def forward(self, x: Tensor, t: float, wrap: Any = wrap) -> Any:
                return wrap(plain(self, x, t))

        case.model.__class__ = Wrapping

        def run(number: int) -> Tensor:
            def call(_: int, x: Tensor, t: float) -> Tensor:
                found = case.model(x, t)
                return found[0] if isinstance(found, tuple) else next(iter(vars(found).values()))

            return loop(call)

        case.run = run  # type: ignore[method-assign]
        for name, values in case.measure("fisher:step").items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-5)


def state(model: nn.Module) -> list[Any]:
    found: list[Any] = [sorted(vars(model))]
    for module in model.modules():
        found.append([sorted(module._parameters), len(module._forward_hooks), len(module._forward_pre_hooks)])
        for name, parameter in module._parameters.items():
            if parameter is not None:
                grad = None if parameter.grad is None else (id(parameter.grad), parameter.grad.tolist())
                hooks = parameter._backward_hooks, parameter._post_accumulate_grad_hooks
                found.append([name, id(parameter), parameter.data_ptr(), parameter.tolist()])
                found.append([parameter.requires_grad, grad, [bool(one) for one in hooks]])
    return found


WAYS: dict[str, dict[str, Any]] = {
    "fisher": {},
    "step": {"span": "step"},
    "white": {"method": "white"},
    "white step": {"method": "white", "span": "step"},
    "recompute": {"recompute": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ending", ["well", "probe", "run", "cancel", "callback"])
def test_the_model_is_left_as_it_was(case: Case, way: str, ending: str) -> None:
    model = case.model
    model.proj_in.weight.grad = torch.full((4, 3), 2.0)
    model.proj_out.weight.requires_grad_(False)
    before = state(model)
    cancel = threading.Event()
    options: dict[str, Any] = {"runs": 2, "cancel": cancel, **WAYS[way]}

    def broken(*_: Any) -> Any:
        raise KeyError("broken")

    run: Any = case.run
    match ending:
        case "probe":
            options["probe"] = broken
        case "run":

            def run(number: int) -> Tensor:
                return loop(lambda place, x, t: model(x, t) if place < 2 else broken())

        case "cancel":
            cancel.set()
        case "callback":
            options["callback"] = broken
    if ending == "well":
        importance_by_gradients(model, run, case.checkpoint, case.records, **options)
    else:
        with pytest.raises(CancelledError if ending == "cancel" else KeyError):
            importance_by_gradients(model, run, case.checkpoint, case.records, **options)
    assert state(model) == before


@pytest.mark.parametrize("ending", ["well", "run", "cancel"])
def test_trials_leave_the_model_as_it_was(case: Case, ending: str) -> None:
    before, cancel, runs = state(case.model), threading.Event(), []

    def run(number: int) -> Tensor:
        runs.append(number)
        if len(runs) == 2 and ending == "run":
            raise KeyError("broken")
        if len(runs) == 2 and ending == "cancel":
            cancel.set()
        return case.run(number)

    if ending == "well":
        importance_by_trial(case.model, run, case.checkpoint, case.records, cancel=cancel)
    else:
        with pytest.raises(CancelledError if ending == "cancel" else KeyError):
            importance_by_trial(case.model, run, case.checkpoint, case.records, cancel=cancel)
        assert len(runs) == 2
    assert state(case.model) == before


@pytest.mark.parametrize("span", ["trajectory", "step"])
def test_progress_is_told(case: Case, span: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.work.REFRESH_SECONDS", 0.0)
    heard: list[float] = []
    importance_by_gradients(
        case.model, case.run, case.checkpoint, case.records, span=span, runs=4,
        callback=lambda fraction, message: heard.append(fraction),
    )  # fmt: skip
    assert heard == sorted(heard)
    assert heard[0] <= 0.25
    assert 0.25 <= heard[len(heard) // 2] <= 0.75
    assert heard[-1] == 1.0


def test_a_loop_that_cannot_be_differentiated_is_an_error_that_says_what_to_do(case: Case) -> None:
    @torch.no_grad()
    def run(number: int) -> Tensor:
        return case.run(number)

    with pytest.raises(ValidationError, match=r"without torch\.no_grad .*span='step' or importance_by_trial"):
        importance_by_gradients(case.model, run, case.checkpoint, case.records)
    with torch.no_grad():
        importance_by_gradients(case.model, case.run, case.checkpoint, case.records, runs=1)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"span": "steps"}, "span"),
        ({"method": "black"}, "method"),
        ({"runs": 0}, "runs"),
        ({"runs": -1}, "runs"),
    ],
)
def test_settings_that_are_not_allowed(case: Case, options: dict[str, Any], key: str) -> None:
    calls: tuple[Callable[..., Any], ...] = (importance_by_gradients,)
    if key != "method":

        def towards(module: Any, run: Any, checkpoint: Any, records: Any, **given: Any) -> Any:
            return directional(module, run, checkpoint, records, {}, **given)

        calls += (towards,)
    if key == "runs":
        calls += (importance_by_trial,)
    for call in calls:
        with pytest.raises(ArgumentError, match="allowed: ") as raised:
            call(case.model, case.run, case.checkpoint, case.records, **options)
        assert raised.value.key == key


@pytest.mark.parametrize("level", [0.0, -1.0, float("nan")])
def test_noise_needs_a_level(case: Case, level: float) -> None:
    with pytest.raises(ArgumentError, match="level"):
        importance_by_trial(case.model, case.run, case.checkpoint, case.records, level=level)


def test_changes_of_layers_without_a_record_are_refused_by_name(case: Case) -> None:
    with pytest.raises(ValidationError, match="'nobody'") as raised:
        directional(case.model, case.run, case.checkpoint, case.records, {("nobody", 0): torch.ones(1)})
    assert raised.value.tensor == "nobody"
    with pytest.raises(ValidationError, match="'nobody'"):
        importance_by_trial(
            case.model, case.run, case.checkpoint, case.records, deltas={"nobody": torch.ones(1)}
        )


def test_records_of_another_checkpoint_are_refused(case: Case, store: Any) -> None:
    other = store(Tiny(), name="other")
    with pytest.raises(ValidationError, match="made with other weights"):
        importance_by_gradients(case.model, case.run, other, case.records)


def test_records_by_another_clock_are_refused(case: Case) -> None:
    with pytest.raises(ArgumentError, match="as 'timestep', this clock as 'time'") as raised:
        case.measure("fisher:step", time=lambda module, args, kwargs: 0.0)
    assert raised.value.key == "time"


def test_a_sensitivity_that_is_no_number_names_its_layer(case: Case) -> None:
    with pytest.raises(ValidationError, match=r"sensitivity of 'proj_in\.weight' came out as .*nan"):
        case.measure("fisher:trajectory", probe=lambda output, chance: output.sum() * float("nan"))
    for values in ([1.0, -1.0, 0.0], [float("inf"), 0.0, 0.0]):
        with pytest.raises(ValidationError, match=r"'proj_out\.weight'"):
            with_sensitivity(case.records, "own", {"proj_out.weight": np.array(values)})


def test_measurements_are_kept_beside_each_other_and_survive_the_file(case: Case, tmp_path: Any) -> None:
    records: CalibrationRecords = case.records
    for method in ("fisher", "white"):
        for span in ("trajectory", "step"):
            records = importance_by_gradients(
                case.model, case.run, case.checkpoint, records, method=method, span=span, runs=1
            )
    records = importance_by_trial(case.model, case.run, case.checkpoint, records)
    assert records.estimators == (
        "fisher:step", "fisher:trajectory", "noise", "white:step", "white:trajectory",
    )  # fmt: skip
    assert case.records.estimators == ()
    records.save(tmp_path / "calibration.parquet")
    assert CalibrationRecords.load(tmp_path / "calibration.parquet").digest == records.digest
