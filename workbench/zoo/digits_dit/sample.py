"""Draw digits: the sampling loop of `digits-dit`, with classifier-free guidance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel
from numpy.typing import ArrayLike, NDArray

CLASSES = 10
NULL_CLASS = CLASSES
"""The label that stands for "any digit"; the last row of the label embedding."""


def load(
    folder: str | Path, dtype: torch.dtype = torch.bfloat16
) -> tuple[DiTTransformer2DModel, DDIMScheduler]:
    """Read the model and its scheduler from a diffusers folder.

    Parameters
    ----------
    folder : path-like
        Holds ``transformer/`` and ``scheduler/``.
    dtype : torch.dtype
        The weights' dtype in memory; the file is in bfloat16.

    Returns
    -------
    model : DiTTransformer2DModel
        In evaluation mode.
    scheduler : DDIMScheduler
    """
    model = DiTTransformer2DModel.from_pretrained(
        folder, subfolder="transformer", torch_dtype=dtype, low_cpu_mem_usage=False
    )
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    return model.eval(), scheduler


def sample(
    model: DiTTransformer2DModel,
    scheduler: DDIMScheduler,
    labels: ArrayLike,
    seed: int = 0,
    steps: int = 50,
    guidance: float = 1.5,
) -> NDArray[np.float32]:
    """Draw one digit a label.

    Parameters
    ----------
    model : DiTTransformer2DModel
        Takes noisy images, time steps and labels, and predicts what the scheduler says it does.
    scheduler : DDIMScheduler
        Its time steps are set anew.
    labels : array-like of int, shape [n]
        The digits wanted, 0 to 9, or `NULL_CLASS` for any.
    seed : int
        Of the initial noise. The same seed, labels and machine give the same images.
    steps : int
        Denoising steps; each is one call of the model on 2n images (n without guidance).
    guidance : float
        How far to go from the unconditional prediction to the conditional one and beyond: 1 is plain
        conditional sampling, more is clearer and less varied.

    Returns
    -------
    ndarray of float32, shape [n, 1, 8, 8]
        Images in [-1, 1], paper -1 and ink +1.

    References
    ----------
    Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, arXiv:2207.12598 (eq. 6 with guidance = 1 + w).
    Song, Meng and Ermon, Denoising Diffusion Implicit Models, 2020, arXiv:2010.02502.
    """
    with torch.no_grad():
        images = denoise(model, scheduler, labels, seed, steps, guidance)
    drawn: NDArray[np.float32] = images.clamp(-1, 1).numpy()
    return drawn


def denoise(
    model: DiTTransformer2DModel,
    scheduler: DDIMScheduler,
    labels: ArrayLike,
    seed: int = 0,
    steps: int = 50,
    guidance: float = 1.5,
) -> torch.Tensor:
    """The loop of `sample`, with its arguments: images before they are clamped, and differentiable."""
    wanted = torch.as_tensor(np.asarray(labels, dtype=np.int64))
    guided = guidance != 1.0
    conditions = torch.cat([wanted, torch.full_like(wanted, NULL_CLASS)]) if guided else wanted
    side = model.config.sample_size
    noise = torch.Generator().manual_seed(seed)
    images = torch.randn(len(wanted), model.config.in_channels, side, side, generator=noise)
    scheduler.set_timesteps(steps)
    # The scheduler works in float32 whatever the model's dtype: small steps would be lost in bfloat16.
    for step in scheduler.timesteps:
        given = torch.cat([images, images]) if guided else images
        predicted = model(given.to(model.dtype), step.expand(len(given)), conditions).sample.float()
        if guided:
            conditional, free = predicted.chunk(2)
            predicted = free + guidance * (conditional - free)
        images = scheduler.step(predicted, step, images).prev_sample
    return images
