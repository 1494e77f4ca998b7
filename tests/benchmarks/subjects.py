"""The small trained models that benchmarks of calibration and plans try things on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from workbench import zoo
from workbench.live import categorical, gaussian
from workbench.live.importance.probes import Probe
from workbench.zoo.digits_dit import judge, train
from workbench.zoo.digits_dit.sample import CLASSES, denoise, load
from workbench.zoo.stdlib_mdlm.calibrate import masked, windows
from workbench.zoo.stdlib_mdlm.data import encode
from workbench.zoo.stdlib_mdlm.data import split as texts
from workbench.zoo.stdlib_mdlm.model import load as load_language_model

STEPS = 10
FEW, MANY = 16, 80
"""Digits a run: to measure layers and importance, and to judge plans."""
JUDGED = 100
"""First of the seeds that judge plans; those that measure layers begin at 0."""
CALIBRATION = 10_000
"""Seeds of calibration begin here; those that judge a plan are small numbers."""


@dataclass(frozen=True)
class Subject:
    """A model, how it generates, and how good what it generates is."""

    name: str
    module: nn.Module
    """In float32."""
    folder: Path
    """Its checkpoint."""
    run: Callable[[int], Tensor]
    """The final output for a seed, differentiable."""
    judged: Callable[[int], Tensor]
    """The same on a larger scale, for judging plans."""
    probe: Probe
    distance: Callable[[Tensor, Tensor], float]
    """Error power of an output beside the undisturbed one, in the probe's measure."""
    quality: Callable[[list[Tensor]], Mapping[str, float]]
    """Figures of merit of the judged outputs of several seeds."""


def relative_error(output: Tensor, undisturbed: Tensor) -> float:
    """‖Δy‖² / ‖y‖²."""
    return float((output - undisturbed).square().sum() / undisturbed.square().sum())


def twice_kl(logits: Tensor, undisturbed: Tensor) -> float:
    """2·KL(p ‖ p̂) per token, in nats."""
    true, other = undisturbed.log_softmax(-1), logits.log_softmax(-1)
    return float(2 * (true.exp() * (true - other)).sum(-1).mean())


def digits(folder: Path | None = None, name: str = "digits-dit") -> Subject:
    """A digits DiT: the zoo's, or one in a folder."""
    folder = folder or zoo.locate("digits-dit")
    model, scheduler = load(folder, torch.float32)
    few, many = (np.arange(batch) % CLASSES for batch in (FEW, MANY))

    def quality(outputs: list[Tensor]) -> dict[str, float]:
        images = torch.cat(outputs).clamp(-1, 1).numpy()
        wanted = np.tile(many, len(outputs))
        return {"Fréchet": judge.frechet_distance(images), "recognised": judge.accuracy(images, wanted)}

    return Subject(
        name, model, folder,
        run=lambda seed: denoise(model, scheduler, few, seed, STEPS),
        judged=lambda seed: denoise(model, scheduler, many, seed, STEPS),
        probe=gaussian, distance=relative_error, quality=quality,
    )  # fmt: skip


def small_digits(steps: int = 1500, heads: int = 2) -> Subject:
    """A digits DiT of another width, trained here and now."""
    folder = Path(tempfile.mkdtemp(prefix="digits-small-"))
    model, scheduler = train.train(steps, heads=heads)
    train.save(model, scheduler, folder)
    return digits(folder, f"digits-dit of width {64 * heads}")


def random_unet() -> Subject:
    """A random UNet2DModel with convolutions, attention and skips, sampled by DDPM."""
    folder = Path(tempfile.mkdtemp(prefix="unet-"))
    torch.manual_seed(0)
    model = UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    ).eval()  # fmt: skip
    model.save_pretrained(folder)
    scheduler = DDPMScheduler(num_train_timesteps=100)

    def run(seed: int) -> Tensor:
        chance = torch.Generator().manual_seed(seed)
        images = torch.randn(FEW, 3, 16, 16, generator=chance)
        scheduler.set_timesteps(STEPS)
        for step in scheduler.timesteps:
            predicted = model(images, step).sample
            images = scheduler.step(predicted, step, images, generator=chance).prev_sample
        return images

    return Subject(
        "random UNet2DModel", model, folder, run, run, gaussian, relative_error, lambda outputs: {}
    )


def language_model(count: int = 16) -> Subject:
    """The zoo's masked-diffusion language model: its output are the logits at masked places of so many windows, over
    several ratios."""
    folder = zoo.locate("stdlib-mdlm")
    model, tokenizer = load_language_model(folder, torch.float32)
    training = windows(tokenizer, encode(tokenizer, texts()[0]), count)
    held_out = windows(tokenizer, encode(tokenizer, texts()[1]), count)
    mask = tokenizer.mask_token_id

    def given(seed: int) -> list[Tensor]:
        tokens = training if seed >= CALIBRATION else held_out
        return [masked(tokens, ratio, mask, seed) for ratio in (0.1, 0.3, 0.5, 0.7, 0.9)]

    def run(seed: int) -> Tensor:
        return torch.cat([model(tokens)[tokens == mask] for tokens in given(seed)])

    def quality(outputs: list[Tensor]) -> dict[str, float]:
        losses = []
        for seed, logits in zip(range(JUDGED, JUDGED + len(outputs)), outputs, strict=True):
            true = torch.cat([held_out[tokens == mask] for tokens in given(seed)])
            losses.append(float(nn.functional.cross_entropy(logits, true)))
        return {"masked loss": float(np.mean(losses))}

    return Subject("stdlib-mdlm", model, folder, run, run, categorical, twice_kl, quality)
