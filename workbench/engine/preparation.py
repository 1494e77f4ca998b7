"""From settings and an open checkpoint to a `Subject`: names, format, folds, calibration; refusals before any work."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from workbench.calibration import CalibrationRecords, TimeAwareQuantizer, records_for
from workbench.checkpoint import Checkpoint, named_as
from workbench.config import DiffusionQuantConfig
from workbench.engine.equalization.spatial import SpatialQuantizer, balance_channels
from workbench.engine.notes import note_on_unrecorded, notes_on_plan
from workbench.engine.output.side_files import require_readable
from workbench.engine.subject import Subject
from workbench.errors import ValidationError
from workbench.formats import (
    Format,
    check_target,
    exported,
    named,
    plan_for,
    require_storable,
    settings_of,
    target_named,
)
from workbench.formats.loading import best_target
from workbench.plan import Plan
from workbench.quantize import Encodings
from workbench.thermo import DamageModel
from workbench.work import ProgressCallback

SPATIAL = 0.2
"""Fraction of a run that the balancing of channels counts for, where there is any."""


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked for, completed by what follows from the checkpoint; nothing was measured yet."""

    config: DiffusionQuantConfig
    """The settings, with the target and the scheme that are meant."""
    plan: Plan | None
    """The plan to execute, where there is one."""
    target: Format
    """The export format."""
    source: Checkpoint
    """What is read, under the names of its files."""
    checkpoint: Checkpoint
    """What is quantized; where folds are made, with them."""
    written: Checkpoint
    """What is written, under the names that the export will have, without folds."""
    notes: tuple[str, ...] = ()
    """Sentences for the report."""
    spatial: SpatialQuantizer | None = None
    """The folds that were made."""


def prepare(
    config: DiffusionQuantConfig, given: Checkpoint, plan: Plan | None = None, *, is_calibrated: bool = False
) -> Request:
    """Complete what is asked for, and refuse what cannot be done.

    Parameters
    ----------
    config : DiffusionQuantConfig
    given : Checkpoint
        Open; under a plan perhaps under the names of the plan already.
    plan : Plan, optional
    is_calibrated : bool
        Whether there are calibration records besides those of the configuration.

    Raises
    ------
    ArrowQuantError
        If the plan is not for the checkpoint, the format cannot hold it, or a side file cannot be read.
    """
    check_target(config)
    opened = given.opened
    name = config.target or (plan.target if plan else best_target(opened))
    config = config.model_copy(update={"target": name, "scheme": config.scheme or target_named(name).scheme})
    notes: tuple[str, ...] = ()
    checkpoint = opened
    if plan is not None:
        checkpoint = named_as(opened if given.left_out else given, plan.choices)
        check_fit(plan, checkpoint)
        notes = notes_on_plan(config, plan, is_calibrated or config.calibration is not None)
        plan = plan_for(name, plan, checkpoint.layers)
    target = target_named(plan.target if plan else name, settings_of(config))
    source, checkpoint = exported(opened, target.name), exported(checkpoint, target.name)
    written = checkpoint if plan else named(source, config.names, target.name)[0]
    require_storable(written, target)
    require_readable(source)
    return Request(config, plan, target, source, checkpoint, written, notes)


def balance(
    request: Request,
    executor: Executor,
    callback: ProgressCallback | None,
    cancel: threading.Event | None,
) -> tuple[Request, ProgressCallback | None]:
    """The request with the folds that its settings ask for, and a callback for the rest of the work."""
    config = request.config
    if request.plan is not None or not config.enable_spatial or config.calibration is None:
        return request, callback
    spatial = balance_channels(
        config, request.source, request.target,
        executor=executor, callback=_part(callback, 0.0, SPATIAL), cancel=cancel,
    )  # fmt: skip
    request = replace(
        request, notes=(*request.notes, f"enable_spatial: {spatial.summary}.", *spatial.remarks)
    )
    if spatial.checkpoint.folds:
        request = replace(request, checkpoint=spatial.checkpoint, spatial=spatial)
    return request, _part(callback, SPATIAL, 1.0)


def subject_of(
    request: Request, time_aware: TimeAwareQuantizer | None, entropies: Mapping[str, float]
) -> tuple[Subject, tuple[str, ...]]:
    """What the engine's verbs work on for a request, and sentences for the report.

    Parameters
    ----------
    request : Request
    time_aware : TimeAwareQuantizer, optional
        Calibration records with their grouping; by default those of the configuration.
    entropies : mapping of str to float
        Ĥ of layers, as far as it is known already.

    Raises
    ------
    ArrowQuantError
        If calibration records cannot be read, or are of another checkpoint, or not those of the plan.
    """
    config, plan, checkpoint, notes = request.config, request.plan, request.checkpoint, request.notes
    if plan is None:
        checkpoint, named_so = named(checkpoint, config.names, request.target.name)
        notes = (*notes, *named_so)
    damage_model = _damage_model(config, checkpoint, request.spatial.records if request.spatial else None)
    if damage_model is not None:
        time_aware = time_aware or damage_model.time_aware
        notes = (*notes, *filter(None, [damage_model.time_aware.groups.note]))
    if time_aware is not None:
        time_aware = replace(time_aware, records=records_for(time_aware.records, checkpoint))
    records = None if time_aware is None else time_aware.records
    encodings = (
        Encodings(config.effort or request.target.effort, records)
        if plan is None
        else Encodings.of_plan(plan, records)
    )
    subject = Subject(
        config, checkpoint, request.target, encodings, damage_model, time_aware, request.spatial, entropies
    )
    return subject, (*notes, *note_on_unrecorded(records, checkpoint.layers))


def _damage_model(
    config: DiffusionQuantConfig, checkpoint: Checkpoint, records: CalibrationRecords | None
) -> DamageModel | None:
    """What the configuration's calibration says of the layers; None without one, or where it is not to be used.

    Of a folded checkpoint the records are given.
    """
    if config.calibration is None or not config.enable_time_aware:
        return None
    return DamageModel.read(records or config.calibration, checkpoint, num_time_groups=config.num_time_groups)


def check_fit(plan: Plan, checkpoint: Checkpoint) -> None:
    """Make sure that a plan is for a checkpoint: the same layers, each with a legal option.

    Raises
    ------
    ValidationError
        If it was made for another checkpoint, or a layer is missing, unknown or has an option that the target
        does not offer.
    """
    layers = {layer.name: layer for layer in checkpoint.layers if layer.params}
    for name in sorted(set(layers) ^ set(plan.choices)):
        what = "the plan lacks the layer" if name in layers else "the checkpoint lacks the plan's layer"
        raise ValidationError(
            f"{checkpoint.path}: {what} {name!r}. Make a plan for this checkpoint.",
            path=checkpoint.path,
            tensor=name,
        )
    if plan.fingerprint != checkpoint.fingerprint:
        raise ValidationError(
            f"{checkpoint.path}: the plan was made for a checkpoint with other contents (fingerprint "
            f"{plan.fingerprint[:12]}…, this one has {checkpoint.fingerprint[:12]}…). Make it again.",
            path=checkpoint.path,
        )
    target = target_named(plan.target)
    for name, option in plan.choices.items():
        if not target.stores(layers[name], option):
            raise ValidationError(
                f"The plan's option for {name!r}, {option}, is not one that {plan.target} offers for it. Make the plan "
                "again.",
                tensor=name,
                option=option,
            )


def _part(callback: ProgressCallback | None, start: float, stop: float) -> ProgressCallback | None:
    """A callback for a part of the work."""
    if callback is None:
        return None
    return lambda fraction, message: callback(start + (stop - start) * fraction, message)
