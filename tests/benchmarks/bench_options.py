"""Time and memory of measuring a checkpoint with the shapes of Dream-7B: its profile, and of measuring all options.

    python tests/benchmarks/bench_options.py             # a 1 GB slice of the model
    python tests/benchmarks/bench_options.py --full      # all of it: 15.2 GB

Options are measured from the default sample of rows; a profile reads every weight. The weights are those of
bench_pipeline.py: normal, 0.02 wide, in four shards of bfloat16.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

sys.path.append(str(Path(__file__).parent))

from bench_pipeline import BLOCKS, VOCABULARY, generated

from workbench.checkpoint import open_checkpoint
from workbench.formats import target_named
from workbench.system import anonymous_bytes, usable_cores
from workbench.thermo import cost_table, measure_options, profile, solve
from workbench.work import ProgressCallback


def timed(name: str, measure: Callable[[ProgressCallback], pa.Table]) -> tuple[pa.Table, float]:
    """Run a measurement and print its seconds and the peak of its anonymous memory; what it made, and the seconds."""
    before = peak = anonymous_bytes()

    def callback(fraction: float, message: str) -> None:
        nonlocal peak
        peak = max(peak, anonymous_bytes())

    started = time.perf_counter()
    table = measure(callback)
    seconds = time.perf_counter() - started
    print(
        f"{name:<16} {seconds:7.1f} s   peak {peak / 1e6:5.0f} MB anonymous ({before / 1e6:.0f} before)   "
        f"{table.num_rows:,} rows",
        flush=True,
    )
    return table, seconds


def measure(source: Path, targets: tuple[str, ...]) -> dict[str, float]:
    """Seconds of the profile and of the options of each target."""
    cache = source.parent / "cache"
    found = {}
    with open_checkpoint(str(source)) as checkpoint:
        found["profile_s"] = timed("profile", lambda hear: profile(checkpoint, callback=hear, cache=cache))[1]
        for target in map(target_named, targets):
            table, found[f"options_{target.name}_s"] = timed(
                f"options, {target.name}",
                lambda hear: measure_options(checkpoint, target, callback=hear, cache=cache),  # noqa: B023 - called here
            )
            nsr, stderr = (table[column].to_numpy() for column in ("nsr", "damage_stderr"))
            sampled = stderr > 0
            worst = (stderr[sampled] / nsr[sampled]).max(initial=0.0)
            costs = cost_table(table, checkpoint.layers)
            started = time.perf_counter()
            solution = solve(costs, bpw=4.25)
            print(
                f"{'':<16} standard error at most {worst:.2%} of the NSR; solved for 4.25 bpw in "
                f"{1e3 * (time.perf_counter() - started):.0f} ms, gap {solution.gap:.1e}",
                flush=True,
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all 28 blocks and the whole vocabulary")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    args = parser.parse_args()
    blocks, vocabulary = (BLOCKS, VOCABULARY) if args.full else (2, 12_000)
    with generated(blocks, vocabulary, args.folder) as (source, size):
        print(f"checkpoint       {size / 1e9:7.2f} GB of bf16 in 4 shards; {usable_cores()} threads")
        measure(source, ("mlx", "parquet"))


if __name__ == "__main__":
    main()
