"""What one call of a layer saw, computed beside the call."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.calibration.tally import CallSummary
from workbench.live.capture.activations import Room, activations
from workbench.plan import LayerKind

SAMPLED = 512
"""Absolute values that a call contributes to the sample for percentiles, at most."""

Inputs = tuple[int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float32], float]
"""All of a `CallSummary` but the energy."""


class Observer:
    """Summarises calls; inputs that several layers share, as those of q, k and v, once."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, tuple[Any, ...], list[Inputs]] | None = None
        self._room = Room()

    def forget(self) -> None:
        """Let go of the input that was seen last."""
        self._last = None

    def summarise(
        self,
        module: nn.Module,
        kind: LayerKind,
        given: Tensor,
        output: Tensor,
        bias: Tensor | None,
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
        bias : torch.Tensor, optional
            What it adds to its output.
        parts : list
            Indices of the samples of each part; None for all.
        samples : int
            Samples in the batch.

        Raises
        ------
        ValueError
            If there are several parts, and the input cannot be divided among the samples.
        """
        inputs = self._inputs(kind, given, parts, samples, module)
        energies = [self._energy(module, kind, _select(output, part, samples), bias) for part in parts]
        return [CallSummary(*measured, energy) for measured, energy in zip(inputs, energies, strict=True)]

    def _inputs(
        self, kind: LayerKind, given: Tensor, parts: list[Tensor | None], samples: int, module: Any
    ) -> list[Inputs]:
        if kind == "embedding":
            return [_lookups(_select(given, part, samples), module.num_embeddings) for part in parts]
        # Tensors of the inference mode do not tell whether they were changed in place, so they are measured anew.
        state = (
            None if given.is_inference() else (given._version, kind, kind == "conv" and module.weight.dim())
        )
        if state and self._last and self._last[0] is given and self._last[1] == state:
            return self._last[2]
        found = [self._channels(_select(given, part, samples), kind, module) for part in parts]
        # The reference keeps the tensor alive, so that it cannot be mistaken for a new one in the same memory.
        self._last = (given, state, found) if state else None
        return found

    def _channels(self, values: Tensor, kind: LayerKind, module: Any) -> Inputs:
        found = activations(values, kind, module, self._room)
        return found.vectors, *found.moments(SAMPLED)

    def _energy(self, module: Any, kind: LayerKind, output: Tensor, bias: Tensor | None) -> float:
        """Mean energy of an output vector, without the bias."""
        return activations(output, kind, module, self._room).energy(bias)


def _select(values: Tensor, part: Tensor | None, samples: int) -> Tensor:
    if part is None:
        return values
    if values.shape[0] % samples:
        raise ValueError(f"an input of {values.shape[0]} rows cannot be divided among {samples} samples")
    return values.reshape(samples, values.shape[0] // samples, *values.shape[1:])[part].flatten(0, 1)


def _lookups(ids: Tensor, rows: int) -> Inputs:
    counts = torch.bincount(ids.reshape(-1).cpu(), minlength=rows).double().numpy()
    return ids.numel(), counts[None], np.zeros(4), np.empty(0, np.float32), 1.0
