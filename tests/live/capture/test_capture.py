"""Guards the figures of a capture: they equal those computed from all activations, kept by hooks of the tests' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from workbench import zoo
from workbench.checkpoint import open_checkpoint
from workbench.live import MissingLayersWarning, capture, match_modules
from workbench.live.capture.observer import Observer
from workbench.zoo.digits_dit.sample import load, sample
from workbench.zoo.stdlib_mdlm.model import load as load_language_model

Store = Callable[..., Any]


def second(args: Any, kwargs: Any) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("t", kwargs.get("timestep"))


def check(
    model: nn.Module,
    checkpoint: Any,
    keep: Any,
    loop: Callable[[], Any],
    rel: float = 1e-5,
    read: Callable[[Any, Any], Any] = second,
    **options: Any,
) -> Any:
    keeper = keep(match_modules(model, checkpoint))
    with keeper.keeping(model, read), capture(model, checkpoint, **options) as rec:
        loop()
    records = rec.records
    keeper.check(records, rel)
    records.check_fit(checkpoint)
    return records


def images(batch: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 3, 3])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_every_kind_of_layer(mode: Any, toy: Any, store: Store, keep: Any) -> None:
    def loop() -> None:
        with mode():
            x = images()
            for t in (900.0, 500.0, 100.0):
                x = toy(x, t, LABELS)

    records = check(toy, store(toy), keep, loop)
    kinds = {name: record.kind for name, record in records.layers.items()}
    assert len(kinds) == 8
    assert kinds["label_embed.weight"] == "embedding"
    assert {name for name, kind in kinds.items() if kind == "conv"} == {
        "conv_in.weight", "conv_grouped.weight", "conv_line.weight",
    }  # fmt: skip
    assert records.steps[:, 0].tolist() == [100, 500, 900]
    assert records.shares.tolist() == pytest.approx([1 / 3] * 3)


def test_digits_dit_with_guidance(keep: Any) -> None:
    folder = zoo.locate("digits-dit")
    model, scheduler = load(folder, torch.float32)
    with open_checkpoint(str(folder)) as checkpoint:
        records = check(
            model, checkpoint, keep, lambda: sample(model, scheduler, [0, 1, 2, 3], steps=3), buckets=2
        )
    assert len(records.layers) == len(checkpoint.layers)
    assert records.step_calls.tolist() == [1, 1, 1]
    assert records.bucket_calls.sum() == 3
    assert len(records.buckets) == 2


def test_the_language_model_by_mask_ratio(keep: Any) -> None:
    folder = zoo.locate("stdlib-mdlm")
    model, tokenizer = load_language_model(folder, torch.float32)
    mask = tokenizer.mask_token_id
    chance = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, 1536, (4, 64), generator=chance)

    def loop() -> None:
        with torch.no_grad():
            for hidden in (48, 16):  # of 64 places: in the middle of the parts that begin at 3/4 and 1/4
                given = tokens.clone()
                given[:, :hidden] = mask
                model(given)

    def ratio(args: Any, kwargs: Any) -> float:
        return (float((args[0] == mask).double().mean()) * 64 + 0.5) / 64

    with open_checkpoint(str(folder)) as checkpoint:
        records = check(model, checkpoint, keep, loop, read=ratio)
    assert records.time == "mask ratio"
    assert records.buckets[:, 0].tolist() == [16.5 / 64, 48.5 / 64]
    assert len(records.layers) == 37


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8, attention_head_dim=8,
    ).eval()  # fmt: skip


@pytest.mark.parametrize("named", [False, True])
def test_a_unet_of_diffusers(unet: UNet2DModel, store: Store, keep: Any, named: bool) -> None:
    def loop() -> None:
        x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            for t in (torch.tensor(800), 400, torch.tensor([7])):
                x = unet(sample=x, timestep=t).sample if named else unet(x, t).sample

    records = check(unet, store(unet), keep, loop)
    assert records.steps[:, 0].tolist() == [7, 400, 800]
    assert records.time == "timestep"
    assert {record.kind for record in records.layers.values()} == {"linear", "conv"}


def test_half_of_a_unet_in_autocast(unet: UNet2DModel, store: Store, keep: Any) -> None:
    def loop() -> None:
        x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for t in (800, 400):
                x = unet(x, t).sample.float()

    check(unet, store(unet), keep, loop)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_modules(toy: Any, store: Store, keep: Any, dtype: torch.dtype) -> None:
    half = toy.to(dtype)

    def loop() -> None:
        with torch.no_grad():
            x = images().to(dtype)
            for t in (900.0, 100.0):
                x = half(x, t, LABELS)

    check(half, store(half), keep, loop)


def test_guidance_and_several_calls_a_step_add_up(toy: Any, store: Store, keep: Any) -> None:
    def loop() -> None:
        with torch.no_grad():
            x = images()
            for t in (600.0, 200.0):
                both = toy(torch.cat([x, x]), torch.full((6,), t), torch.cat([LABELS, LABELS * 0]))
                x = both[:3] + 1.5 * (both[3:] - both[:3])
                x = x + 0.1 * toy(x, t, LABELS)

    records = check(toy, store(toy), keep, loop)
    assert records.step_calls.tolist() == [2, 2]


def test_samples_of_one_batch_may_be_at_different_times(toy: Any, store: Store, keep: Any) -> None:
    def loop() -> None:
        with torch.no_grad():
            toy(images(4), torch.tensor([10.0, 30.0, 10.0, 20.0]), torch.tensor([0, 1, 2, 3]))
            toy(images(4, 1), torch.tensor([30, 30, 30, 30]))
            toy(images(4, 2), torch.tensor([20.0, 30.0, 20.0, 30.0]))

    records = check(toy, store(toy), keep, loop)
    assert records.steps[:, 0].tolist() == [10, 20, 30]
    assert records.step_calls.tolist() == pytest.approx([0.5, 0.75, 1.75])
    assert records.layers["label_embed.weight"].count.tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    "time", [300, 300.0, torch.tensor(300), torch.tensor([300]), torch.full((3,), 300, dtype=torch.int32)]
)
@pytest.mark.parametrize("named", [False, True])
def test_times_of_every_form(toy: Any, store: Store, time: Any, named: bool) -> None:
    with torch.no_grad(), capture(toy, store(toy)) as rec:
        toy(images(), t=time, labels=LABELS) if named else toy(images(), time, LABELS)
    assert rec.records.steps.tolist() == [[300, 300]]


class InPlace(nn.Module):
    """Layers that are given the same tensor, changed in between."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor, t: float) -> Tensor:
        x = x.clone()
        q = self.to_q(x)
        x.mul_(2)
        k = self.to_k(x)
        x[0] += 1
        return q + k + self.to_v(x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inputs_changed_in_place_are_measured_anew(mode: Any, store: Store, keep: Any) -> None:
    model = InPlace()

    def loop() -> None:
        with mode():
            model(torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), 1.0)

    records = check(model, store(model), keep, loop)
    assert records.second_moment("to_k.weight") == pytest.approx(4 * records.second_moment("to_q.weight"))


