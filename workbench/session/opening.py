"""Opening a session: measure the layers, price their options."""

from __future__ import annotations

import inspect
import os
import threading
from contextlib import suppress
from dataclasses import dataclass

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint, open_checkpoint, originally_named
from workbench.errors import ValidationError
from workbench.formats import (
    DEFAULTS,
    Format,
    TargetSettings,
    exported,
    named,
    require_storable,
    target_named,
)
from workbench.formats.loading import best_target
from workbench.quantize import Encodings
from workbench.session.commands.retargeting import tensors_of
from workbench.session.measurements import Measurements, Naming
from workbench.session.patterns import Patterns, rows_matching
from workbench.session.script import Name, call
from workbench.session.session import Session
from workbench.thermo.goal import parse_size
from workbench.thermo.measurement.profile import profile
from workbench.thermo.options.damage_model import DamageModel
from workbench.thermo.options.option_table import measure_options
from workbench.work import ProgressCallback

STEPS = 2
"""Steps of `open_session` that its callback reports: profiling the layers, measuring the options."""


@dataclass(frozen=True)
class Prepared:
    """A checkpoint that is ready to be measured: what can be refused without measuring has been checked."""

    opened: Checkpoint
    """The open checkpoint, under the names of its files; whoever prepared it closes it."""
    checkpoint: Checkpoint
    """The same under the names that were asked for."""
    target: Format
    """The export format."""
    settings: TargetSettings
    """What was asked of the export format, for others of the session."""
    damage_model: DamageModel | None
    """Predicts damage from the calibration, if there is one."""
    keep: frozenset[str]
    """Names of the layers that stay in the source's dtype, whatever they hold."""


def prepare(
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    component: str | None = None,
    calibration: CalibrationRecords | str | os.PathLike[str] | None = None,
    num_time_groups: int = 10,
    grouping: str = "optimal",
    importance: str | None = None,
    all_widths: bool = False,
    scheme: str | None = None,
    shard_size: int | str = DEFAULTS.shard_bytes,
    effort: str | None = None,
    names: str | None = None,
    keep: Patterns = (),
) -> Prepared:
    """Open a checkpoint and check all that a session needs, without measuring anything.

    Parameters
    ----------
    path, component, calibration, num_time_groups, grouping, importance, all_widths, scheme, shard_size, effort, \
    names, keep
        As for `open_session`.
    target : str, optional
        The export format; by default the one that loads the checkpoint's family best, see
        `workbench.formats.loading.best_target`.

    Raises
    ------
    ArrowQuantError
        Whatever is wrong with the checkpoint, the target, the calibration, the effort or the names.
    """
    settings = TargetSettings(parse_size(shard_size), all_widths, scheme)
    if target is not None:
        target_named(target)
    opened = open_checkpoint(os.fspath(path), component)
    try:
        found = target_named(target or best_target(opened), settings)
        checkpoint, _ = named(opened, names, found.name)
        damage_model = None
        if calibration is not None:
            damage_model = DamageModel.read(
                calibration, checkpoint,
                num_time_groups=num_time_groups, grouping=grouping, importance=importance,
            )  # fmt: skip
        _encodings(found.name, effort, damage_model)
        require_storable(exported(checkpoint, found.name), found)
        with_weights = [layer for layer in checkpoint.layers if layer.params]
        kept = frozenset(with_weights[row].name for row in rows_matching(with_weights, keep))
    except BaseException:
        opened.close()
        raise
    return Prepared(opened, checkpoint, found, settings, damage_model, kept)


def source_bytes(path: str | os.PathLike[str], component: str | None = None) -> int:
    """Bytes of the tensors of a checkpoint, which is what opening it goes through."""
    with open_checkpoint(os.fspath(path), component) as checkpoint:
        return checkpoint.nbytes


