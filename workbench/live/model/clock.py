"""What time it is in a call of a denoiser."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.architectures import MASK_RATIO
from workbench.calibration.layer_record import MAX_BUCKETS
from workbench.checkpoint import Checkpoint
from workbench.errors import ArgumentError

Read = Callable[[nn.Module, Sequence[Any], Mapping[str, Any]], Any]
"""Takes a model and the positional and named arguments of a call; gives its time, one number or one a sample."""

TIMESTEP_NAMES = ("timestep", "timesteps", "sigma", "sigmas", "noise_level", "time", "t")
"""What denoisers call their time; diffusers' first."""


ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Clock:
    """Tells the time of a call."""

    name: str
    """What time means, such as ``"timestep"``."""
    read: Read
    """Reads it off a call."""

    def times(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[float]:
        """The time of a call: one number, or one for each sample where they differ.

        Raises
        ------
        ArgumentError
            If it is not finite numbers.
        """
        read = torch.as_tensor(self.read(model, args, kwargs)).detach().reshape(-1)
        found = read.to("cpu", torch.float64)
        if not found.numel() or not torch.isfinite(found).all():
            raise ArgumentError(
                f"The time of a call is {read}; a clock must give finite numbers.",
                key="time",
                value=str(read),
            )
        values: list[float] = found.tolist()
        return values[:1] if len(set(values)) == 1 else values


def clock_for(model: nn.Module, checkpoint: Checkpoint, time: Read | Clock | str | None) -> Clock:
    """The clock for a model.

    Parameters
    ----------
    model : torch.nn.Module
    checkpoint : Checkpoint
        Its configuration's ``mask_token_id`` tells a masked-diffusion language model.
    time : Clock, callable or str, optional
        A clock, a function that reads the time off a call, or the name of the argument it is in. By default that of the
        checkpoint's architecture where the model takes its arguments; else the mask ratio where the configuration has a
        mask token and the model takes ``input_ids``; else the time step.

    Raises
    ------
    ArgumentError
        If the model has no argument that is known to be its time.
    """
    match time:
        case Clock():
            return time
        case str():
            return Clock(time, _argument(model, (time,)))
        case None:
            return _known_clock(model, checkpoint) or timestep(model)
        case _:
            return Clock("time", time)


def _known_clock(model: nn.Module, checkpoint: Checkpoint) -> Clock | None:
    """The clock of the checkpoint's architecture, or of any language model with a mask token; None for neither."""
    mask = checkpoint.config.get("mask_token_id")
    own = None if checkpoint.family is None else checkpoint.family.clock
    for clock in filter(None, (own, MASK_RATIO)):
        if not any(name in _signature(model).parameters for name in clock.arguments):
            continue
        if clock.name != MASK_RATIO.name:
            return Clock(clock.name, _argument(model, clock.arguments))
        if isinstance(mask, int):
            return _mask_ratio(mask, clock.arguments)
    return None


def timestep(model: nn.Module) -> Clock:
    """The clock of a model that is given its time step, under one of diffusers' names for it.

    Raises
    ------
    ArgumentError
        If it has no such argument.
    """
    return Clock("timestep", _argument(model, TIMESTEP_NAMES))


def mask_ratio(mask_token_id: int) -> Clock:
    """The clock of a masked-diffusion language model: the share of its ``input_ids`` that are masked.

    The ratio is given as the middle of one of 64 equal parts of 0 to 1.
    """
    return _mask_ratio(mask_token_id, MASK_RATIO.arguments)


def _mask_ratio(mask_token_id: int, arguments: Sequence[str]) -> Clock:
    def read(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        ids: Tensor = _bound(model, arguments, args, kwargs)
        masked = (ids == mask_token_id).reshape(len(ids), -1).double().mean(dim=1)
        part = (masked * MAX_BUCKETS).floor().clamp(max=MAX_BUCKETS - 1)
        return (part + 0.5) / MAX_BUCKETS

    return Clock(MASK_RATIO.name, read)


def _signature(model: nn.Module) -> inspect.Signature:
    """The arguments of a model's calls; of its class's where a library put another forward in their place."""
    found = inspect.signature(model.forward)
    if "forward" in vars(model) and all(one.kind in ANY for one in found.parameters.values()):
        own = inspect.signature(type(model).forward)
        return own.replace(parameters=list(own.parameters.values())[1:])
    return found


def _argument(model: nn.Module, names: Sequence[str]) -> Read:
    parameters = _signature(model).parameters
    known = [name for name in names if name in parameters]
    if not known:
        raise ArgumentError(
            f"{type(model).__name__}.forward has none of the arguments {', '.join(names)}, but "
            f"{', '.join(parameters)}. Name the one that is the time, or give a function that reads it: "
            "time=lambda module, args, kwargs: ….",
            key="time",
        )
    return lambda module, args, kwargs: _bound(module, known, args, kwargs)


def _bound(model: nn.Module, names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    for name in names:
        if kwargs.get(name) is not None:
            return kwargs[name]
    given = _signature(model).bind_partial(*args, **kwargs).arguments
    for name in names:
        if given.get(name) is not None:
            return given[name]
    raise ArgumentError(
        f"{type(model).__name__} was called without {' or '.join(names)}, which is its time.", key="time"
    )
