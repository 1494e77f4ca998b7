"""Running a model with the weights that an export decodes to, and with activations of eight bits."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.calibration import ActivationMode, ActivationTables, TimeAwareQuantizer
from workbench.calibration.activation_tables import mode_named
from workbench.checkpoint import Checkpoint, opened, split_rows
from workbench.engine.output.record import Export, load
from workbench.errors import ArgumentError, ShapeMismatchError, ValidationError
from workbench.live.importance.sensitivity import require
from workbench.live.model.clock import Clock, Read, clock_for
from workbench.live.model.eager import run_uncompiled
from workbench.live.model.missing_layers import listed
from workbench.live.model.modules import Match, kind_of, match_layers
from workbench.live.model.weight_check import check_same_weights
from workbench.live.model.weights import Slot, refuse_copies, slot_of
from workbench.live.validation.rounding import Rounding
from workbench.live.validation.weight_errors import checkpoint_for, decoded_weights, progress_of
from workbench.plan import Plan
from workbench.work import Progress, ProgressCallback

Missing = Literal["refuse", "ignore"]


def apply(
    module: nn.Module,
    source: Plan | Export | str | os.PathLike[str],
    checkpoint: Checkpoint | str | os.PathLike[str],
    *,
    activations: ActivationMode = "none",
    tables: ActivationTables | TimeAwareQuantizer | None = None,
    time: Read | Clock | str | None = None,
    component: str | None = None,
    missing: Missing = "refuse",
    check_weights: bool = True,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> Applied:
    """Let a model run with what an export decodes to.

    It takes effect at once. Use the result in a ``with`` statement, or call its `Applied.undo`, to have the model
    as it was; drop it, and the model's own weights are let go.

    Parameters
    ----------
    module : torch.nn.Module
        The model. Its weights are replaced in their own dtype, rounded half to even where that is narrower
        than float32. It may be compiled, offloaded by accelerate, or have PEFT's adapters, which stay on top.
    source : Plan, Export or path-like
        A plan, which is encoded and decoded in memory, or the folder of an export. Where it goes by the names of the
        original single-file checkpoint, fused tensors are taken apart into the model's own.
    checkpoint : Checkpoint or path-like
        The checkpoint that the model was loaded from; ``"zoo:digits-dit"`` for one of the zoo.
    activations : str
        ``"none"``, ``"int8-time"`` or ``"int8-static"``; see `ActivationMode`. Compiled models run without their
        compiled code while activations are rounded.
    tables : ActivationTables or TimeAwareQuantizer, optional
        Scales of activations; by default those that the export carries. A plan whose codes are weighed by a
        calibration needs its `TimeAwareQuantizer`.
    time : Clock, callable or str, optional
        Where a call's time comes from, see `clock_for`.
    component : str, optional
        The component of a diffusers folder.
    missing : str
        What to do where layers of the plan cannot be replaced in the model: ``"refuse"`` before anything is changed,
        or ``"ignore"``, which replaces the others and lists these in `Applied.missing`.
    check_weights : bool
        Make sure that the model has the checkpoint's weights.
    callback, cancel
        Hear of the progress; stop the work with a `CancelledError`, and the model is as it was.

    Raises
    ------
    ArgumentError
        If the activations are to be rounded and there are no tables, or a choice is unknown.
    ValidationError
        If the source was made for another checkpoint, the model has other weights than the checkpoint, or it lacks
        layers of the plan.
    ShapeMismatchError
        If a tensor of the export has another shape than the model's.

    Examples
    --------
    >>> with wb.live.apply(pipe.transformer, "out/", "path/to/model"):  # doctest: +SKIP
    ...     images = pipe("a cat").images
    """
    activations = mode_named(activations)
    require("missing", missing, get_args(Missing))
    plan_or_export = source if isinstance(source, Plan | Export) else load(os.fspath(source))
    plan = plan_or_export if isinstance(plan_or_export, Plan) else plan_or_export.plan
    folds = getattr(plan_or_export, "folds", None)
    with opened(checkpoint, component) as given:
        # An export of a folded checkpoint carries all that was folded, and belongs to the model as it was before.
        working = checkpoint_for(given, plan, (folds or {}).get("source"))
        scales = _tables(activations, tables, plan_or_export)
        match = match_layers(module, working)
        if check_weights:
            check_same_weights(match.modules, working.stored)
        changing = (
            list(plan_or_export)
            if folds and isinstance(plan_or_export, Export)
            else [name for name, option in plan.choices.items() if not option.is_kept]
        )
        needed = [part for name in changing for part in files_names(working, name)]
        rounding = None
        if scales is not None:
            scales = _by_files_names(scales, working)
            clock = clock_for(match.root, working, time) if len(scales.borders) else None
            rounding = Rounding(match.root, _inputs(match, scales, missing), scales, clock)
        slots = _slots(match, needed, missing)
        records = tables.records if isinstance(tables, TimeAwareQuantizer) else None
        weights = (
            decoded_weights(working, plan, records, progress_of(plan, working, callback, cancel))
            if isinstance(plan_or_export, Plan)
            else _all_of(plan_or_export, callback, cancel)
        )
        return Applied(match, _by_files_tensors(working, weights), slots, rounding)


def files_names(checkpoint: Checkpoint, name: str) -> tuple[str, ...]:
    """What a tensor of a checkpoint is made of, by the names in its files."""
    parts = (checkpoint.parts or {}).get(name)
    return (name,) if parts is None else tuple(dict.fromkeys(part.tensor for part in parts))


class Applied:
    """A model that runs with other weights than its own. Made by `apply`.

    Attributes
    ----------
    replaced : tuple of str
        The tensors that took the place of the model's own, by their names in the checkpoint's files.
    missing : dict of str to str
        Tensors that were not put into the model, and why.
    rounded : tuple of str
        Layers whose input is rounded to eight bits.
    """

    def __init__(
        self,
        match: Match,
        weights: Iterator[tuple[str, NDArray[Any]]],
        slots: Mapping[str, Slot | str],
        rounding: Rounding | None,
    ) -> None:
        self._model = match.root
        self._undo = ExitStack()
        self.rounded: tuple[str, ...] = ()
        self.missing: dict[str, str] = {}
        replaced = []
        try:
            for name, values in weights:
                slot = slots[name] if name in slots else _slot(match, name)
                if isinstance(slot, str):
                    self.missing[name] = slot
                    continue
                self._replace(name, slot, values)
                replaced.append(name)
            if rounding is not None:
                self._undo.callback(run_uncompiled())
                self._undo.callback(rounding.start())
                self.rounded = rounding.layers
            elif _weights_are_compiled_in():
                self._undo.callback(run_uncompiled())
        except BaseException:
            self.undo()
            raise
        self.replaced = tuple(replaced)

    def undo(self) -> None:
        """Give the model its own weights back, and its inputs as they are."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()

    def __repr__(self) -> str:
        rounded = f", {len(self.rounded)} inputs rounded to 8 bits" if self.rounded else ""
        left_out = f", {len(self.missing)} left out" if self.missing else ""
        return f"<Applied to {type(self._model).__name__}: {len(self.replaced)} tensors replaced{left_out}{rounded}>"

    def _replace(self, name: str, slot: Slot, values: NDArray[Any]) -> None:
        own = slot.read()
        if values.size != own.numel():
            raise ShapeMismatchError(
                f"{name!r} is {values.shape} in the export, {tuple(own.shape)} in the model.", tensor=name
            )
        self._undo.callback(slot.replace(_tensor(values)))


