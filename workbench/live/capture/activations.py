"""Sums over the channels of activations: by the kernels in the processor's memory, elsewhere by torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.kernels import load_kernels
from workbench.plan import LayerKind

PIECE = 2**24
"""Values widened at once where torch sums them."""

PATTERNS = {torch.float32: torch.uint32, torch.bfloat16: torch.uint16, torch.float16: torch.uint16}
"""Dtypes that the kernels read, as the bit patterns that they read them as."""

GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, fill an interval evenly and hit no channel more often than another."""


Moments = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32], float]
"""Σx, Σx² and greatest |x| of each channel, [3, channels]; Σx, Σx², least and greatest x of all, [4]; some of the |x|,
evenly spread; and which part of them that is."""


class Activations(Protocol):
    """Activations as [vectors, channels, places]."""

    vectors: int
    """Their number; of a convolution, its pixels."""

    def moments(self, most: int) -> Moments:
        """Sums, and a sample of at most so many values."""

    def energy(self, bias: Tensor | None) -> float:
        """Mean ‖x − bias‖² of a vector."""


class Room:
    """Scratch for the kernels: 2048 values side by side, and totals of 4096 channels."""

    def __init__(self) -> None:
        self.strips = {size: np.empty(2048, f"u{size}") for size in (2, 4)}
        self.patterns = np.empty(2048, np.uint32)
        self.values, self.keys = self.patterns.view(np.float32), self.patterns.view(np.int32)
        self.totals = np.empty(8192)
        self.extremes = np.empty(8192, np.int32)
        self.ends = self.extremes.view(np.float32)


def activations(values: Tensor, kind: LayerKind, module: Any, room: Room) -> Activations:
    """The input or output of a layer; of a convolution the pixels are the places, otherwise there is one.

    Parameters
    ----------
    values : torch.Tensor
        Not empty.
    kind : str
        Of the layer.
    module : torch.nn.Module
        The layer.
    room : Room
        For one thread.
    """
    if values.requires_grad:
        values = values.detach()
    shape = values.shape
    axis = len(shape) - (module.weight.dim() - 1 if kind == "conv" else 1)
    channels, places = shape[axis], math.prod(shape[axis + 1 :])
    dtype = PATTERNS.get(values.dtype)
    if dtype and values.device.type == "cpu":
        patterns = values.contiguous().view(dtype).numpy().reshape(-1)
        return _Patterns(patterns, values.dtype == torch.float16, channels, places, room)
    return _Tensor(values.reshape(-1, channels, places))


class _Patterns:
    """In the processor's memory, as bit patterns.

    Summed on one thread: torch's own wait for their next work without sleeping, and would be in the way of others.
    """

    def __init__(
        self,
        patterns: NDArray[np.uint16 | np.uint32],
        is_half: bool,
        channels: int,
        places: int,
        room: Room,
    ) -> None:
        self._patterns = patterns
        self._is_half = is_half
        self._channels = channels
        self._places = places
        self._room = room
        self.vectors = patterns.size // channels

    def moments(self, most: int) -> Moments:
        size, room = self._patterns.size, self._room
        spots = _spots(size, min(most, size))
        sums, overall, sample = np.empty((3, self._channels)), np.empty(4), np.empty(spots.size, np.float32)
        load_kernels().channel_sums(
            self._patterns, self._is_half, self._places, sums, overall, spots, sample,
            room.strips[self._patterns.itemsize], room.patterns, room.values, room.keys, room.totals,
            room.extremes, room.ends,
        )  # fmt: skip
        return sums, overall, sample, spots.size / size

    def energy(self, bias: Tensor | None) -> float:
        room = self._room
        middle = np.zeros(self._channels, np.float32) if bias is None else bias.detach().float().numpy()
        total: float = load_kernels().output_energy(
            self._patterns, self._is_half, self._places, middle, room.strips[self._patterns.itemsize],
            room.patterns, room.values, room.totals, room.ends,
        )  # fmt: skip
        return total / self.vectors


class _Tensor:
    """On another device, or of a dtype that the kernels do not read."""

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self.vectors = int(values.shape[0] * values.shape[2])

    def moments(self, most: int) -> Moments:
        sums = self._values.new_zeros(3, self._values.shape[1], dtype=torch.float64)
        ends = []
        for piece in self._pieces():
            sums[0] += piece.sum((0, 2))
            sums[1] += piece.square().sum((0, 2))
            torch.maximum(sums[2], piece.abs().amax((0, 2)).double(), out=sums[2])
            ends.append(torch.stack(piece.aminmax()))
        lows, highs = torch.stack(ends).double().cpu().numpy().T
        found = sums.cpu().numpy()
        overall = np.array([*found[:2].sum(axis=1), lows.min(), highs.max()])
        line = self._values.reshape(-1)
        spots = _spots(line.numel(), min(most, line.numel()))
        sample = line[torch.from_numpy(spots).to(line.device)].float().abs()
        return found, overall, sample.cpu().numpy(), spots.size / line.numel()

    def energy(self, bias: Tensor | None) -> float:
        middle = self._values.new_zeros(1) if bias is None else bias.detach().to(self._values.device)
        total = sum(float((piece - middle.float()[:, None]).square().sum()) for piece in self._pieces())
        return total / self.vectors

    def _pieces(self) -> Iterator[Tensor]:
        """Few vectors at a time, in float32."""
        for piece in self._values.split(max(PIECE * len(self._values) // self._values.numel(), 1)):
            yield piece.float()


@lru_cache(maxsize=256)
def _spots(size: int, count: int) -> NDArray[np.int64]:
    """Where in so many values a sample of them is taken."""
    return ((np.arange(1, count + 1) * GOLDEN) % 1.0 * size).astype(np.int64)
