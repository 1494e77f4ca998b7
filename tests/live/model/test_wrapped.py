"""Guards models that other libraries have wrapped: each layer counts or is named, and nothing is replaced in vain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import workbench as wb
from workbench.checkpoint import Checkpoint
from workbench.errors import ArgumentError, ValidationError
from workbench.live import (
    MissingLayersWarning,
    apply,
    capture,
    compare,
    importance_by_gradients,
    importance_by_trial,
    match_modules,
)
from workbench.plan import Plan
from workbench.session import Session

Store = Callable[..., Any]


def quantized(plan: Plan) -> set[str]:
    return {name for name, option in plan.choices.items() if not option.is_kept}


def run(model: Any, number: int = 0) -> Tensor:
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(number))
    for time in (90.0, 10.0):
        x = model(x, time, torch.tensor([0, 3, 3]))
    return x


@pytest.fixture
def checkpoint(toy: Any, store: Store) -> Checkpoint:
    return store(toy)


@pytest.fixture
def session(toy: Any, checkpoint: Checkpoint, tmp_path: Path) -> Iterator[Session]:
    with torch.no_grad(), capture(toy, checkpoint) as rec:
        run(toy)
    with wb.open(checkpoint.path, calibration=rec.records, num_time_groups=2, cache=tmp_path) as session:
        session.set_bits("*", 3)
        yield session


@pytest.fixture
def plan(session: Session) -> Plan:
    return session.plan


@pytest.fixture
def by_plan(toy: Any, plan: Plan, checkpoint: Checkpoint) -> Tensor:
    """What the bare model gives with the plan's weights."""
    with torch.no_grad(), apply(toy, plan, checkpoint):
        return run(toy)


class Adapted(nn.Module):
    """What PEFT puts in a linear's place."""

    def __init__(self, base: nn.Linear, scale: float = 0.0) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, base.out_features, bias=False)})
        nn.init.constant_(self.lora_B["default"].weight, scale)

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
        return self.base_layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))


class Offload:
    """Weights on the meta device except during a call, by hooks that nobody knows."""

    def __init__(self, module: nn.Module) -> None:
        self.store = {name: parameter.data for name, parameter in module.named_parameters(recurse=False)}
        self.put(module, False)
        module.register_forward_pre_hook(lambda m, args: self.put(m, True))
        module.register_forward_hook(lambda m, args, output: self.put(m, False))

    def put(self, module: nn.Module, there: bool) -> None:
        for name, value in self.store.items():
            kept = value if there else torch.empty_like(value, device="meta")
            setattr(module, name, nn.Parameter(kept, requires_grad=False))


def with_adapters(model: Any, folder: Path) -> Any:
    for name in ("to_q", "to_k"):
        setattr(model, name, Adapted(getattr(model, name)).eval())
    return model


def parallel(model: Any, folder: Path) -> Any:
    return nn.DataParallel(model)


def offloaded(model: Any, folder: Path) -> Any:
    return cpu_offload(model.requires_grad_(False), execution_device=torch.device("cpu"))


def offloaded_to_disk(model: Any, folder: Path) -> Any:
    return disk_offload(model.requires_grad_(False), str(folder), execution_device=torch.device("cpu"))


def replaced_forward(model: Any, folder: Path) -> Any:
    own = model.forward
    model.forward = lambda *args, **kwargs: own(*args, **kwargs)
    return model


def offloaded_by_unknown_hooks(model: Any, folder: Path) -> Any:
    for name in (
        "conv_in",
        "conv_line",
        "to_q",
        "to_k",
        "proj_out",
        "label_embed",
        "time_embed",
        "conv_grouped",
    ):
        Offload(getattr(model, name))
    return model


def normed(model: Any, folder: Path) -> Any:
    parametrizations.weight_norm(model.to_k)
    return model


def normed_by_hook(model: Any, folder: Path) -> Any:
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(model.to_k)
    return model


TRANSPARENT = [with_adapters, parallel, offloaded, offloaded_to_disk, replaced_forward]
FIXED = [offloaded_by_unknown_hooks, normed, normed_by_hook]


