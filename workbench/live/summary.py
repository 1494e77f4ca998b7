"""What one call of a layer saw, computed beside the call with torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.calibration.tally import CallSummary
from workbench.plan import Kind

SAMPLED = 512
"""Absolute values that a call contributes to the sample for percentiles, at most."""

CHUNK = 2**18
"""Values taken at once, so that a second look finds them in the cache."""

GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, fill an interval evenly and hit no channel more often than another."""


Inputs = tuple[int, NDArray[np.float64], NDArray[np.float32], float]
"""Vectors, sums, sample and share of a `CallSummary`."""


class Observer:
    """Summarises calls; inputs that several layers share, as those of q, k and v, once."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, tuple[Any, ...], list[Inputs]] | None = None

    def forget(self) -> None:
        """Let go of the input that was seen last."""
        self._last = None

    def summarise(
        self,
        module: nn.Module,
        kind: Kind,
        given: Tensor,
        output: Tensor,
        parts: list[Tensor | None],
        samples: int,
    ) -> list[CallSummary]:
        """The summary of a call, one for each part of its samples.

        Parameters
        ----------
        module : torch.nn.Module
            The layer that was called.
        kind : str
        given, output : torch.Tensor
            Its input and output.
        parts : list
            Indices of the samples of each part; None for all.
        samples : int
            Samples in the batch.

        Raises
        ------
        ValueError
            If there are several parts, and the input cannot be divided among the samples.
        """
        with torch.no_grad(), torch.autocast(given.device.type, enabled=False):
            inputs = self._inputs(kind, given, parts, samples, module)
            energies = [_energy(module, kind, _select(output, part, samples)) for part in parts]
        return [
            CallSummary(vectors, sums, sample, share, energy)
            for (vectors, sums, sample, share), energy in zip(inputs, energies, strict=True)
        ]

    def _inputs(
        self, kind: Kind, given: Tensor, parts: list[Tensor | None], samples: int, module: Any
    ) -> list[Inputs]:
        if kind == "embedding":
            return [_lookups(_select(given, part, samples), module.num_embeddings) for part in parts]
        # Tensors of the inference mode do not tell whether they were changed in place, so they are measured anew.
        state = (
            None if given.is_inference() else (given._version, kind, kind == "conv" and module.weight.dim())
        )
        if state and self._last and self._last[0] is given and self._last[1] == state:
            return self._last[2]
        found = [_channels(_select(given, part, samples), kind, module) for part in parts]
        # The reference keeps the tensor alive, so that it cannot be mistaken for a new one in the same memory.
        self._last = (given, state, found) if state else None
        return found


def _select(values: Tensor, part: Tensor | None, samples: int) -> Tensor:
    if part is None:
        return values
    if values.shape[0] % samples:
        raise ValueError(f"an input of {values.shape[0]} rows cannot be divided among {samples} samples")
    return values.reshape(samples, values.shape[0] // samples, *values.shape[1:])[part].flatten(0, 1)


def _channels(values: Tensor, kind: Kind, module: Any) -> Inputs:
    flat, over = _as_vectors(values, kind, module)
    sums: Tensor | None = None
    for chunk in _chunks(flat):
        part = chunk.float()
        found = torch.stack([part.sum(over), part.square().sum(over), part.amin(over), part.amax(over)])
        if sums is None:
            sums = found.double()
        else:
            sums[:2] += found[:2]
            torch.minimum(sums[2], found[2].double(), out=sums[2])
            torch.maximum(sums[3], found[3].double(), out=sums[3])
    assert sums is not None
    line = flat.reshape(-1)
    places = _places(line.numel(), min(SAMPLED, line.numel())).to(line.device)
    sample = line[places].float().abs()
    vectors = line.numel() // sums.shape[1]
    return vectors, sums.cpu().numpy(), sample.cpu().numpy(), places.numel() / line.numel()


def _lookups(ids: Tensor, rows: int) -> Inputs:
    counts = torch.bincount(ids.reshape(-1).cpu(), minlength=rows).double().numpy()
    return ids.numel(), counts[None], np.empty(0, np.float32), 1.0


def _energy(module: Any, kind: Kind, output: Tensor) -> float:
    """Mean energy of an output vector, without the bias."""
    flat, over = _as_vectors(output, kind, module)
    bias = getattr(module, "bias", None)
    if bias is not None:
        bias = bias.detach().float()
        bias = bias if kind != "conv" else bias[:, None]
    total = 0.0
    for chunk in _chunks(flat):
        part = chunk.float()
        total += float(torch.linalg.vector_norm(part if bias is None else part - bias)) ** 2
    channels = flat.shape[1 if len(over) == 2 else -1]
    return float(total * channels / flat.numel())


def _as_vectors(values: Tensor, kind: Kind, module: Any) -> tuple[Tensor, tuple[int, ...]]:
    """The values as [vectors, channels], or of a convolution as [samples, channels, places]; and which axes are not
    the channels."""
    values = values.detach()
    if kind == "conv":
        batch = values if values.dim() == module.weight.dim() else values[None]
        return batch.flatten(2), (0, 2)
    return values.reshape(-1, values.shape[-1]), (0,)


def _chunks(values: Tensor) -> Sequence[Tensor]:
    chunks: Sequence[Tensor] = values.split(max(CHUNK * len(values) // max(values.numel(), 1), 1))
    return chunks


@lru_cache(maxsize=256)
def _places(size: int, count: int) -> Tensor:
    """Where in so many values a sample of them is taken."""
    spread = (np.arange(1, count + 1) * GOLDEN) % 1.0
    return torch.from_numpy((spread * size).astype(np.int64))
