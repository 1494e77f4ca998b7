"""Guards that a plan solved with feedback is no worse, on runs that the feedback has not seen, than one without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench import zoo
from workbench.zoo.digits_dit.sample import denoise, load

Draw = Callable[[int], torch.Tensor]
HELD_OUT = range(1000, 1006)


@pytest.fixture(scope="module")
def draws() -> tuple[torch.nn.Module, Draw, Draw]:
    """The digits model; few digits to learn from, and more to judge by."""
    model, scheduler = load(zoo.locate("digits-dit"), torch.float32)
    return (
        model,
        lambda seed: denoise(model, scheduler, [0, 3, 8], seed, 4),
        lambda seed: denoise(model, scheduler, range(10), seed, 4),
    )


def test_feedback_does_no_harm(draws: tuple[torch.nn.Module, Draw, Draw], tmp_path: Path) -> None:
    model, learnt_from, judged_by = draws
    with wb.open("zoo:digits-dit", calibration="zoo:digits-dit", group_size=64, cache=tmp_path) as session:

        def judged() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            """Relative error of every image."""
            with wb.live.apply(model, session.plan, session.checkpoint), torch.no_grad():
                outputs = [judged_by(seed) for seed in HELD_OUT]
            parts = [
                (y - x).square().sum((1, 2, 3)) / x.square().sum((1, 2, 3))
                for x, y in zip(exact, outputs, strict=True)
            ]
            return torch.cat(parts).double().numpy()

        with torch.no_grad():
            exact = [judged_by(seed) for seed in HELD_OUT]
        session.set_bits("*", 3)
        budget = session.totals.nbytes
        session.solve(budget)
        before, plan = judged(), session.plan
        found = wb.live.compare(model, learnt_from, session, runs=2, alone=True)
        session.learn(found)
        session.solve(budget)
        after = judged()
        assert session.totals.nbytes <= budget
        assert session.plan.choices != plan.choices, "there was something to learn"
        assert np.median(after / before) < 1.05
        assert np.exp(np.log(after).mean() - np.log(before).mean()) < 1.05
