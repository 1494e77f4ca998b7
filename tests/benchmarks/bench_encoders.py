"""How fast every encoder is and what it keeps: ours and each installed peer's, on one tensor in one run.

    python tests/benchmarks/bench_encoders.py [--json FILE] [--figure FILE.html]

GB/s are of the bf16 source [size, size] of N(0, 1), packing included, threads taking blocks of 64 rows; an encoder that
would take longer than a third of a second gets fewer rows of it. Making float32 for those that take it is not counted.
Rounds go through all in turn; medians are shown, and ratios are medians over rounds. SQNR is of the first 64 rows.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from contenders import BF16, BLOCK, Array, Contender, ours
from peers import installed

from workbench.kernels import load_kernels

PATIENCE = 0.3
"""Seconds that one encoding may take in one thread."""


def measure(size: int, rounds: int, threads: list[int], library: Path | None = None) -> list[dict[str, Any]]:
    """A row for every encoder: name, bpw, sqnr_db and, by number of threads, GB/s of each round."""
    weights = np.random.default_rng(0).standard_normal((size, size), np.float32).astype(BF16)
    peers, missing = installed(library)
    for name, reason in missing:
        print(f"{name} is left out: {reason}")
    contenders = [*ours(), *peers]
    sources = [_source(contender, weights) for contender in contenders]
    rows = [
        {"name": one.name, "bpw": one.bpw, "sqnr_db": -10 * math.log10(one.nsr(weights[:BLOCK]))}
        | {f"gbs_{count}": [] for count in threads}
        for one in contenders
    ]
    for _ in range(rounds):
        for contender, source, row in zip(contenders, sources, rows, strict=True):
            for count in threads:
                nbytes = 2.0 * len(source) * size
                row[f"gbs_{count}"].append(nbytes / contender.seconds(source, count) / 1e9)
    return rows


def _source(contender: Contender, weights: Array) -> Any:
    """As many rows as the encoder gets through in time, as it takes them."""
    trial = contender.prepare(weights[:BLOCK])
    contender.seconds(trial, 1)
    per_block = contender.seconds(trial, 1)
    blocks = min(max(int(PATIENCE / per_block), 2), len(weights) // BLOCK)
    return contender.prepare(weights[: BLOCK * blocks])


def compared(rows: list[dict[str, Any]], threads: list[int]) -> list[tuple[str, float]]:
    """The ratios that matter, by what they are."""
    by_name = {row["name"]: row for row in rows}

    def times(a: str, b: str, count: int) -> float:
        if b not in by_name:
            return math.nan
        pairs = zip(by_name[a][f"gbs_{count}"], by_name[b][f"gbs_{count}"], strict=True)
        return statistics.median(x / y for x, y in pairs)

    one, most = threads[0], threads[-1]
    found = [
        ("RTN 4 bits / llama.cpp Q4_0", times("ours, RTN 4 bits", "llama.cpp Q4_0", one)),
        ("RTN 4 bits / NumPy", times("ours, RTN 4 bits", "NumPy, RTN 4 bits", one)),
        ("RTN 8 bits / llama.cpp Q8_0", times("ours, RTN 8 bits", "llama.cpp Q8_0", one)),
        ("search 4 bits (normal) / llama.cpp Q4_K", times("ours, normal 4 bits", "llama.cpp Q4_K", one)),
    ]
    found += [
        (f"{name} (normal) / llama.cpp", times(f"ours, normal {name}", f"llama.cpp {name}", one))
        for name in ("Q4_0", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
    ]
    row = by_name["ours, RTN 4 bits"]
    pairs = zip(row[f"gbs_{most}"], row[f"gbs_{one}"], strict=True)
    found.append((f"RTN 4 bits, {most} threads / {one}", statistics.median(x / y for x, y in pairs)))
    slowest = min(statistics.median(by_name[f"ours, RTN {bits} bits"][f"gbs_{one}"]) for bits in range(2, 9))
    found.append((f"RTN 2..8 bits, the slowest: GB/s on {one} thread", slowest))
    return found


def show(rows: list[dict[str, Any]], threads: list[int]) -> None:
    """Print the table."""
    heads = "".join(f"{f'GB/s, {count}':>10}" for count in threads)
    print(f"{'encoder':<34}{'bpw':>7}{'SQNR dB':>9}{heads}")
    for row in rows:
        rates = "".join(f"{statistics.median(row[f'gbs_{count}']):>10.3f}" for count in threads)
        print(f"{row['name']:<34}{row['bpw']:>7.3f}{row['sqnr_db']:>9.2f}{rates}")
    for name, value in compared(rows, threads):
        print(f"{name:<50}{value:>8.2f}")


def figure(rows: list[dict[str, Any]], count: int) -> Any:
    """Speed against fidelity: what is kept beyond 6.02 dB a stored bit, so that sizes compare."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    for family in dict.fromkeys(row["name"].replace(",", "").split()[0] for row in rows):
        some = [row for row in rows if row["name"].startswith(family)]
        drawn.add_scatter(
            x=[statistics.median(row[f"gbs_{count}"]) for row in some],
            y=[row["sqnr_db"] - 20 * math.log10(2) * row["bpw"] for row in some],
            text=[f"{row['name']}<br>{row['bpw']:.2f} bpw, {row['sqnr_db']:.1f} dB" for row in some],
            mode="markers",
            name=family,
            marker_size=10,
        )
    drawn.update_xaxes(type="log", title=f"GB/s of bf16, {count} thread")
    drawn.update_yaxes(title="SQNR − 6.02 dB × stored bits a weight")
    drawn.update_layout(title="Speed and fidelity of encoders, N(0, 1)", template="simple_white")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the tensor")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ggml", type=Path, help="libggml-base, if llama-cpp-python is elsewhere")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    print(f"kernels: {load_kernels().description}; bf16 [{given.size}, {given.size}], groups of 64")
    rows = measure(given.size, given.rounds, given.threads, given.ggml)
    show(rows, given.threads)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    if given.figure:
        figure(rows, given.threads[0]).write_html(given.figure)


if __name__ == "__main__":
    main()