def state(model: nn.Module) -> list[Any]:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    values = [None if value.is_meta else value.clone() for value in model.state_dict().values()]
    return [hooks, values]


def assert_same_state(one: list[Any], other: list[Any]) -> None:
    assert one[0] == other[0]
    for mine, its in zip(one[1], other[1], strict=True):
        assert (mine is None) == (its is None)
        assert mine is None or torch.equal(mine, its)


@pytest.mark.parametrize("wrap", [*TRANSPARENT, *FIXED])
def test_a_capture_records_every_layer(
    wrap: Any, toy: Any, checkpoint: Checkpoint, session: Session, tmp_path: Path
) -> None:
    assert session.time_aware is not None
    expected = session.time_aware.records
    model = wrap(toy, tmp_path)
    with torch.no_grad():
        before, own = state(model), run(model)
        with capture(model, checkpoint) as rec:
            run(model)
        assert torch.equal(run(model), own)
    assert_same_state(state(model), before)
    assert set(rec.records.layers) == set(expected.layers)
    assert not rec.records.missing(checkpoint)
    for name, record in rec.records.layers.items():
        np.testing.assert_allclose(record.second_moment, expected.layers[name].second_moment, rtol=1e-5)
        np.testing.assert_allclose(record.output_energy, expected.layers[name].output_energy, rtol=1e-5)


@pytest.mark.parametrize("wrap", TRANSPARENT)
def test_a_plan_is_applied_to_every_layer_and_undone_to_the_bit(
    wrap: Any, toy: Any, checkpoint: Checkpoint, plan: Plan, by_plan: Tensor, tmp_path: Path
) -> None:
    model = wrap(toy, tmp_path)
    with torch.no_grad():
        before, own = state(model), run(model)
        with apply(model, plan, checkpoint) as applied:
            assert set(applied.replaced) == quantized(plan)
            assert torch.equal(run(model), by_plan)
        assert torch.equal(run(model), own)
    assert_same_state(state(model), before)


@pytest.mark.parametrize("wrap", FIXED)
def test_weights_that_cannot_be_replaced_are_refused_by_name_and_nothing_is_changed(
    wrap: Any, toy: Any, checkpoint: Checkpoint, session: Session, tmp_path: Path
) -> None:
    assert session.time_aware is not None
    records = session.time_aware.records
    model = wrap(toy, tmp_path)
    refused = "meta device" if wrap is offloaded_by_unknown_hooks else r"to_k\.weight \(computed from other"
    with torch.no_grad():
        before, own = state(model), run(model)
    calls = [
        lambda: apply(model, session.plan, checkpoint),
        lambda: compare(model, lambda n: run(model, n), session, runs=1),
        lambda: importance_by_trial(model, lambda n: run(model, n), checkpoint, records),
        lambda: importance_by_gradients(model, lambda n: run(model, n), checkpoint, records, runs=1),
    ]
    for call in calls:
        with pytest.raises(ValidationError, match=refused):
            call()
    with torch.no_grad():
        assert torch.equal(run(model), own)
    assert_same_state(state(model), before)


def test_a_partial_application_must_be_asked_for_and_lists_what_it_left_out(
    toy: Any, checkpoint: Checkpoint, session: Session, tmp_path: Path
) -> None:
    model = normed(toy, tmp_path)
    with apply(model, session.plan, checkpoint, missing="ignore") as applied:
        assert set(applied.replaced) == quantized(session.plan) - {"to_k.weight"}
        assert list(applied.missing) == ["to_k.weight"]
        assert "tensors replaced, 1 left out" in repr(applied)
    with pytest.raises(ArgumentError, match="allowed: refuse or ignore"):
        apply(model, session.plan, checkpoint, missing="drop")  # type: ignore[arg-type]
    del model.label_embed
    model.to_q = nn.Identity()
    with pytest.raises(
        ValidationError,
        match=r"3 of 7 tensors .*label_embed\.weight \(not in the model\).*to_q\.weight \(hidden in a Identity\)",
    ):
        apply(model, session.plan, checkpoint)


