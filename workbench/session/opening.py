"""Opening a session: measure the layers, price their options."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint, exported, named, open_checkpoint
from workbench.config import TARGETS, default_effort
from workbench.formats import DEFAULTS, Target, TargetSettings, require_storable, target_named
from workbench.formats.loading import best_target
from workbench.quantize import Encodings
from workbench.session.patterns import Patterns, rows_matching
from workbench.session.session import Session
from workbench.session.study import Study
from workbench.session.values import parse_size
from workbench.thermo.distortion import Pricing
from workbench.thermo.options import price
from workbench.thermo.profile import profile
from workbench.work import ProgressCallback


@dataclass(frozen=True)
class Prepared:
    """A checkpoint that is ready to be measured: what can be refused without measuring has been checked."""

    checkpoint: Checkpoint
    """The open checkpoint, under the names that were asked for; whoever prepared it closes it."""
    target: Target
    """The export format."""
    settings: TargetSettings
    """What was asked of the export format, for others of the session."""
    pricing: Pricing | None
    """How the calibration prices errors, if there is one."""
    encodings: Mapping[str, Encodings]
    """How weights become codes, by the name of an export format."""
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
    shard_size: int | str = DEFAULTS.shard_bytes,
    effort: str | None = None,
    names: str | None = None,
    keep: Patterns = (),
) -> Prepared:
    """Open a checkpoint and check all that a session needs, without measuring anything.

    Parameters
    ----------
    path, component, calibration, num_time_groups, grouping, importance, all_widths, shard_size, effort, names, keep
        As for `open_session`.
    target : str, optional
        The export format; by default the one that loads the checkpoint's family best, see
        `workbench.formats.loading.best_target`.

    Raises
    ------
    ArrowQuantError
        Whatever is wrong with the checkpoint, the target, the calibration, the effort or the names.
    """
    settings = TargetSettings(parse_size(shard_size), all_widths)
    if target is not None:
        target_named(target)
    checkpoint = open_checkpoint(os.fspath(path), component)
    try:
        found = target_named(target or best_target(checkpoint), settings)
        checkpoint, _ = named(checkpoint, names, found.name)
        pricing = None
        if calibration is not None:
            pricing = Pricing.read(
                calibration, checkpoint,
                num_time_groups=num_time_groups, grouping=grouping, importance=importance,
            )  # fmt: skip
        records = None if pricing is None else pricing.time_aware.records
        encodings = {name: Encodings(effort or default_effort(name), records) for name in TARGETS}
        require_storable(exported(checkpoint, found.name), found)
        with_weights = [layer for layer in checkpoint.layers if layer.params]
        kept = frozenset(with_weights[row].name for row in rows_matching(with_weights, keep))
    except BaseException:
        checkpoint.close()
        raise
    return Prepared(checkpoint, found, settings, pricing, encodings, kept)


def open_session(
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    component: str | None = None,
    exact: bool = False,
    group_size: int = 128,
    scheme: str = "asymmetric",
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
        Of the options that `Session.set_bits` takes; a solver chooses among all.
    calibration : CalibrationRecords or path-like, optional
        What was captured of the layers' inputs, or its file; ``"zoo:digits-dit"`` for what ships with that model. The
        options are then priced by it: their NSR is D, the relative error power of the denoiser's output.
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
        How hard to look for good codes, when options are priced and in the export: ``"fast"``, ``"normal"`` or
        ``"best"``; by default ``"normal"`` for GGUF, else ``"fast"``. The search is weighed by the calibration, and
        plans then need it.
    names : str, optional
        What layers are called: ``"original"``, as in the single-file checkpoint that a diffusers folder of Flux, SD3,
        Wan, HunyuanVideo or AuraFlow was converted from, with query, key and value fused, or ``"checkpoint"``, as in
        its files. By default ``"original"`` for GGUF where it is known, which ComfyUI reads; another target of the
        session has the same. `workbench.live` takes plans and sessions under either.
    keep : str or iterable of str, optional
        Layers that stay in their source dtype, by name, glob or role (``"role:head"``). Their weights may be NaN or
        Inf, which cannot be quantized.
    callback : callable, optional
        Hears of the fraction done and a message.
    cancel : threading.Event, optional
        Set it to end the work with a `CancelledError`.
    cache : path-like, optional
        Where measurements are remembered; by default the user's cache folder.

    Returns
    -------
    Session
        It begins with 4 bits for every layer.

    Raises
    ------
    ArrowQuantError
        Whatever is wrong with the checkpoint or the target.
    """
    ready = prepare(
        path, target, component=component, calibration=calibration, num_time_groups=num_time_groups,
        grouping=grouping, importance=importance, all_widths=all_widths, shard_size=shard_size, effort=effort,
        names=names, keep=keep,
    )  # fmt: skip
    checkpoint, pricing, encodings, kept = ready.checkpoint, ready.pricing, ready.encodings, ready.keep
    try:
        layers = profile(checkpoint, keep=kept, callback=callback, cancel=cancel, cache=cache)

        def study(target: Target, callback: ProgressCallback | None, cancel: threading.Event | None) -> Study:
            held = exported(checkpoint, target.name)
            options = price(
                held,
                target,
                exact=exact,
                keep=kept,
                pricing=pricing,
                encodings=encodings[target.name],
                callback=callback,
                cancel=cancel,
                cache=cache,
            )
            return Study(held, target, layers, options, scheme, group_size, pricing, encodings[target.name])

        def reopen(name: str, callback: ProgressCallback | None, cancel: threading.Event | None) -> Study:
            other = target_named(name, ready.settings)
            require_storable(exported(checkpoint, name), other)
            return study(other, callback, cancel)

        return Session(study(ready.target, callback, cancel), reopen)
    except BaseException:
        checkpoint.close()
        raise