def open_session(
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    component: str | None = None,
    exact: bool = False,
    group_size: int = 128,
    scheme: str | None = None,
    calibration: CalibrationRecords | str | os.PathLike[str] | None = None,
    num_time_groups: int = 10,
    grouping: str = "optimal",
    importance: str | None = None,
    all_widths: bool = False,
    shard_size: int | str = DEFAULTS.shard_bytes,
    effort: str | None = None,
    names: str | None = None,
    keep: Patterns = (),
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Session:
    """Open a checkpoint, measure its layers and price their options; what was measured before is remembered.

    Parameters
    ----------
    path : path-like
        A checkpoint, or a model of the zoo such as ``"zoo:digits-dit"``.
    target : str, optional
        The export format; by default the one that the usual runtime of the model's family loads, see
        `workbench.formats.loading.best_target`.
    component : str, optional
        The component of a diffusers folder; its denoiser by default.
    exact : bool
        Measure every row instead of a sample.
    group_size, scheme
        Of the options that `Session.set_bits` takes; a solver chooses among all there are. By default symmetric for
        compressed-tensors, whose asymmetric options are offered only where ``scheme="asymmetric"``, for transformers
        does not load them; asymmetric for the others.
    calibration : CalibrationRecords or path-like, optional
        What was captured of the layers' inputs, or its file; ``"zoo:digits-dit"`` for what ships with that model. The
        the damage of the options is then predicted from it: the relative error power of the denoiser's output.
    num_time_groups : int
        Denoising steps are taken together in so many groups.
    grouping : str
        ``"optimal"`` or ``"uniform"``.
    importance : str, optional
        The estimator of importance, of those in the records; ``"none"`` counts every layer alike. By default the best.
    all_widths : bool
        Offer widths too that only newer versions of the format's runtimes read right.
    shard_size : int or str
        Bytes of tensor data, or text such as ``"2GB"``, after which `Session.predict` has a safetensors file closed.
    effort : str
        How hard to look for good codes, when options are measured and in the export: ``"fast"``, ``"normal"`` or
        ``"best"``; by default ``"normal"`` for GGUF, else ``"fast"``. The search is weighed by the calibration, and
        plans then need it.
    names : str, optional
        What layers are called: ``"original"``, as in the single-file checkpoint that a diffusers folder of Flux, SD3,
        Wan, HunyuanVideo or AuraFlow was converted from, with query, key and value fused, or ``"checkpoint"``, as in
        its files. By default ``"original"`` for GGUF where it is known, which ComfyUI reads. What is asked for
        here also holds for other targets of the session, see `Session.retarget`. `workbench.live` takes plans and
        sessions under either.
    keep : str or iterable of str, optional
        Layers that stay in their source dtype, by name, glob or role (``"role:head"``). Their weights may be NaN or
        Inf, which cannot be quantized.
    callback : callable, optional
        Receives the fraction done and a message, in two steps: profiling, and measuring options. Where there is none,
        `workbench.open` shows a bar in the notebook's cell, with a button that cancels, or on a terminal.
    cancel : threading.Event, optional
        Set it to end the work with a `CancelledError`.
    cache : path-like, optional
        Where measurements are remembered; by default the user's cache folder.

    Returns
    -------
    Session
        It begins with 4 bits for every layer. In a notebook's cell that runs again, `workbench.open` goes on instead
        with the session that the cell opened in its last run, with its plan and its steps of undo, if files and
        arguments are the same and it was not closed; it says so. ``workbench.open(…, fresh=True)`` begins anew.

    Raises
    ------
    ArrowQuantError
        Whatever is wrong with the checkpoint or the target.
    """
    ready = prepare(
        path, target, component=component, calibration=calibration, num_time_groups=num_time_groups,
        grouping=grouping, importance=importance, all_widths=all_widths, scheme=scheme, shard_size=shard_size,
        effort=effort, names=names, keep=keep,
    )  # fmt: skip
    opened = ready.opened
    try:
        possible: tuple[str, ...] = ("checkpoint",)
        with suppress(ValidationError):
            possible += () if originally_named(opened) is None else ("original",)
        kept_tensors = {tensor for name in ready.keep for tensor in tensors_of(ready.checkpoint, name)}
        # What goes by the names of the files, and what by those of the original checkpoint.
        known = {ready.checkpoint.parts is None: (ready.checkpoint, ready.damage_model)}

        def measure(
            target: str, names: str | None, callback: ProgressCallback | None, cancel: threading.Event | None
        ) -> Measurements:
            found = target_named(target, ready.settings)
            checkpoint, notes = named(opened, names, target)
            has_own_names = checkpoint.parts is None
            if has_own_names not in known:
                damage_model = None
                if calibration is not None:
                    damage_model = DamageModel.read(
                        calibration, checkpoint,
                        num_time_groups=num_time_groups, grouping=grouping, importance=importance,
                    )  # fmt: skip
                known[has_own_names] = checkpoint, damage_model
            checkpoint, damage_model = known[has_own_names]
            held = exported(checkpoint, target)
            require_storable(held, found)
            kept = frozenset(
                layer.name
                for layer in checkpoint.layers
                if not kept_tensors.isdisjoint(tensors_of(checkpoint, layer.name))
            )
            encodings = _encodings(target, effort, damage_model)
            layers = profile(checkpoint, keep=kept, callback=callback, cancel=cancel, cache=cache)
            options = measure_options(
                held, found, exact=exact, keep=kept, damage_model=damage_model, encodings=encodings,
                callback=callback, cancel=cancel, cache=cache,
            )  # fmt: skip
            naming = Naming(names, possible, notes)
            return Measurements(
                held, found, layers, options, scheme or found.scheme, group_size, damage_model, encodings,
                naming=naming,
            )  # fmt: skip

        session = Session(measure(ready.target.name, names, callback, cancel), measure)
    except BaseException:
        opened.close()
        raise
    given = {
        "component": component, "exact": exact, "group_size": group_size, "scheme": scheme,
        "calibration": Name("records") if isinstance(calibration, CalibrationRecords) else calibration,
        "num_time_groups": num_time_groups, "grouping": grouping, "importance": importance, "all_widths": all_widths,
        "shard_size": shard_size, "effort": effort, "names": names, "keep": keep,
    }  # fmt: skip
    usual = {name: one.default for name, one in inspect.signature(open_session).parameters.items()}
    unusual = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in given.items()
        if value is not usual[name] and value != usual[name]
    }
    zoo = isinstance(path, str) and path.startswith("zoo:")
    where = path if zoo else str(opened.path)
    session.opening = call("open", where, on="wb", target=ready.target.name, **unusual)
    return session


def _encodings(target: str, effort: str | None, damage_model: DamageModel | None) -> Encodings:
    """How weights become codes in a target."""
    records = None if damage_model is None else damage_model.time_aware.records
    return Encodings(effort or target_named(target).effort, records)
