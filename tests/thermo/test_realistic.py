"""The solver on checkpoints like those that people have: at equal exact bytes no policy loses less.

Beside the trained `zoo:digits-dit`: a UNet in float16, trained for a while on digits, and a Qwen2 language model as
Dream is one, in bfloat16, whose layers are unlike each other: heavy tails, loud channels, scales of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers

import workbench as wb
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.formats import target_named
from workbench.thermo import Planner, compare, measure_options, profile
from workbench.thermo.policies import entropy_rule, threshold
from workbench.zoo.digits_dit.data import split

STEPS = 60
MODELS = ("digits-dit", "unet", "dream")
TARGETS = ("parquet", "mlx")


def train_unet(folder: Path) -> None:
    """A denoiser of digits: convolutions, attention, time embedding; far enough from its initial weights."""
    torch.manual_seed(0)
    model = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=16,
    )  # fmt: skip
    images = torch.from_numpy(split()[0].images)
    scheduler = diffusers.DDPMScheduler()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(STEPS):
        clean = images[torch.randint(len(images), (16,))]
        noise, steps = torch.randn_like(clean), torch.randint(1000, (16,))
        loss = torch.nn.functional.mse_loss(
            model(scheduler.add_noise(clean, noise, steps), steps).sample, noise
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.4
    model.half().save_pretrained(folder)


def grow_dream(folder: Path) -> None:
    """A small Qwen2 as Dream is one, whose weights have the habits of trained ones."""
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=2048, hidden_size=256, intermediate_size=704, num_hidden_layers=5, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=False,
        )
    )  # fmt: skip
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim != 2:
                continue
            tails = rng.standard_t(rng.choice([5.0, 8.0, 30.0]), parameter.shape)
            loud = np.where(rng.random(parameter.shape[1]) < 0.01, rng.uniform(2, 6, parameter.shape[1]), 1.0)
            rows = np.exp(rng.normal(0, rng.uniform(0, 0.4), (parameter.shape[0], 1)))
            weights = tails * loud * rows * 0.02 * np.exp(rng.normal(0, 1))
            parameter.copy_(torch.from_numpy(weights))
    model.to(torch.bfloat16).save_pretrained(folder)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with more, threads that wait for one another on a busy machine take minutes
    try:
        train_unet(folder / "unet")
        grow_dream(folder / "dream")
    finally:
        torch.set_num_threads(threads)
    return {"digits-dit": "zoo:digits-dit", "unet": str(folder / "unet"), "dream": str(folder / "dream")}


@pytest.fixture(params=MODELS)
def source(request: pytest.FixtureRequest, sources: dict[str, str]) -> str:
    return sources[request.param]


@pytest.fixture
def checkpoint(source: str) -> Iterator[Checkpoint]:
    with open_checkpoint(source) as opened:
        yield opened


@pytest.mark.parametrize("target", TARGETS)
def test_no_policy_loses_less_at_equal_exact_bytes(checkpoint: Checkpoint, target: str) -> None:
    table = measure_options(checkpoint, target_named(target))
    planner = Planner(checkpoint, target_named(target), table)
    costs = planner.costs
    entropy = profile(checkpoint)["entropy"].to_numpy()
    assert np.ptp(entropy) > 0.05, "the layers are unlike each other"
    least, most = int(costs.sizes.min(axis=1).sum()), int(costs.nbytes.max(axis=1).sum())
    # Each policy is compared at the bytes where it comes out itself.
    budgets = {costs.nbytes_of(entropy_rule(costs, entropy)), costs.nbytes_of(threshold(costs, 0.01))}
    budgets |= {int(least + share * (most - least)) for share in (0.05, 0.1, 0.2, 0.4)}
    rows: list[dict[str, Any]] = []
    for nbytes in sorted(budgets):
        for row in compare(costs, nbytes, entropy=entropy).to_pylist():
            assert row["solver_damage"] <= row["damage"] * (1 + 1e-12), row
            rows.append(row)
    ratios = {
        name: np.median([row["damage"] / row["solver_damage"] for row in rows if row["policy"] == name])
        for name in ("uniform", "entropy_rule", "threshold", "sorted_greedy", "annealing")
    }
    gap = max(row["gap"] for row in rows if row["policy"] == "solver")
    print(
        f"{checkpoint.path.name}, {target}: {len(costs)} layers, {len(budgets)} budgets; times the solver's total "
        f"NSR at equal bytes, median: {', '.join(f'{name} {ratio:.2f}' for name, ratio in ratios.items())}; worst "
        f"gap of the solver {gap:.2%}"
    )
    assert ratios["uniform"] > 1.1


@pytest.mark.parametrize("target", TARGETS)
def test_so_it_is_in_what_was_written(source: str, target: Any, tmp_path: Path) -> None:
    """Solved and uniform exports at the uniform one's predicted bytes, both measured by reading them back."""
    reports = []
    for name, is_solved in (("uniform", False), ("solved", True)):
        config = wb.DiffusionQuantConfig(
            target=target, bit_width=4, group_size=64, min_accuracy=0.0, enable_mixed_precision=is_solved
        )
        reports.append(wb.DiffusionOrchestrator(config).run(source, tmp_path / name))
        assert wb.verify(tmp_path / name, source).ok
        if target == "mlx":
            assert reports[-1].actual_bytes == reports[-1].predicted_bytes
        assert reports[-1].actual_bytes <= reports[-1].predicted_bytes
    plain, solved = reports
    layers = [sum(layer.nbytes for layer in report.layers) for report in reports]
    print(f"{Path(source).name}, {target}: NSR {plain.nsr:.5f} uniform, {solved.nsr:.5f} solved")
    assert layers[1] <= layers[0]
    assert solved.nsr < plain.nsr


@pytest.mark.parametrize("name", ["digits-dit", "unet"])
def test_samples_of_real_weights_are_within_their_standard_errors(name: str, sources: dict[str, str]) -> None:
    """64 rows of each layer, 20 seeds, all widths: 3 standard errors hold 99 % of the layers' errors."""
    target = target_named("parquet")
    settings: dict[str, Any] = {"group_sizes": [64], "schemes": ["asymmetric"]}
    apart, relative = [], []
    with open_checkpoint(sources[name]) as checkpoint:
        truth = measure_options(checkpoint, target, exact=True, **settings)["nsr"].to_numpy()
        for seed in range(20):
            table = measure_options(checkpoint, target, sample_rows=64, seed=seed, **settings)
            nsr, stderr = table["nsr"].to_numpy(), table["damage_stderr"].to_numpy()
            sampled = stderr > 0
            apart.append((nsr - truth)[sampled] / stderr[sampled])
            relative.append(stderr[sampled] / truth[sampled])
    deviations, median = np.abs(np.concatenate(apart)), float(np.median(np.concatenate(relative)))
    share = float(np.mean(deviations <= 3))
    print(f"{name}: {share:.2%} of {deviations.size} within 3 stderr, median stderr {median:.2%} of the NSR")
    assert share >= 0.99
    assert median <= 0.05
