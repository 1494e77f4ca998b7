"""How much a capture slows inference: 50 denoising steps of digits-dit at a batch of 64, watched and unwatched in turn.

python tests/benchmarks/bench_capture.py [--rounds 5] [--threads 2] [--batch 64] [--steps 50]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from workbench import zoo
from workbench.live import capture
from workbench.zoo.digits_dit.sample import CLASSES, denoise, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    folder = zoo.locate("digits-dit")
    classes = np.arange(given.batch) % CLASSES
    print(
        f"{given.steps} steps, batch {given.batch}, {given.threads} threads, medians of {given.rounds} rounds"
    )
    print(f"{'dtype':>10} {'unwatched':>10} {'watched':>10} {'slower by':>10} {'as reported':>12}")
    for dtype in (torch.float32, torch.bfloat16):
        model, scheduler = load(folder, dtype)
        plain, watched, reported = [], [], []
        denoise(model, scheduler, classes, 0, 2)
        for seed in range(given.rounds):
            started = time.perf_counter()
            denoise(model, scheduler, classes, seed, given.steps)
            plain.append(time.perf_counter() - started)
            with capture(model, "zoo:digits-dit") as rec:
                started = time.perf_counter()
                denoise(model, scheduler, classes, seed, given.steps)
                watched.append(time.perf_counter() - started)
            reported.append(rec.overhead)
        slower = statistics.median(b / a for a, b in zip(plain, watched, strict=True)) - 1
        name, *seconds = str(dtype).removeprefix("torch."), *map(statistics.median, (plain, watched))
        print(
            f"{name:>10} {seconds[0]:9.2f}s {seconds[1]:9.2f}s {slower:10.1%} {statistics.median(reported):12.1%}"
        )


if __name__ == "__main__":
    main()
