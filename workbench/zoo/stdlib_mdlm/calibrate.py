"""Make the calibration records that ship with `stdlib-mdlm`.

    python -m workbench.zoo.stdlib_mdlm.calibrate --out FILE [--count N] [--runs N]

Every seed is fixed and one thread computes: the same machine gives the same figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from workbench import zoo
from workbench.calibration import CalibrationRecords
from workbench.checkpoint import open_checkpoint
from workbench.live import capture, categorical, importance_by_gradients
from workbench.zoo.stdlib_mdlm.data import encode, split
from workbench.zoo.stdlib_mdlm.model import DreamModel, load

RATIOS = tuple(((np.arange(16) + 0.5) / 16).tolist())
"""Mask ratios that the model is asked at: the middles of sixteen equal parts, one bucket each."""

COUNT = 32
LENGTH = 128
RUNS = 4
FIRST_SEED = 10_000
"""Seeds of calibration begin here, so that none is among those that judge a plan."""


def windows(
    tokenizer: PreTrainedTokenizerFast, text: str | torch.Tensor, count: int = COUNT, length: int = LENGTH
) -> torch.Tensor:
    """Windows spread evenly over a text.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
    text : str or Tensor of int64, shape [tokens]
    count, length : int

    Returns
    -------
    Tensor of int64, shape [count, length]
    """
    if isinstance(text, str):
        text = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.int64)
    starts = torch.linspace(0, len(text) - length, count, dtype=torch.float64).long()
    return text[starts[:, None] + torch.arange(length)]


def masked(tokens: torch.Tensor, ratio: float, mask_token_id: int, seed: int) -> torch.Tensor:
    """The tokens with a share of every window masked, [n, length]."""
    draws = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed))
    hidden = draws.argsort(1).argsort(1) < max(1, round(ratio * tokens.shape[1]))
    return torch.where(hidden, mask_token_id, tokens)


def calibrate(
    model: DreamModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    count: int = COUNT,
    runs: int = RUNS,
) -> CalibrationRecords:
    """Capture training code being filled in at all mask ratios, and measure how much each layer matters.

    Parameters
    ----------
    model : DreamModel
        In float32.
    tokenizer : PreTrainedTokenizerFast
    folder : path-like
        The checkpoint that it was loaded from.
    count : int
        Windows of 128 tokens asked about at each ratio.
    runs : int
        Sets of masks for the importance.

    Returns
    -------
    CalibrationRecords
        With the importance by ``fisher:trajectory``, where a run is one call at each ratio: what a step of generating
        makes of an error in the step before is not differentiable, and left out.
    """
    mask = tokenizer.mask_token_id
    clean = windows(tokenizer, encode(tokenizer, split()[0]), count)

    def run(number: int) -> torch.Tensor:
        given = [masked(clean, ratio, mask, FIRST_SEED + number) for ratio in RATIOS]
        return torch.cat([model(tokens)[tokens == mask] for tokens in given])

    with open_checkpoint(str(folder)) as checkpoint:
        with capture(model, checkpoint) as rec, torch.no_grad():
            run(0)
        return importance_by_gradients(model, run, checkpoint, rec.records, probe=categorical, runs=runs)


def main(arguments: list[str] | None = None) -> None:
    """Calibrate the model that ships, and write the records.

    Parameters
    ----------
    arguments : list of str, optional
        The command line's unless given.
    """
    parser = argparse.ArgumentParser(description="Make the calibration records of stdlib-mdlm.")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--count", type=int, default=COUNT, help="windows at each ratio (default: %(default)s)"
    )
    parser.add_argument(
        "--runs", type=int, default=RUNS, help="sets of masks for the importance (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = zoo.locate("stdlib-mdlm")
    model, tokenizer = load(folder, torch.float32)
    calibrate(model, tokenizer, folder, given.count, given.runs).save(given.out)


if __name__ == "__main__":
    main()
