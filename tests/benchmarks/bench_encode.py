"""How fast the 4-bit encoder is, beside vectorised NumPy and llama.cpp's encoders. Run it: python bench_encode.py

Round-to-nearest, groups of 128, packing included, of one bf16 tensor; threads work on blocks of rows. None
measures the error but the one that says so. llama.cpp's encoders (llama-cpp-python's bundled ggml, through
ctypes) take float32: making it from bf16 is not counted. NumPy is our reference, in tiles that fit the cache.
GB/s are always of the bf16 source. Rounds go through all encoders in turn, so that a busy machine slows all
alike; medians are shown, and the best round.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from workbench import backend, reference

GROUP = 128
GGML_TYPES = {"Q4_0": 2, "Q8_0": 8}

Task = Callable[[int, int], None]
"""Encodes the rows from the first number to the second."""


def workbench_task(kernels: Any, weights: np.ndarray, bits: int, measured: bool = False) -> Task:
    rows, cols = weights.shape
    source = weights.view(np.uint16).reshape(-1)
    codes = np.empty((rows, (cols * bits + 7) // 8), np.uint8)
    scales, zeros = np.empty((2, rows, -(-cols // GROUP)), np.float32)
    sums = np.zeros((rows if measured else 0, 3))

    def encode(start: int, stop: int) -> None:
        r = slice(start, stop)
        kernels.affine_encode(
            source[start * cols : stop * cols], False, stop - start, cols, bits, GROUP, False,
            codes[r].reshape(-1), scales[r].reshape(-1), zeros[r].reshape(-1), sums[r],
        )  # fmt: skip

    return encode


def numpy_task(weights: np.ndarray) -> Task:
    """The 4-bit encoder as one would write it in NumPy: no care for hostile values, no scratch arrays reused."""
    rows, cols = weights.shape
    codes = np.empty((rows, cols // 2), np.uint8)
    scales, zeros = np.empty((2, rows, cols // GROUP), np.float32)

    def encode(start: int, stop: int) -> None:
        groups = weights[start:stop].astype(np.float32).reshape(stop - start, cols // GROUP, GROUP)
        low, high = groups.min(axis=2, keepdims=True), groups.max(axis=2, keepdims=True)
        scale = (high - low) / np.float32(15)
        integers = np.rint((groups - low) / scale).astype(np.uint8).reshape(stop - start, cols)
        codes[start:stop] = integers[:, ::2] | integers[:, 1::2] << 4
        scales[start:stop], zeros[start:stop] = scale[..., 0], (-low / scale)[..., 0]

    return encode


def ggml(path: Path | None) -> ctypes.CDLL | None:
    """The library that holds ggml's encoders, or None where llama-cpp-python is not installed."""
    spec = None if path else find_spec("llama_cpp")
    if spec and spec.origin:
        path = next(Path(spec.origin).parent.glob("lib/*ggml-base.*"), None)
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    return library


def ggml_task(library: ctypes.CDLL, weights: np.ndarray, name: str) -> Task:
    cols = weights.shape[1]
    values = weights.astype(np.float32)
    blocks = np.empty(values.nbytes, np.uint8)

    def encode(start: int, stop: int) -> None:
        # ctypes releases the GIL; ggml finds the rows' place in both arrays itself.
        library.ggml_quantize_chunk(
            GGML_TYPES[name], values.ctypes.data, blocks.ctypes.data, start * cols, stop - start, cols, None
        )

    return encode


def seconds(task: Task, rows: int, threads: int) -> float:
    """Time of one encoding in blocks of 64 rows."""
    blocks = [(start, min(start + 64, rows)) for start in range(0, rows, 64)]
    with ThreadPoolExecutor(threads) as pool:
        # The threads exist before the clock starts.
        list(pool.map(lambda _: time.sleep(0.001), range(threads)))
        begin = time.perf_counter()
        list(pool.map(lambda block: task(*block), blocks))
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the tensor")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--ggml", type=Path, help="libggml-base, if llama-cpp-python is in another environment"
    )
    args = parser.parse_args()

    weights = (
        np.random.default_rng(0)
        .standard_normal((args.size, args.size), np.float32)
        .astype(ml_dtypes.bfloat16)
    )
    kernels = backend.kernels()
    tasks = {f"ours, {bits} bits": workbench_task(kernels, weights, bits) for bits in (4, 2, 3, 5, 6, 7, 8)}
    tasks["ours, 4 bits and error sums"] = workbench_task(kernels, weights, 4, measured=True)
    tasks["NumPy, plain, 4 bits"] = numpy_task(weights)
    tasks["NumPy, our reference, 4 bits"] = workbench_task(reference, weights, 4)
    library = ggml(args.ggml)
    if library:
        tasks |= {f"llama.cpp {name} (from f32)": ggml_task(library, weights, name) for name in GGML_TYPES}

    print(f"RTN encode of bf16 [{args.size}, {args.size}], group {GROUP}; kernels: {kernels.description}")
    print(
        f"{'encoder':<28}{'threads':>8}{'GB/s median':>13}{'best':>7}{'G weights/s':>13}{'ours, 4 bits, is':>18}"
    )
    for threads in args.threads:
        times: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(args.rounds):
            for name, task in tasks.items():
                times[name].append(seconds(task, args.size, threads))
        ours = times["ours, 4 bits"]
        for name, measured in times.items():
            median = statistics.median(measured)
            # Rounds are compared one by one, for the machine may have been busier in some.
            ratio = statistics.median(theirs / mine for theirs, mine in zip(measured, ours, strict=True))
            print(
                f"{name:<28}{threads:>8}{weights.nbytes / median / 1e9:>13.2f}"
                f"{weights.nbytes / min(measured) / 1e9:>7.2f}{weights.size / median / 1e9:>13.2f}{ratio:>16.1f} x"
            )
    if not library:
        print(
            "llama.cpp: llama-cpp-python is not installed (pip install llama-cpp-python, or --ggml=…/libggml-base.so)"
        )


if __name__ == "__main__":
    main()
