"""The encoders that the speed benchmarks set side by side, and how they are timed. `peers` has those of others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from workbench.quantize import Encoding
from workbench.quantize.affine.offset import decode_offset, encode_offset
from workbench.quantize.affine.real_zero import decode_affine, encode_affine
from workbench.quantize.ggml import FORMATS, decode_ggml, encode_ggml

BF16 = np.dtype(ml_dtypes.bfloat16)
GROUP = 64
BLOCK = 64
"""Rows that a thread encodes at once."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Contender:
    """One way to encode a bf16 tensor."""

    name: str
    bpw: float
    """Stored bits a weight, scales included."""
    encode: Callable[[Any], Any]
    """Of some rows of what `prepare` gave."""
    decode: Callable[[Any], Array]
    """Of what `encode` gave; float32."""
    prepare: Callable[[Array], Any] = lambda weights: weights
    """The tensor as the encoder takes it, which is not timed."""

    def nsr(self, weights: Array) -> float:
        """‖w − ŵ‖² / ‖w‖² of some rows."""
        values = weights.astype(np.float32)
        error = self.decode(self.encode(self.prepare(weights))).reshape(values.shape) - values
        return float(np.square(error, dtype=np.float64).sum() / np.square(values, dtype=np.float64).sum())

    def seconds(self, prepared: Any, threads: int) -> float:
        """Time of one encoding, each thread taking its share of the blocks of rows."""
        blocks = [prepared[start : start + BLOCK] for start in range(0, len(prepared), BLOCK)]

        def encode_share(first: int) -> None:
            for block in blocks[first::threads]:
                self.encode(block)

        with ThreadPoolExecutor(threads) as pool:
            # The threads exist before the clock starts.
            list(pool.map(lambda _: time.sleep(0.001), range(threads)))
            started = time.perf_counter()
            list(pool.map(encode_share, range(threads)))
            return time.perf_counter() - started


def ours() -> Iterator[Contender]:
    """Round to nearest at all widths, searches, and the blocks of llama.cpp."""
    for bits in range(2, 9):
        yield affine(bits)
    yield affine(4, 128)
    for effort, widths in (("fast", (2, 3, 4, 5, 6, 8)), ("normal", (2, 3, 4, 5)), ("best", (4,))):
        for bits in widths:
            yield offset(bits, effort)
    for name in FORMATS:
        yield blocks(name, "normal")


def affine(bits: int, group: int = GROUP) -> Contender:
    """Round to nearest between the extremes of a group, float32 scale and zero point; the error is not measured."""
    return Contender(
        f"ours, RTN {bits} bits" + (f", groups of {group}" if group != GROUP else ""),
        bits + 64 / group,
        lambda rows: (encode_affine(rows, bits, group, False, measured=False), rows.shape[1]),
        lambda made: decode_affine(made[0].codes, made[0].scales, made[0].origins, made[1], bits, group),
    )


def offset(bits: int, effort: str) -> Contender:
    """MLX's storage, scale and bias in bfloat16; measures its error, as every export does."""
    encoding = Encoding(effort)
    return Contender(
        f"ours, {effort} {bits} bits",
        bits + 32 / GROUP,
        lambda rows: (encode_offset(rows, bits, GROUP, BF16, encoding=encoding), rows.shape[1]),
        lambda made: decode_offset(made[0].codes, made[0].scales, made[0].origins, made[1], bits, GROUP),
    )


def blocks(name: str, effort: str) -> Contender:
    """A block format of llama.cpp's; measures its error."""
    encoding = Encoding(effort)
    return Contender(
        f"ours, {effort} {name}",
        8 * FORMATS[name].row_bytes(256) / 256,
        lambda rows: (encode_ggml(rows, name, encoding=encoding).data, rows.shape[1]),
        lambda made: decode_ggml(made[0], name, made[1]),
    )
