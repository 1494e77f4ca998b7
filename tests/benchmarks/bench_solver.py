"""Time of one solve and of the whole front: 1,000 layers of 7 options, medians on one core.

    python tests/benchmarks/bench_solver.py
    python tests/benchmarks/bench_solver.py --layers 5000 --ties

Two kinds of model: layers of random shapes, and a transformer's four shapes repeated.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from workbench.plan import Option
from workbench.thermo import Constraints, CostTable, gibbs, solve, trace

WIDTHS = range(2, 9)
SHAPES = ((1152, 1152), (1152, 4608), (4608, 1152), (6912, 1152))


def table(rng: np.random.Generator, layers: int, is_regular: bool) -> CostTable:
    """D ≈ c·4^−b with noise; bytes of packed codes and a 4-byte pair for 64 weights."""
    params, options, damage = [], [], []
    for layer in range(layers):
        out, cols = SHAPES[layer % 4] if is_regular else map(int, rng.integers(64, 4096, 2))
        level = np.exp(rng.normal(0, 1.5))
        params.append(out * cols)
        options.append(
            [
                Option(bits, "asymmetric", 64, out * (-(-cols * bits // 8) + 4 * -(-cols // 64)))
                for bits in WIDTHS
            ]
        )
        damage.append([float(level * 4.0**-bits * np.exp(rng.normal(0, 0.15))) for bits in WIDTHS])
    return CostTable.of([f"layers.{index}.weight" for index in range(layers)], params, options, damage)


def median_ms(work: Callable[[], object], runs: int) -> float:
    """Median time of some runs, in milliseconds."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def report(costs: CostTable, constraints: Constraints, runs: int) -> dict[str, float]:
    """Print the figures of one table, and give the milliseconds."""
    sizes = [float(bpw) for bpw in np.arange(2.75, 7.6, 0.25)]
    found = [solve(costs, constraints, bpw=bpw) for bpw in sizes]
    solving = [median_ms(partial(solve, costs, constraints, bpw=bpw), runs) for bpw in sizes]
    middle = found[len(found) // 2]
    rows = {
        "solve for bytes": statistics.median(solving),
        "  slowest size": max(solving),
        "whole front": median_ms(partial(trace, costs, constraints), runs),
        "solve for damage": median_ms(partial(solve, costs, constraints, max_damage=middle.damage), runs),
        "Gibbs ensemble": median_ms(partial(gibbs, costs, middle.temperature), runs),
    }
    for name, milliseconds in rows.items():
        print(f"  {name:20} {milliseconds:7.2f} ms")
    proved = sum(solution.is_proved for solution in found)
    print(
        f"  proved the best of all plans: {proved} of {len(found)}; worst gap {max(s.gap for s in found):.1e}"
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=15, help="runs of each figure")
    parser.add_argument("--ties", action="store_true", help="tie layers by threes")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    ties = [range(first, first + 9, 4) for first in range(0, args.layers - 8, 12)] if args.ties else ()
    for name, is_regular in (("random shapes", False), ("four shapes", True)):
        print(f"{args.layers} layers x {len(WIDTHS)} options, {name}")
        report(table(rng, args.layers, is_regular), Constraints(ties=ties), args.runs)


if __name__ == "__main__":
    main()
