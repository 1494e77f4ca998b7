"""Everything that has to be fast, in one run: a table on the screen, figures in JSON, a plotly figure of the encoders.

    python tests/benchmarks/bench_speed.py                      # about twenty minutes and 50 GB of disk
    python tests/benchmarks/bench_speed.py --small              # about a minute
    python tests/benchmarks/bench_speed.py --only encoders solver --json FILE --figure FILE.html

Medians everywhere; peers run in the same rounds as we do, and those that are not installed are left out and named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_encoders
import bench_options
import bench_pipeline
import bench_solver
import numpy as np
from contenders import BF16

from workbench import zoo
from workbench.kernels import load_kernels
from workbench.thermo import Constraints
from workbench.thermo.measurement.statistics import frame_of, tally_patterns

CHECKPOINTS = {
    "1 GB": (2, 12_000),
    "4 GB": (7, 50_000),
    "15 GB": (bench_pipeline.BLOCKS, bench_pipeline.VOCABULARY),
}
"""Blocks and vocabulary of the checkpoints of Dream-7B's shapes."""

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encoders(given: argparse.Namespace) -> Any:
    """Ours and the peers'."""
    threads = sorted({1, THREADS})
    size, rounds = (1024, 1) if given.small else (4096, given.rounds)
    rows = bench_encoders.measure(size, rounds, threads, given.ggml)
    bench_encoders.show(rows, threads)
    if given.figure:
        bench_encoders.figure(rows, 1).write_html(given.figure)
    return {"rows": rows, "ratios": dict(bench_encoders.compared(rows, threads))}


def scan(given: argparse.Namespace) -> dict[str, float]:
    """GB/s of one reading for histogram, moments and a look for NaN, in one thread."""
    size = 1024 if given.small else 4096
    patterns = np.random.default_rng(0).standard_normal((size, size), np.float32).astype(BF16).view(np.uint16)
    found = []
    for _ in range(given.rounds):
        counts = np.zeros(2**16, np.int64)
        started = time.perf_counter()
        for block in np.array_split(patterns.reshape(-1), max(size // 64, 1)):
            load_kernels().count_patterns(block, counts)
        tally_patterns(counts, frame_of(counts, False, 7))
        found.append(patterns.nbytes / (time.perf_counter() - started) / 1e9)
    rate = statistics.median(found)
    print(f"histogram, moments and NaN check of bf16: {rate:.2f} GB/s on one thread")
    return {"gbs": rate}


def pipeline(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Exports beside `cp`, and the measuring of profile and options, by size."""
    checkpoints = {"0.2 GB": (0, 12_000)} if given.small else CHECKPOINTS
    found = {}
    for name, (blocks, vocabulary) in checkpoints.items():
        with bench_pipeline.generated(blocks, vocabulary, given.folder) as (source, size):
            runs = 1 if given.small else given.rounds
            found[name] = bench_pipeline.measure(source, size, runs)
            bench_pipeline.show(found[name])
            found[name] |= bench_options.measure(source, ("mlx",))
    return found


def solver(given: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of solving 1,000 layers of 7 options."""
    print("1,000 layers x 7 options")
    costs = bench_solver.table(np.random.default_rng(0), 1000, False)
    return bench_solver.report(costs, Constraints(), 1 if given.small else given.rounds)


def start(given: argparse.Namespace) -> dict[str, float]:
    """Seconds until the package is there, and of a whole small export, from the start of the interpreter."""
    model = str(zoo.locate("digits-dit"))
    found = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        output = Path(folder) / "out"
        commands = {
            "import workbench": ["-c", "import workbench"],
            "workbench quantize, 8 MB": [
                "-m",
                "workbench",
                "quantize",
                model,
                str(output),
                "--bit-width",
                "4",
            ],
        }
        for name, arguments in commands.items():
            times = []
            for _ in range(given.rounds):
                shutil.rmtree(output, ignore_errors=True)
                started = time.perf_counter()
                subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=folder)
                times.append(time.perf_counter() - started)
            found[name] = statistics.median(times)
            print(f"{name:<28}{found[name]:6.2f} s")
    return found


def panel(given: argparse.Namespace) -> dict[str, float]:
    """The panel in a browser; bench_panel.py says what is measured."""
    if given.small or not shutil.which("chromium"):
        print("the panel is left out: it needs time and chromium")
        return {}
    import bench_panel

    runs, many = bench_panel.measure(1000, given.rounds, 20_000)
    bench_panel.show(1000, runs, many)
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


SECTIONS: dict[str, Callable[[argparse.Namespace], Any]] = {
    section.__name__: section for section in (encoders, scan, solver, start, pipeline, panel)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="less of everything")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--ggml", type=Path, help="libggml-base, if llama-cpp-python is elsewhere")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    kernels = load_kernels().description
    print(f"kernels: {kernels}; {THREADS} cores, load {os.getloadavg()[0]:.1f}")
    found: dict[str, Any] = {"kernels": kernels, "threads": THREADS}
    for name in given.only:
        print(f"\n== {name}", flush=True)
        found[name] = SECTIONS[name](given)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