class Shared(nn.Module):
    """A convolution and Linears that are given the very same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 2, 1)
        self.to_q, self.to_k = nn.Linear(7, 2), nn.Linear(7, 2)

    def forward(self, x: Tensor, t: float) -> Tensor:
        return self.to_q(x).sum() + self.conv(x).sum() + self.to_k(x).sum()


def test_layers_of_different_kinds_may_share_an_input(store: Store, keep: Any) -> None:
    model = Shared()
    records = check(model, store(model), keep, lambda: model(torch.randn(2, 3, 7), 1.0))
    assert {name: record.channels for name, record in records.layers.items()} == {
        "conv.weight": 3, "to_k.weight": 7, "to_q.weight": 7,
    }  # fmt: skip


class Twice(nn.Module):
    """A layer that a call uses twice, and one of which it uses a part of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.fc2(self.fc1(self.fc1(x))[:, 1:])


def test_layers_used_twice_or_for_a_part(store: Store, keep: Any) -> None:
    model = Twice()

    def loop() -> None:
        for t in (torch.tensor([3.0, 4.0]), torch.tensor([4.0, 4.0])):
            model(torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(int(t.sum()))), t)

    records = check(model, store(model), keep, loop)
    assert records.layers["fc1.weight"].count.tolist() == [6, 18]
    assert records.layers["fc2.weight"].count.tolist() == [2, 6]


