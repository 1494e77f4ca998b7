"""Our GGML encoders beside llama.cpp's and the `gguf` package's: error and speed. Run it: python bench_kquants.py

The error is the squared error of our blocks over that of theirs on every layer of the zoo's models whose rows are whole
blocks, by `gguf.dequantize`; mean and worst over the layers. Speed is of one thread, in GB/s of a bf16 source: of one
normal tensor, error sums not measured; llama.cpp (llama-cpp-python's bundled ggml, through ctypes) and gguf take
float32, and making it from bf16 is not counted. Rounds go through all encoders in turn; medians are shown, and the
ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
from peers import ggml, ggml_encode

from workbench import zoo
from workbench.checkpoint import open_checkpoint
from workbench.config import EFFORTS
from workbench.kernels import load_kernels
from workbench.quantize import Encoding
from workbench.quantize.ggml import FORMATS, Room, encode_ggml
from workbench.quantize.patterns import patterns_of

Encoder = Callable[[], object]


def layers() -> list[np.ndarray]:
    """Weights of the zoo's models, as float32, whose rows are whole blocks of every format."""
    found = []
    for name in zoo.names():
        with open_checkpoint(f"zoo:{name}") as checkpoint:
            found += [
                checkpoint.read_rows(layer.name, 0, layer.rows).astype(np.float32)
                for layer in checkpoint.layers
                if layer.cols % 256 == 0
            ]
    return found


def squared_error(weights: np.ndarray, data: np.ndarray, name: str) -> float:
    decoded = gguf.dequantize(data, gguf.GGMLQuantizationType[name])
    return float(((decoded - weights).astype(np.float64) ** 2).sum())


def our_task(weights: np.ndarray, name: str, effort: str) -> Encoder:
    """The kernel alone, as a writer calls it for a block of rows."""
    chosen, (rows, cols) = FORMATS[name], weights.shape
    levels, rounds = chosen.search[effort]
    patterns, is_half = patterns_of(weights)
    data = np.empty(rows * chosen.row_bytes(cols), np.uint8)
    room, none = Room(), np.empty(0, np.uint8)
    arguments = (
        patterns, is_half, rows, cols, chosen.layout.numbers, chosen.layout.moves, np.empty(0, np.float32),
        np.array(levels, np.float32), rounds, data, none, np.zeros((0, 3)),
        room.tiles, room.words, room.patterns, room.integers, room.planes, room.single, room.bits, room.double,
    )  # fmt: skip
    kernels = load_kernels()
    return lambda: kernels.ggml_encode(*arguments)


def seconds(task: Encoder) -> float:
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=64, help="rows of the tensor of 4096 columns")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS))
    parser.add_argument(
        "--ggml", type=Path, help="libggml-base, if llama-cpp-python is in another environment"
    )
    args = parser.parse_args()
    try:
        theirs = partial(ggml_encode, ggml(args.ggml))
    except ImportError as error:
        print(f"llama.cpp is left out: {error}")
        theirs = None
    zoo_layers = layers()
    weights = np.random.default_rng(0).standard_normal((args.rows, 4096), np.float32) * np.float32(0.02)
    narrow = weights.astype(ml_dtypes.bfloat16)
    print(f"kernels: {load_kernels().description}; {len(zoo_layers)} layers, bf16 [{args.rows}, 4096]")
    print(f"{'format':<7}{'encoder':<11}{'GB/s':>7}{'x ggml':>8}{'MSE/ggml: mean':>16}{'worst':>8}")
    for name in args.formats:
        tasks: dict[str, Encoder] = {effort: our_task(narrow, name, effort) for effort in EFFORTS}
        kind = gguf.GGMLQuantizationType[name]
        try:
            gguf.quantize(weights[:1], kind)
            tasks["gguf-py"] = partial(gguf.quantize, weights, kind)
        except NotImplementedError:
            pass
        if theirs:
            tasks["ggml"] = partial(theirs, name, weights)
        times: dict[str, list[float]] = {label: [] for label in tasks}
        for _ in range(args.rounds):
            for label, task in tasks.items():
                times[label].append(seconds(task))
        errors: dict[str, list[float]] = {}
        for effort in EFFORTS:
            errors[effort] = [
                squared_error(w, encode_ggml(w, name, encoding=Encoding(effort)).data, name)
                for w in zoo_layers
            ]
        if theirs:
            errors["ggml"] = [squared_error(w, theirs(name, w), name) for w in zoo_layers]
        for label, measured in times.items():
            speed = narrow.nbytes / statistics.median(measured) / 1e9
            line = f"{name:<7}{label:<11}{speed:>7.3f}"
            if theirs:
                line += (
                    f"{statistics.median(g / m for g, m in zip(times['ggml'], measured, strict=True)):>8.2f}"
                )
                if label in errors:
                    ratios = [a / b for a, b in zip(errors[label], errors["ggml"], strict=True)]
                    line += f"{statistics.mean(ratios):>16.4f}{max(ratios):>8.4f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
