"""What searching costs and gains: NSR and speed of each effort beside mlx and llama.cpp. Run it: python bench_search.py

Groups of 64 with scales and offsets in bfloat16, of one bf16 tensor of N(0, 1); packing and error sums included. mlx
is `mlx.core.quantize` on the CPU, llama.cpp its Q4_K encoder from float32 (groups of 32 in blocks of 256). GB/s are
always of the bf16 source; threads work on blocks of rows, and rounds go through all encoders in turn. Beside the time
on the clock stands that of the processor in one thread, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import ml_dtypes
import mlx.core as mx
import numpy as np

from workbench import backend
from workbench.quantize import Encoding
from workbench.quantize.offset import encode_offset

GROUP = 64
Q4_K, Q4_K_BYTES = 12, 144
"""llama.cpp's number of the type, and bytes of a block of 256 weights."""

BF16 = np.dtype(ml_dtypes.bfloat16)
Task = Callable[[np.ndarray], float]
"""Encodes some rows; returns ‖w − ŵ‖², or NaN where it does not tell."""


def ours(effort: str, bits: int, importance: np.ndarray | None = None) -> Task:
    encoding = Encoding(effort, importance)
    return lambda rows: encode_offset(rows, bits, GROUP, BF16, encoding=encoding).error.noise


def mlx(bits: int) -> Task:
    def encode(rows: np.ndarray) -> float:
        made = mx.quantize(mx.array(rows.view(np.uint16)).view(mx.bfloat16), group_size=GROUP, bits=bits)
        mx.eval(*made)
        codes, scales, biases = made
        decoded = mx.dequantize(
            codes, scales.astype(mx.float32), biases.astype(mx.float32), group_size=GROUP, bits=bits
        )
        return float(np.square(rows.astype(np.float32) - np.array(decoded)).sum(dtype=np.float64))

    return encode


def only_encoding(task: Task) -> Task:
    """mlx's encoder without decoding, which its timing does not count."""
    bits = int(task.__name__.rpartition(" ")[2])

    def encode(rows: np.ndarray) -> float:
        mx.eval(*mx.quantize(mx.array(rows.view(np.uint16)).view(mx.bfloat16), group_size=GROUP, bits=bits))
        return math.nan

    return encode


def ggml() -> Task | None:
    """llama.cpp's Q4_K encoder, where llama-cpp-python is installed."""
    spec = find_spec("llama_cpp")
    path = next(Path(spec.origin).parent.glob("lib/*ggml-base.*"), None) if spec and spec.origin else None
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip

    def encode(rows: np.ndarray) -> float:
        values = rows.astype(np.float32)
        blocks = np.empty(values.size // 256 * Q4_K_BYTES, np.uint8)
        library.ggml_quantize_chunk(
            Q4_K, values.ctypes.data, blocks.ctypes.data, 0, len(rows), rows.shape[1], None
        )
        return math.nan

    return encode


def seconds(task: Task, weights: np.ndarray, threads: int) -> tuple[float, float]:
    """Time of one encoding in blocks of 64 rows: on the clock, and of the processor."""
    blocks = [weights[start : start + 64] for start in range(0, len(weights), 64)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: time.sleep(0.001), range(threads)))
        clock, processor = time.perf_counter(), time.process_time()
        list(pool.map(task, blocks))
        return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048, help="rows and columns of the tensor")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 3, 4, 5, 6, 8])
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((args.size, args.size), np.float32).astype(BF16)
    signal = float(np.square(weights.astype(np.float64)).sum())
    importance = rng.exponential(size=args.size).astype(np.float32)
    importance /= importance.max()

    print(f"bf16 [{args.size}, {args.size}], groups of {GROUP}; kernels: {backend.kernels().description}")
    print(
        f"{'encoder':<24}{'NSR':>10}{'dB':>7}{'GB/s, 1 thread':>16}{'2 threads':>11}{'processor':>11}{'× Q4_K':>8}"
    )
    for bits in args.bits:
        tasks: dict[str, tuple[Task, Task]] = {}
        for effort in ("fast", "normal", "best"):
            task = ours(effort, bits)
            tasks[f"{effort}, {bits} bits"] = task, task
        weighed = ours("normal", bits, importance)
        tasks[f"normal weighed, {bits} bits"] = weighed, weighed
        if bits != 7:
            task = mlx(bits)
            task.__name__ = f"mlx {bits}"
            tasks[f"mlx, {bits} bits"] = task, only_encoding(task)
        if found := ggml():
            tasks["llama.cpp Q4_K"] = found, found
        times: dict[str, list[list[float]]] = {name: [] for name in tasks}
        for _ in range(args.rounds):
            for name, (_, timed) in tasks.items():
                one, processor = seconds(timed, weights, 1)
                times[name].append([one, seconds(timed, weights, 2)[0], processor])
        for name, (task, _) in tasks.items():
            nsr = task(weights) / signal
            one, two, processor = (
                weights.nbytes / statistics.median(taken) / 1e9 for taken in zip(*times[name], strict=True)
            )
            ratio = (
                statistics.median(
                    theirs[2] / mine[2]
                    for theirs, mine in zip(times["llama.cpp Q4_K"], times[name], strict=True)
                )
                if found
                else math.nan
            )
            rates = f"{one:>16.3f}{two:>11.3f}{processor:>11.3f}{ratio:>8.1f}"
            print(f"{name:<24}{nsr:>10.5f}{-10 * math.log10(nsr):>7.2f}{rates}")


if __name__ == "__main__":
    main()
