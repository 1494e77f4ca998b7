"""Time and memory of measuring a checkpoint with the shapes of Dream-7B: its profile, and the prices of all options.

    python tests/benchmarks/bench_options.py             # a 1 GB slice of the model
    python tests/benchmarks/bench_options.py --full      # all of it: 15.2 GB

Options are priced from the default sample of rows; a profile reads every weight. The weights are those of
bench_pipeline.py: normal, 0.02 wide, in four shards of bfloat16.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

sys.path.append(str(Path(__file__).parent))

from bench_pipeline import BLOCKS, VOCABULARY, generate

from workbench.checkpoint import open_checkpoint
from workbench.formats import target_named
from workbench.thermo import cost_table, price, profile, solve
from workbench.work import ProgressCallback, anonymous_bytes, usable_cores


def report(name: str, measure: Callable[[ProgressCallback], pa.Table]) -> pa.Table:
    """Run a measurement and print its seconds and the peak of its anonymous memory."""
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
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all 28 blocks and the whole vocabulary")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    args = parser.parse_args()
    blocks, vocabulary = (BLOCKS, VOCABULARY) if args.full else (2, 12_000)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        source, cache = Path(name) / "dream", Path(name) / "cache"
        source.mkdir()
        size = generate(source, blocks, vocabulary)
        print(f"checkpoint       {size / 1e9:7.2f} GB of bf16 in 4 shards; {usable_cores()} threads")
        with open_checkpoint(str(source)) as checkpoint:
            report("profile", lambda hear: profile(checkpoint, callback=hear, cache=cache))
            for target in map(target_named, ("mlx", "parquet")):
                table = report(
                    f"options, {target.name}",
                    lambda hear, target=target: price(checkpoint, target, callback=hear, cache=cache),
                )
                nsr, stderr = (table[column].to_numpy() for column in ("nsr", "nsr_stderr"))
                sampled = stderr > 0
                worst = (stderr[sampled] / nsr[sampled]).max(initial=0.0)
                costs = cost_table(table, checkpoint.layers)
                started = time.perf_counter()
                found = solve(costs, bpw=4.25)
                print(
                    f"{'':<16} standard error at most {worst:.2%} of the NSR; solved for 4.25 bpw in "
                    f"{1e3 * (time.perf_counter() - started):.0f} ms, gap {found.gap:.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
