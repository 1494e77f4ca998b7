"""Rounding the inputs of a running model's layers to eight bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.calibration import ActivationTables
from workbench.calibration.activation_tables import LEVELS
from workbench.errors import ValidationError
from workbench.live.model.clock import Clock


class Rounding:
    """Rounds the inputs of layers with the scales of the time that a call of the model has.

    Parameters
    ----------
    model : torch.nn.Module
    modules : mapping of str to torch.nn.Module
        The layers, by their names in the tables.
    tables : ActivationTables
    clock : Clock, optional
        Needed where the tables have several groups of time.
    """

    def __init__(
        self,
        model: nn.Module,
        modules: Mapping[str, nn.Module],
        tables: ActivationTables,
        clock: Clock | None,
    ) -> None:
        self._model = model
        self._modules = modules
        self._tables = tables
        self._clock = clock
        self._groups: list[int] = [0]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose inputs are rounded."""
        return tuple(self._modules)

    def start(self) -> Callable[[], None]:
        """Round until what it gives is called."""
        handles: list[Any] = []
        if self._clock is not None:
            handles.append(self._model.register_forward_pre_hook(self._look_at_clock, with_kwargs=True))
        for name, module in self._modules.items():
            hook = partial(self._round_input, name)
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

        def end() -> None:
            for handle in handles:
                handle.remove()

        return end

    def _look_at_clock(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert self._clock is not None
        self._groups = [self._tables.group_at(value) for value in self._clock.times(module, args, kwargs)]

    def _round_input(
        self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = args[0] if args else kwargs["input"]
        scale, zero = (
            self._by_sample(name, given, table[name][self._groups])
            for table in (self._tables.scales, self._tables.zero_points)
        )
        wide = given.float()
        codes = (wide / scale).round().add(zero).clamp(0, LEVELS)
        rounded = ((codes - zero) * scale).to(given.dtype)
        return ((rounded, *args[1:]), kwargs) if args else (args, kwargs | {"input": rounded})

    def _by_sample(self, name: str, given: Tensor, values: NDArray[np.float64]) -> Tensor:
        """One value for all, or one for each sample, repeated where a sample has several rows of the input."""
        if len(values) > 1 and len(given) % len(values):
            raise ValidationError(
                f"The samples of this call have different times, and {name!r} mixes them: an input of {len(given)} "
                f"rows cannot be divided among {len(values)} samples. Use calls whose samples share a time.",
                tensor=name,
            )
        spread = torch.tensor(values, dtype=torch.float32, device=given.device)
        rows = spread.repeat_interleave(len(given) // len(values)) if len(values) > 1 else spread
        return rows.reshape(-1, *[1] * (given.dim() - 1))