def test_shared_inputs_are_measured_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.to_q, self.to_k, self.to_v = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 5)

        def forward(self, x: Tensor, t: float) -> Tensor:
            return self.to_q(x) + self.to_k(x) + self.to_v(x)

    measured, original = [], Observer._channels
    monkeypatch.setattr(Observer, "_channels", lambda *args: measured.append(1) or original(*args))
    model = Attention()
    with torch.no_grad(), capture(model, store(model)):
        model(torch.randn(2, 5), 1.0)
        model(torch.randn(2, 5), 2.0)
    assert len(measured) == 2


class Unbatched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, (2, 3), groups=2)
        self.line = nn.Linear(4, 3)

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return self.line(input=self.conv(x).mean((1, 2)))


def test_inputs_without_a_batch_axis(store: Store) -> None:
    model, x = Unbatched(), torch.randn(2, 5, 6)
    with torch.no_grad(), capture(model, store(model)) as rec:
        model(x, 0.5)
    record = rec.records.layers["conv.weight"]
    assert record.count.tolist() == [30]
    np.testing.assert_allclose(record.mean[0], x.mean((1, 2)), rtol=1e-5, atol=1e-7)
    assert rec.records.layers["line.weight"].count.tolist() == [1]


def test_more_times_than_buckets_are_taken_together_exactly(toy: Any, store: Store, keep: Any) -> None:
    times = torch.linspace(1000, 0, 100).tolist()

    def loop() -> None:
        with torch.no_grad():
            for place, t in enumerate(times):
                toy(images(1, place), t, torch.tensor([place % 5]))

    records = check(toy, store(toy), keep, loop)
    assert len(records.steps) == 100
    assert len(records.buckets) == 64
    assert records.bucket_calls.sum() == 100


def test_more_times_than_steps_are_taken_together(store: Store) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed_tokens, self.head = nn.Embedding(4, 2), nn.Linear(2, 2)

        def forward(self, ids: Tensor, t: float) -> Tensor:
            return self.head(self.embed_tokens(ids))

    model = Tokens()
    with torch.no_grad(), capture(model, store(model), buckets=2) as rec:
        for time in range(1100):
            model(torch.tensor([[time % 4, 0]]), float(time))
    records = rec.records
    assert len(records.steps) == 1024
    for record in records.layers.values():
        assert record.steps.count.sum() == 1100 * (2 if record.kind == "embedding" else 4)


def test_planned_bytes_are_an_upper_bound(toy: Any, store: Store) -> None:
    rec = capture(toy, store(toy), buckets=8)
    with rec, torch.no_grad():
        for t in range(130):
            toy(images(8, t), float(t), torch.arange(8) % 5)
    held = 0
    for tally in rec._tallies.values():
        held += sum(one.sums.nbytes for one in tally.buckets.values())
        held += sum(one.sample.values.nbytes for one in tally.steps.values())
    assert held <= rec.planned_bytes
    assert rec.planned_bytes < 12e6
    assert 0 < rec.overhead < float("inf")
    assert "8 layers: 130 calls" in repr(rec)


def test_records_may_be_read_meanwhile_and_a_capture_goes_on(toy: Any, store: Store, keep: Any) -> None:
    checkpoint = store(toy)
    keeper, rec = keep(match_modules(toy, checkpoint)), capture(toy, checkpoint)

    def without_labels() -> None:
        with rec:
            toy(images(), 5.0)
            keeper.check(rec.records)

    with torch.no_grad(), keeper.keeping(toy, second):
        with pytest.warns(MissingLayersWarning, match=r"1 of 8 layers.*label_embed\.weight"):
            without_labels()
        with rec:
            toy(images(3, 1), 3.0, LABELS)
    keeper.check(rec.records)
