"""Small denoisers with checkpoints of their own, and a referee that keeps every activation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint, open_checkpoint


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    # Two threads that wait for each other take twenty times as long when another process has one of the cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Toy(nn.Module):
    """Every kind of layer that can be watched: [n, 4, 8, 8] images, a time and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.label_embed = nn.Embedding(5, 6)
        self.time_embed = nn.Linear(2, 6)
        self.conv_in = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.conv_grouped = nn.Conv2d(8, 6, 2, groups=2, bias=False)
        self.conv_line = nn.Conv1d(6, 6, 3, padding=1)
        self.to_q = nn.Linear(6, 6, bias=False)
        self.to_k = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.proj_out = nn.Linear(6, 4)

    def forward(self, x: Tensor, t: Tensor | float, labels: Tensor | None = None) -> Tensor:
        time = torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1) / 100
        context = self.time_embed(torch.cat([time.sin(), time.cos()], dim=1).to(x.dtype))
        if labels is not None:
            context = context + self.label_embed(labels)
        y = self.conv_grouped(nn.functional.silu(self.conv_in(x))).flatten(2)
        y = self.conv_line(y).transpose(1, 2) + context[:, None]
        y = self.norm(y)
        y = y + self.to_q(y) * self.to_k(y)
        return self.proj_out(y).mean(dim=1)[:, :, None, None] + 0.9 * x


class Keeper:
    """Inputs and outputs of all calls of some layers, with the times of the samples."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.modules = modules
        self.calls: list[tuple[str, list[float], Tensor, Tensor]] = []

    @contextmanager
    def keeping(
        self, model: nn.Module, times: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    ) -> Iterator[None]:
        now: list[float] = []

        def begin(_: nn.Module, args: Any, kwargs: Any) -> None:
            now[:] = torch.as_tensor(times(args, kwargs)).double().reshape(-1).tolist()

        inputs: dict[str, Tensor] = {}

        def before(name: str) -> Any:
            def see(_: nn.Module, args: Any) -> None:
                inputs[name] = args[0].detach().clone()

            return see

        def after(name: str) -> Any:
            def see(_: nn.Module, args: Any, output: Tensor) -> None:
                self.calls.append((name, list(now), inputs[name], output.detach().clone()))

            return see

        handles = [model.register_forward_pre_hook(begin, with_kwargs=True)]
        for name, module in self.modules.items():
            handles += [
                module.register_forward_pre_hook(before(name)),
                module.register_forward_hook(after(name)),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def vectors(
        self, name: str, low: float, high: float
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Input and output vectors without the bias of all samples in a range of times."""
        module: Any = self.modules[name]
        found: list[list[np.ndarray[Any, Any]]] = [[], []]
        for layer, times, *values in self.calls:
            if layer != name:
                continue
            spread = len(set(times)) > 1
            for place, tensor in enumerate(values):
                if not spread:
                    parts = [tensor] if low <= times[0] <= high else []
                else:
                    each = tensor.shape[0] // len(times)
                    parts = [
                        part
                        for part, time in zip(tensor.split(each), times, strict=True)
                        if low <= time <= high
                    ]
                for part in parts:
                    part = part.double()
                    if isinstance(module, nn.Embedding) and place == 0:
                        found[0].append(part.reshape(-1, 1).numpy())
                        continue
                    if isinstance(module, nn.Conv1d | nn.Conv2d):
                        part = part.movedim(1, -1)
                    bias = getattr(module, "bias", None)
                    if place == 1 and bias is not None:
                        part = part - bias.detach().double()
                    found[place].append(part.reshape(-1, part.shape[-1]).numpy())
        empty = np.empty((0, 1))
        return np.concatenate([empty] if not found[0] else found[0]), np.concatenate(
            [empty] if not found[1] else found[1]
        )

    def check(self, records: CalibrationRecords, rel: float = 1e-5) -> None:
        """All figures of records equal those computed from what was kept."""
        ran = {name for name, *_ in self.calls}
        assert set(records.layers) == ran
        for name, record in records.layers.items():
            for place, (low, high) in enumerate(records.buckets.tolist()):
                given, made = self.vectors(name, low, high)
                assert record.count[place] == len(given)
                if not len(given):
                    continue
                assert record.output_energy[place] == pytest.approx(np.square(made).sum(1).mean(), rel=rel)
                if record.kind == "embedding":
                    counts = np.bincount(given[:, 0].astype(int), minlength=record.channels)
                    np.testing.assert_allclose(record.mean[place], counts / len(given), rtol=rel)
                    continue
                second = np.square(given).mean(0)
                # A mean near 0 is as exact as the values it is the mean of.
                np.testing.assert_allclose(
                    record.mean[place], given.mean(0), rtol=rel, atol=rel * float(np.sqrt(second).max())
                )
                np.testing.assert_allclose(record.second_moment[place], second, rtol=rel)
                np.testing.assert_allclose(record.absmax[place], np.abs(given).max(0), rtol=1e-7)
            steps = record.steps
            for place, (low, high) in enumerate(records.steps.tolist()):
                given, _ = self.vectors(name, low, high)
                if record.kind == "embedding":
                    assert steps.count[place] == len(given)
                    continue
                assert steps.count[place] == given.size
                if not given.size:
                    assert np.isnan(steps.mean[place])
                    continue
                spread = given.std()
                assert steps.mean[place] == pytest.approx(given.mean(), rel=rel, abs=rel * spread)
                # A variance is as exact as the second moment of which it is what the mean leaves.
                loose = rel * float(np.square(given).mean()) if given.mean() ** 2 > given.var() else 1e-12
                assert steps.variance[place] == pytest.approx(given.var(), rel=rel, abs=loose)
                assert steps.minimum[place] == pytest.approx(given.min(), rel=1e-7)
                assert steps.maximum[place] == pytest.approx(given.max(), rel=1e-7)
                assert (
                    0
                    <= steps.absmax_p99[place]
                    <= steps.absmax_p999[place]
                    <= np.abs(given).max() * (1 + 1e-6)
                )


def checkpoint_of(model: nn.Module, path: Path, prefix: str = "") -> Checkpoint:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({prefix + name: value.clone() for name, value in model.state_dict().items()}, path)
    return open_checkpoint(path)


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    return Toy().eval()


@pytest.fixture
def keep() -> type[Keeper]:
    return Keeper


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Callable[..., Checkpoint]]:
    """The checkpoint of a model, written to a safetensors file."""
    opened: list[Checkpoint] = []

    def store(model: nn.Module, prefix: str = "", name: str = "model") -> Checkpoint:
        opened.append(checkpoint_of(model, tmp_path / f"{name}.safetensors", prefix))
        return opened[-1]

    yield store
    for checkpoint in opened:
        checkpoint.close()