def test_adapters_stay_on_top_of_the_plans_weights(toy: Any, checkpoint: Checkpoint, plan: Plan) -> None:
    toy.to_q = Adapted(toy.to_q, scale=0.3)
    assert match_modules(toy, checkpoint)["to_q.weight"] is toy.to_q.base_layer
    with torch.no_grad(), apply(toy, plan, checkpoint):
        with_plan = toy.to_q(torch.ones(1, 6))
        update = toy.to_q.lora_B["default"](toy.to_q.lora_A["default"](torch.ones(1, 6)))
        torch.testing.assert_close(with_plan, toy.to_q.base_layer(torch.ones(1, 6)) + update)
        assert float(update.abs().sum()) > 0


def test_a_module_used_twice_stands_for_one_layer_only(toy: Any, checkpoint: Checkpoint, plan: Plan) -> None:
    toy.to_q = toy.to_k

    def loop() -> wb.CalibrationRecords:
        with torch.no_grad(), capture(toy, checkpoint) as rec:
            run(toy)
        return rec.records

    reason = "the model uses the module of to_k.weight in its place"
    with pytest.warns(MissingLayersWarning, match=f"1 of 8 layers.*to_q.weight .{reason}") as caught:
        records = loop()
    assert caught[0].message.layers == {"to_q.weight": reason}  # type: ignore[union-attr]
    assert caught[0].filename == __file__
    assert records.missing(checkpoint) == {"to_q.weight": reason}
    assert records.not_recorded == records.missing(checkpoint)
    with pytest.raises(ValidationError, match=r"1 of 7 tensors .*to_q\.weight"):
        apply(toy, plan, checkpoint)


def test_two_layers_of_one_parameter_cannot_both_be_replaced(
    toy: Any, checkpoint: Checkpoint, plan: Plan
) -> None:
    toy.to_k.weight = toy.to_q.weight
    with pytest.raises(
        ValidationError, match=r"to_q\.weight \(the model has one weight for it and to_k\.weight\)"
    ):
        apply(toy, plan, checkpoint, check_weights=False)


def test_projections_that_a_block_runs_fused_are_named(sd3_model: Any, tmp_path: Path) -> None:
    model = sd3_model().eval()
    model.save_pretrained(tmp_path / "model")
    with wb.open(tmp_path / "model", target="parquet", cache=tmp_path / "cache") as session:
        model.fuse_qkv_projections()
        with pytest.raises(ValidationError, match=r"attn\.add_q_proj\.weight.*unfuse_qkv_projections"):
            apply(model, session.plan, tmp_path / "model")
        model.unfuse_qkv_projections()
        assert apply(model, session.plan, tmp_path / "model").replaced


def test_a_quantized_model_is_refused(toy: Any, checkpoint: Checkpoint) -> None:
    toy.to_q.weight = nn.Parameter(torch.zeros(6, 6, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValidationError, match=r"'to_q' is torch\.int8 in the running model"):
        capture(toy, checkpoint)


def test_copies_on_several_devices_are_refused(toy: Any, checkpoint: Checkpoint) -> None:
    model = nn.DataParallel(toy)
    model.device_ids = [0, 1]
    with pytest.raises(ArgumentError, match="over 2 devices"):
        capture(model, checkpoint)


def test_records_tell_what_they_lack_after_saving_and_merging(
    toy: Any, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    def loop(labels: Any) -> wb.CalibrationRecords:
        with torch.no_grad(), capture(toy, checkpoint) as rec:
            toy(torch.randn(3, 4, 8, 8), 10.0, labels)
        return rec.records

    with pytest.warns(MissingLayersWarning, match="label_embed"):
        records = loop(None)
    records.save(tmp_path / "calibration.parquet")
    loaded = wb.CalibrationRecords.load(tmp_path / "calibration.parquet")
    assert loaded.missing(checkpoint) == {"label_embed.weight": "never called"}
    assert wb.calibration.merge(loaded, records).not_recorded == {"label_embed.weight": "never called"}
    assert not wb.calibration.merge(loaded, loop(torch.tensor([0, 1, 2]))).not_recorded
