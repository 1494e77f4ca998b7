"""Guards that a model runs with exactly what an export decodes to, and is afterwards what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.calibration import ActivationTables, TimeAwareQuantizer
from workbench.checkpoint import Checkpoint
from workbench.errors import ArgumentError, ShapeMismatchError, ValidationError
from workbench.live import apply, capture
from workbench.session import Session

Store = Callable[..., Checkpoint]


def images(batch: int = 3) -> Tensor:
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def checkpoint(toy: nn.Module, store: Store) -> Checkpoint:
    return store(toy)


@pytest.fixture
def session(toy: Any, checkpoint: Checkpoint, tmp_path: Path) -> Iterator[Session]:
    """The toy at 3 bits, with the calibration of two times at which its inputs differ in size."""
    with capture(toy, checkpoint) as rec, torch.no_grad():
        toy(images(), 10.0, torch.arange(3))
        toy(20 * images(), 90.0, torch.arange(3))
    with wb.open(checkpoint.path, calibration=rec.records, num_time_groups=2, cache=tmp_path) as session:
        session.set_bits("*", 3)
        yield session


def test_a_plan_and_its_export_are_the_same_bit_for_bit(
    toy: Any, checkpoint: Checkpoint, session: Session, tmp_path: Path
) -> None:
    own = {name: value.clone() for name, value in toy.state_dict().items()}
    before = toy(images(), 10.0)
    session.export(tmp_path / "out").result()
    export = wb.load(tmp_path / "out")
    with apply(toy, session.plan, checkpoint) as applied:
        from_plan = toy(images(), 10.0)
        weights = {name: value.clone() for name, value in toy.state_dict().items()}
    assert set(applied.replaced) == {
        name for name, option in session.plan.choices.items() if not option.is_kept
    }
    for name, value in weights.items():
        np.testing.assert_array_equal(value.numpy(), export[name].reshape(value.shape))
    with apply(toy, str(tmp_path / "out"), checkpoint.path) as applied:
        assert torch.equal(toy(images(), 10.0), from_plan)
    assert set(applied.replaced) == set(own)
    assert not applied.missing
    assert not torch.equal(from_plan, before)
    assert torch.equal(toy(images(), 10.0), before)
    assert all(torch.equal(value, own[name]) for name, value in toy.state_dict().items())


def test_narrower_weights_are_rounded_half_to_even(toy: Any, store: Store, tmp_path: Path) -> None:
    half = toy.bfloat16()
    checkpoint = store(half)
    with wb.open(checkpoint.path, cache=tmp_path) as session:
        session.set_bits("*", 3)
        session.export(tmp_path / "out").result()
    export = wb.load(tmp_path / "out")
    apply(half, export, checkpoint)  # for good
    for name, value in half.state_dict().items():
        decoded = torch.from_numpy(np.asarray(export[name], np.float32)).reshape(value.shape)
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, decoded.bfloat16())


def rounded(x: Tensor, scale: float, zero: float) -> Tensor:
    return (((x / scale).round() + zero).clamp(0, 255) - zero) * scale


def recorded(session: Session) -> TimeAwareQuantizer:
    assert session.time_aware is not None
    return session.time_aware


@pytest.mark.parametrize(("mode", "groups"), [("int8-time", 2), ("int8-static", 1)])
def test_inputs_are_rounded_with_the_scale_of_their_time(
    toy: Any, checkpoint: Checkpoint, session: Session, mode: Any, groups: int
) -> None:
    tables = ActivationTables.from_dict(recorded(session).to_dict())
    tables = tables.static() if groups == 1 else tables
    seen: list[Tensor] = []
    toy.conv_in.register_forward_hook(lambda module, args, output: seen.append(args[0].clone()))
    with apply(toy, session.plan, checkpoint, activations=mode, tables=session.time_aware) as applied:
        assert set(applied.rounded) == {name for name in session.plan.choices if "label_embed" not in name}
        toy(images(), 10.0)
        toy(images(), 95.0)
    toy(images(), 10.0)
    for given, time in zip(seen[:2], (10.0, 95.0), strict=True):
        group = tables.group_at(time)
        scale, zero = (table["conv_in.weight"][group] for table in (tables.scales, tables.zero_points))
        torch.testing.assert_close(given, rounded(images(), float(scale), float(zero)), rtol=1e-5, atol=1e-6)
    assert torch.equal(seen[0], seen[1]) == (groups == 1)
    assert torch.equal(seen[2], images())


def test_each_sample_of_a_batch_has_the_scale_of_its_own_time(
    toy: Any, checkpoint: Checkpoint, session: Session
) -> None:
    def run(x: Tensor, t: Any) -> Tensor:
        found: Tensor = toy(x, t)
        return found

    with apply(toy, session.plan, checkpoint, activations="int8-time", tables=session.time_aware):
        together = run(images(2), torch.tensor([10.0, 90.0]))
        first, second = run(images(2)[:1], torch.tensor([10.0])), run(images(2)[1:], torch.tensor([90.0]))
    torch.testing.assert_close(together, torch.cat([first, second]), rtol=1e-5, atol=1e-6)


def test_an_export_carries_its_tables(
    toy: Any, checkpoint: Checkpoint, session: Session, tmp_path: Path
) -> None:
    session.export(tmp_path / "out").result()
    with apply(toy, tmp_path / "out", checkpoint, activations="int8-time"):
        from_export = toy(images(), 90.0)
    with apply(toy, session.plan, checkpoint, activations="int8-time", tables=session.time_aware):
        assert torch.equal(toy(images(), 90.0), from_export)


def test_what_does_not_fit_is_refused_and_changes_nothing(
    toy: Any, checkpoint: Checkpoint, session: Session, store: Store
) -> None:
    own = toy(images(), 10.0)
    with pytest.raises(ArgumentError, match="needs scales"):
        apply(toy, session.plan, checkpoint, activations="int8-time")
    with pytest.raises(ArgumentError, match="allowed: none, int8-time, int8-static"):
        apply(toy, session.plan, checkpoint, activations="int4")  # type: ignore[arg-type]
    other = type(toy)()
    with pytest.raises(ValidationError, match="another checkpoint"):
        apply(toy, session.plan, store(other, name="other"))
    wider = type(toy)()
    wider.to_q = nn.Linear(7, 6)
    with pytest.raises(ShapeMismatchError):
        apply(wider, session.plan, checkpoint)
    assert torch.equal(toy(images(), 10.0), own)


def test_tables_of_few_groups_serve_all_times(session: Session) -> None:
    data = recorded(session).to_dict()
    for entry in data["layers"].values():  # the layer ran in the second group only
        for key in entry:
            entry[key] = entry[key][1:]
    tables = ActivationTables.from_dict(data)
    full = ActivationTables.from_dict(recorded(session).to_dict())
    for name, scale in tables.scales.items():
        assert scale.tolist() == [full.scales[name][1]] * 2
    assert [full.group_at(time) for time in (-1.0, 10.0, 49.9, 50.1, 1000.0)] == [0, 0, 0, 1, 1]


def test_one_range_covers_those_of_all_groups(session: Session) -> None:
    time_aware = recorded(session)
    tables = ActivationTables.from_dict(time_aware.to_dict())
    static = tables.static()
    for name in tables.scales:
        low, high = time_aware.ranges(name)[:, 0].min(), time_aware.ranges(name)[:, 1].max()
        scale, zero = static.scales[name][0], static.zero_points[name][0]
        assert -zero * scale == pytest.approx(low, abs=scale)
        assert (255 - zero) * scale == pytest.approx(high, abs=scale)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop("groups"),
        lambda data: data.update(bits=4),
        lambda data: data["groups"].reverse(),
        lambda data: data["groups"][0].update(low="0"),
        lambda data: data["layers"]["to_q.weight"].update(scale=[1.0]),
        lambda data: data["layers"]["to_q.weight"].update(scale=[0.0, 1.0]),
        lambda data: data["layers"]["to_q.weight"].update(scale=[float("nan"), 1.0]),
        lambda data: data["layers"]["to_q.weight"].update(group=[0, 2]),
        lambda data: data["layers"]["to_q.weight"].update(zero_point=[0, 256]),
        lambda data: data.update(layers=[]),
    ],
)
def test_spoilt_tables_are_refused(session: Session, spoil: Callable[[dict[str, Any]], Any]) -> None:
    data = recorded(session).to_dict()
    spoil(data)
    with pytest.raises(wb.MetadataError, match="Export again"):
        ActivationTables.from_dict(data)
