"""Running a model with the weights that an export decodes to, and with activations of eight bits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.calibration import ActivationMode, ActivationTables, TimeAwareQuantizer
from workbench.calibration.activation_tables import LEVELS, mode_named
from workbench.checkpoint import Checkpoint, named_as, open_checkpoint
from workbench.errors import ConfigurationError, ShapeMismatchError, ValidationError
from workbench.live.clock import Clock, Read, clock_for
from workbench.live.errors import decoded_weights
from workbench.live.modules import kind_of, match_modules, prefixes
from workbench.pipeline.export import Export, load
from workbench.plan import Plan


def apply(
    module: nn.Module,
    source: Plan | Export | str | os.PathLike[str],
    checkpoint: Checkpoint | str | os.PathLike[str],
    *,
    activations: ActivationMode = "none",
    tables: ActivationTables | TimeAwareQuantizer | None = None,
    time: Read | Clock | str | None = None,
) -> Applied:
    """Let a model run with what an export decodes to.

    It takes effect at once. Use the result in a ``with`` statement, or call its `Applied.undo`, to have the model
    as it was; drop it, and the model's own weights are let go.

    Parameters
    ----------
    module : torch.nn.Module
        The model. Its weights are replaced in their own dtype, rounded half to even where that is narrower
        than float32.
    source : Plan, Export or path-like
        A plan, which is encoded and decoded in memory, or the folder of an export.
    checkpoint : Checkpoint or path-like
        The checkpoint that the model was loaded from; ``"zoo:digits-dit"`` for one of the zoo.
    activations : str
        ``"none"``, ``"int8-time"`` or ``"int8-static"``; see `ActivationMode`.
    tables : ActivationTables or TimeAwareQuantizer, optional
        Scales of activations; by default those that the export carries. A plan whose codes are weighed by a
        calibration needs its `TimeAwareQuantizer`.
    time : Clock, callable or str, optional
        Where a call's time comes from, see `clock_for`.

    Raises
    ------
    ConfigurationError
        If the activations are to be rounded and there are no tables, or the mode is unknown.
    ValidationError
        If the source was made for another checkpoint, or the model has none of its layers.
    ShapeMismatchError
        If a tensor of the export has another shape than the model's.

    Examples
    --------
    >>> with wb.live.apply(pipe.transformer, "out/", "path/to/model"):  # doctest: +SKIP
    ...     images = pipe("a cat").images
    """
    activations = mode_named(activations)
    if not isinstance(checkpoint, Checkpoint):
        with open_checkpoint(os.fspath(checkpoint)) as opened:
            return apply(module, source, opened, activations=activations, tables=tables, time=time)
    plan_or_export = source if isinstance(source, Plan | Export) else load(os.fspath(source))
    plan = plan_or_export if isinstance(plan_or_export, Plan) else plan_or_export.plan
    folds = getattr(plan_or_export, "folds", None)
    # An export of a folded checkpoint carries all that was folded, and belongs to the model as it was before.
    if checkpoint.fingerprint not in (plan.fingerprint, (folds or {}).get("source")):
        if named_as(checkpoint, plan.choices) is not checkpoint:
            raise ValidationError(
                f"{checkpoint.path}: what is to be applied goes by the names of the original single-file checkpoint, "
                "which the running model does not have. Plan or export with names='checkpoint', and apply that.",
                path=checkpoint.path,
            )
        raise ValidationError(
            f"{checkpoint.path}: what is to be applied was made for another checkpoint. Give the one that it was made "
            "from.",
            path=checkpoint.path,
        )
    found = None
    if activations != "none":
        if isinstance(tables, TimeAwareQuantizer):
            found = ActivationTables.from_dict(tables.to_dict())
        else:
            found = tables or getattr(plan_or_export, "activation_tables", None)
        if found is None:
            raise ConfigurationError(
                f"activations={activations!r} needs scales: export from a session with a calibration, or give "
                "tables=session.time_aware.",
                key="activations",
                value=activations,
            )
        found = found if activations == "int8-time" else found.static()
    records = tables.records if isinstance(tables, TimeAwareQuantizer) else None
    weights = (
        decoded_weights(checkpoint, plan_or_export, records)
        if isinstance(plan_or_export, Plan)
        else _all_of(plan_or_export)
    )
    clock = clock_for(module, checkpoint, time) if found and len(found.borders) else None
    return Applied(module, checkpoint, weights, found, clock)


class Applied:
    """A model that runs with other weights than its own. Made by `apply`.

    Attributes
    ----------
    replaced : tuple of str
        The tensors that took the place of the model's own, by their names in the checkpoint.
    missing : tuple of str
        Tensors of the export that the model has no parameter or buffer for.
    rounded : tuple of str
        Layers whose input is rounded to eight bits.
    """

    def __init__(
        self,
        model: nn.Module,
        checkpoint: Checkpoint,
        weights: Iterator[tuple[str, NDArray[Any]]],
        tables: ActivationTables | None,
        clock: Clock | None,
    ) -> None:
        self._model = model
        self._own: list[tuple[Tensor, Tensor]] = []
        self._handles: list[Any] = []
        self._clock = clock
        self._tables = tables
        self._groups: list[int] = [0]
        self.rounded: tuple[str, ...] = ()
        modules = match_modules(model, checkpoint)
        missing = []
        replaced = []
        ours, theirs = prefixes(model, checkpoint)
        places = dict(model.named_parameters(remove_duplicate=False)) | dict(
            model.named_buffers(remove_duplicate=False)
        )
        try:
            for name, values in weights:
                place = (
                    modules[name].weight if name in modules else places.get(theirs + name.removeprefix(ours))
                )
                if place is None:
                    missing.append(name)
                    continue
                self._replace(name, place, values)
                replaced.append(name)
            if tables is not None:
                self._round_activations(modules, tables)
        except BaseException:
            self.undo()
            raise
        self.replaced, self.missing = tuple(replaced), tuple(missing)

    def undo(self) -> None:
        """Give the model its own weights back, and its inputs as they are."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for place, own in reversed(self._own):
            place.data = own
        self._own.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()

    def __repr__(self) -> str:
        rounded = f", {len(self.rounded)} inputs rounded to 8 bits" if self.rounded else ""
        return f"<Applied to {type(self._model).__name__}: {len(self.replaced)} tensors replaced{rounded}>"

    def _replace(self, name: str, place: Any, values: NDArray[Any]) -> None:
        if values.size != place.numel():
            raise ShapeMismatchError(
                f"{name!r} is {values.shape} in the export, {tuple(place.shape)} in the model.", tensor=name
            )
        own = place.data
        self._own.append((place, own))
        place.data = _tensor(values).reshape(own.shape).to(own.device, own.dtype)

    def _round_activations(self, modules: Mapping[str, nn.Module], tables: ActivationTables) -> None:
        if self._clock is not None:
            self._handles.append(self._model.register_forward_pre_hook(self._look_at_clock, with_kwargs=True))
        names = [
            name for name, found in modules.items() if name in tables.scales and kind_of(found) != "embedding"
        ]
        for name in names:
            hook = partial(self._round_input, name)
            self._handles.append(modules[name].register_forward_pre_hook(hook, with_kwargs=True))
        self.rounded = tuple(names)

    def _look_at_clock(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert self._clock is not None
        assert self._tables is not None
        self._groups = [self._tables.group_at(value) for value in self._clock.times(module, args, kwargs)]

    def _round_input(
        self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        assert self._tables is not None
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


def _all_of(export: Export) -> Iterator[tuple[str, NDArray[Any]]]:
    for name in export:
        yield name, export[name]


def _tensor(values: NDArray[Any]) -> Tensor:
    """A tensor that shares the memory of an array."""
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)