def require_all(match: Match, names: Iterable[str]) -> dict[str, Slot]:
    """The places of the weights of layers that are all to be replaced.

    Raises
    ------
    ValidationError
        If the model has none for some of them: names them and the reasons.
    """
    return {name: slot for name, slot in _slots(match, names, "refuse").items() if isinstance(slot, Slot)}


def _slots(match: Match, names: Iterable[str], missing: Missing) -> dict[str, Slot | str]:
    """Where tensors that are to be replaced are in the model, or why they are nowhere."""
    refuse_copies(match.root)
    slots: dict[str, Slot | str] = {}
    holders: dict[object, str] = {}
    for name in names:
        found = _slot(match, name)
        if isinstance(found, Slot):
            other = holders.setdefault(found.key, name)
            if other != name:
                found = f"the model has one weight for it and {other}"
        slots[name] = found
    reasons = {name: found for name, found in slots.items() if isinstance(found, str)}
    if reasons and (missing == "refuse" or len(reasons) == len(slots)):
        raise ValidationError(
            f"{len(reasons)} of {len(slots)} tensors cannot be replaced in the {type(match.root).__name__}, and it was "
            f"left as it is: {listed(reasons)}. missing='ignore' applies the others.",
            tensor=next(iter(reasons)),
        )
    return slots


