"""Make the calibration records that ship with `digits-dit`.

    python -m workbench.zoo.digits_dit.calibrate --out FILE [--steps N] [--batch N] [--runs N]

Every seed is fixed and one thread computes: the same machine gives the same figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel

from workbench import zoo
from workbench.calibration import CalibrationRecords
from workbench.checkpoint import open_checkpoint
from workbench.live import capture, importance_by_gradients
from workbench.zoo.digits_dit.sample import CLASSES, denoise, load

STEPS = 20
BATCH = 64
RUNS = 8
FIRST_SEED = 10_000
"""Seeds of calibration begin here, so that none is among those that judge a plan."""


def calibrate(
    model: DiTTransformer2DModel,
    scheduler: DDIMScheduler,
    folder: str | Path,
    steps: int = STEPS,
    batch: int = BATCH,
    runs: int = RUNS,
) -> CalibrationRecords:
    """Capture digits being drawn, and measure how much each layer matters along the way.

    Parameters
    ----------
    model : DiTTransformer2DModel
        In float32: the gradients of bfloat16 are coarse.
    scheduler : DDIMScheduler
    folder : path-like
        The checkpoint that it was loaded from.
    steps : int
        Denoising steps.
    batch : int
        Digits drawn at once.
    runs : int
        Batches for the importance.

    Returns
    -------
    CalibrationRecords
        With the importance by ``fisher:trajectory`` and ``fisher:step``.
    """
    labels = np.arange(batch) % CLASSES

    def run(number: int) -> torch.Tensor:
        return denoise(model, scheduler, labels, FIRST_SEED + number, steps)

    with open_checkpoint(str(folder)) as checkpoint:
        with capture(model, checkpoint) as rec, torch.no_grad():
            run(0)
        records = importance_by_gradients(model, run, checkpoint, rec.records, runs=runs)
        return importance_by_gradients(model, run, checkpoint, records, span="step", runs=1)


def main(arguments: list[str] | None = None) -> None:
    """Calibrate the model that ships, and write the records.

    Parameters
    ----------
    arguments : list of str, optional
        The command line's unless given.
    """
    parser = argparse.ArgumentParser(description="Make the calibration records of digits-dit.")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--steps", type=int, default=STEPS, help="denoising steps (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=BATCH, help="digits at once (default: %(default)s)")
    parser.add_argument(
        "--runs", type=int, default=RUNS, help="batches for the importance (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = zoo.locate("digits-dit")
    model, scheduler = load(folder, torch.float32)
    calibrate(model, scheduler, folder, given.steps, given.batch, given.runs).save(given.out)


if __name__ == "__main__":
    main()
