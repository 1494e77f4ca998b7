"""Train `digits-dit` and write it as a diffusers folder.

    python -m workbench.zoo.digits_dit.train --out FOLDER [--steps N]

Every seed is fixed and one thread computes: the same machine gives the same file.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel
from diffusers import __version__ as diffusers_version
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench.zoo.digits_dit import judge
from workbench.zoo.digits_dit.data import split
from workbench.zoo.digits_dit.sample import CLASSES, NULL_CLASS, load, sample

STEPS = 6000
BATCH = 128
LEARNING_RATE = 5e-4
WARM_UP = 200
LABEL_DROPOUT = 0.1
EMA_DECAY = 0.999


def build(heads: int = 4) -> tuple[DiTTransformer2DModel, DDIMScheduler]:
    """Make the untrained model and the scheduler that it is trained and sampled with.

    Parameters
    ----------
    heads : int
        Attention heads of 64 channels: 4 make the width of 256 of the model that ships.

    Returns
    -------
    model : DiTTransformer2DModel
        Width 256, so that every row holds whole blocks of 256 weights, and three blocks.
    scheduler : DDIMScheduler
        Cosine noise schedule that ends in pure noise; the model predicts v.

    References
    ----------
    Peebles and Xie, Scalable Diffusion Models with Transformers, 2022, arXiv:2212.09748.
    Salimans and Ho, Progressive Distillation for Fast Sampling of Diffusion Models, 2022, arXiv:2202.00512.
    Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, 2023, arXiv:2305.08891.
    """
    model = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=64,
        in_channels=1,
        out_channels=1,
        num_layers=3,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=CLASSES,
    )
    for block in model.transformer_blocks:  # "adaLN-zero": every block starts as the identity
        torch.nn.init.zeros_(block.norm1.linear.weight)
        torch.nn.init.zeros_(block.norm1.linear.bias)
    torch.nn.init.zeros_(model.proj_out_2.weight)
    torch.nn.init.zeros_(model.proj_out_2.bias)
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        # Clipping the predicted image but not the noise that goes with it ruins guided samples in many steps.
        clip_sample=False,
    )
    # Evaluation mode also while training: in training mode each block drops labels for itself.
    return model.eval(), scheduler


def train(
    steps: int = STEPS, seed: int = 0, batch: int = BATCH, heads: int = 4
) -> tuple[DiTTransformer2DModel, DDIMScheduler]:
    """Train on the training digits, printing the loss now and then.

    Parameters
    ----------
    steps : int
        Updates of the weights.
    seed : int
        Of the initial weights, the batches and the noise.
    batch : int
        Digits a step.
    heads : int
        As for `build`.

    Returns
    -------
    model : DiTTransformer2DModel
        Float32, the moving average of the trained weights.
    scheduler : DDIMScheduler
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, scheduler = build(heads)
    chance = torch.Generator().manual_seed(seed)
    digits, _ = split()
    images, labels = torch.from_numpy(digits.images), torch.from_numpy(digits.labels)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    began, recent = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * _pace(step, steps)
        picked = torch.randint(len(images), (batch,), generator=chance)
        clean, wanted = images[picked], labels[picked]
        dropped = torch.rand(batch, generator=chance) < LABEL_DROPOUT
        wanted = torch.where(dropped, NULL_CLASS, wanted)
        times = torch.randint(scheduler.config.num_train_timesteps, (batch,), generator=chance)
        noise = torch.randn(clean.shape, generator=chance)
        # With 16 tokens, plain attention trains almost twice as fast as the flash kernel.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            predicted = model(scheduler.add_noise(clean, noise, times), times, wanted).sample
        target = scheduler.get_velocity(clean, noise, times)
        loss = torch.nn.functional.mse_loss(predicted.float(), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _follow(average, model, min(EMA_DECAY, step / (step + 10)))
        recent += loss.item()
        if step % 100 == 0:
            print(f"step {step}  loss {recent / 100:.4f}  {time.monotonic() - began:.0f} s", flush=True)
            recent = 0.0
    return average, scheduler


def save(model: DiTTransformer2DModel, scheduler: DDIMScheduler, folder: str | Path) -> None:
    """Write the model, in bfloat16, and its scheduler as a diffusers folder.

    Parameters
    ----------
    model : DiTTransformer2DModel
    scheduler : DDIMScheduler
    folder : path-like
        Made if need be; files of the same names in it are replaced.
    """
    folder = Path(folder)
    copy.deepcopy(model).bfloat16().save_pretrained(folder / "transformer")
    scheduler.save_pretrained(folder / "scheduler")
    for config in (folder / "transformer" / "config.json", folder / "scheduler" / "scheduler_config.json"):
        facts = json.loads(config.read_text())
        facts.pop("_name_or_path", None)  # a path of the machine that saved it
        _write_json(config, facts)
    index = {
        "_class_name": "DiTPipeline",
        "_diffusers_version": diffusers_version,
        "scheduler": ["diffusers", type(scheduler).__name__],
        "transformer": ["diffusers", type(model).__name__],
    }
    _write_json(folder / "model_index.json", index)


def report(folder: str | Path, per_class: int = 100) -> None:
    """Print how good the digits of a written model are, by the judge.

    Parameters
    ----------
    folder : path-like
        The diffusers folder.
    per_class : int
        How many of each digit to draw for the accuracy.
    """
    model, scheduler = load(folder)
    _, real = split()
    labels = np.repeat(np.arange(CLASSES), per_class)
    recognised = judge.accuracy(sample(model, scheduler, labels, seed=0), labels)
    # As many of each digit as were held out, for the distance depends on the number of images.
    drawn = sample(model, scheduler, real.labels, seed=1)
    print(f"parameters {model.num_parameters()}")
    print(f"judge on real held-out digits: accuracy {judge.held_out_accuracy():.4f}")
    print(f"{len(labels)} generated digits: accuracy {recognised:.4f}")
    for kind, images in (("generated", drawn), ("held-out", real.images)):
        print(
            f"{len(images)} {kind} digits: Fréchet distance to the training digits"
            f" {judge.frechet_distance(images):.3f}, to the most similar of them"
            f" {np.median(judge.nearest(images)):.3f} (median), {judge.nearest(images).min():.3f} (least)"
        )


def main(arguments: list[str] | None = None) -> None:
    """Train, write and report.

    Parameters
    ----------
    arguments : list of str, optional
        The command line's unless given.
    """
    parser = argparse.ArgumentParser(description="Train digits-dit and write it as a diffusers folder.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps (default: %(default)s)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.monotonic()
    model, scheduler = train(given.steps)
    print(f"trained {given.steps} steps in {time.monotonic() - began:.0f} s")
    save(model, scheduler, given.out)
    report(given.out)


def _pace(step: int, steps: int) -> float:
    """Share of the full learning rate: a short linear rise, then half a cosine down to nothing."""
    return min(1.0, step / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _follow(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    with torch.no_grad():
        for kept, new in zip(average.parameters(), model.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)


def _write_json(path: Path, facts: dict[str, object]) -> None:
    path.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