def _slot(match: Match, name: str) -> Slot | str:
    if name in match.missing:
        return match.missing[name]
    owner = match.owner(name)
    return "not in the model" if owner is None else slot_of(*owner)


def _tables(
    activations: ActivationMode,
    tables: ActivationTables | TimeAwareQuantizer | None,
    plan_or_export: Plan | Export,
) -> ActivationTables | None:
    if activations == "none":
        return None
    if isinstance(tables, TimeAwareQuantizer):
        found: ActivationTables | None = ActivationTables.from_dict(tables.to_dict())
    else:
        found = tables or getattr(plan_or_export, "activation_tables", None)
    if found is None:
        raise ArgumentError(
            f"activations={activations!r} needs scales: export from a session with a calibration, or give "
            "tables=session.time_aware.",
            key="activations",
            value=activations,
        )
    return found if activations == "int8-time" else found.static()


def _inputs(match: Match, tables: ActivationTables, missing: Missing) -> dict[str, nn.Module]:
    """The layers whose inputs are to be rounded."""
    reasons = {
        name: match.missing.get(name, "not in the model")
        for name in tables.scales
        if name not in match.modules
    }
    if reasons and missing == "refuse":
        raise ValidationError(
            f"The inputs of {len(reasons)} of {len(tables.scales)} layers cannot be rounded: {listed(reasons)}. "
            "missing='ignore' rounds the others.",
            tensor=next(iter(reasons)),
        )
    return {
        name: found
        for name, found in match.modules.items()
        if name in tables.scales and kind_of(found) != "embedding"
    }


def _weights_are_compiled_in() -> bool:
    """Whether compiled code may hold copies of weights, and would not see others."""
    inductor: Any = sys.modules.get("torch._inductor.config")
    return inductor is not None and bool(inductor.freezing)


def _by_files_names(tables: ActivationTables, checkpoint: Checkpoint) -> ActivationTables:
    """Tables by the names of the checkpoint's files; layers that one is made of share their input."""
    return replace(
        tables,
        scales={
            part: found for name, found in tables.scales.items() for part in files_names(checkpoint, name)
        },
        zero_points={
            part: found
            for name, found in tables.zero_points.items()
            for part in files_names(checkpoint, name)
        },
    )


def _by_files_tensors(
    checkpoint: Checkpoint, weights: Iterator[tuple[str, NDArray[Any]]]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Tensors of a checkpoint, taken apart into those of its files where it is renamed."""
    for name, values in weights:
        parts = (checkpoint.parts or {}).get(name)
        yield from [(name, values)] if parts is None else split_rows(parts, values).items()


def _all_of(
    export: Export, callback: ProgressCallback | None, cancel: threading.Event | None
) -> Iterator[tuple[str, NDArray[Any]]]:
    progress = Progress(len(export), callback, cancel)
    progress.message = "decoding the export's weights"
    for name in export:
        yield name, export[name]
        progress.advance(1)
        progress.pump()
    progress.pump(finished=True)


def _tensor(values: NDArray[Any]) -> Tensor:
    """A tensor that shares the memory of an array."""
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)
