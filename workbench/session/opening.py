"""Opening a session: measure the layers, price their options."""

from __future__ import annotations

import os
import threading

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import named, open_checkpoint
from workbench.config import TARGETS, default_effort
from workbench.formats import DEFAULTS, Target, TargetSettings, require_storable, target_named
from workbench.quantize import Encodings
from workbench.session.session import Session
from workbench.session.study import Study
from workbench.session.values import parse_size
from workbench.thermo.distortion import Pricing
from workbench.thermo.options import price
from workbench.thermo.profile import profile
from workbench.work import ProgressCallback


def open_session(
    path: str | os.PathLike[str],
    target: str = "parquet",
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
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Session:
    """Open a checkpoint, measure its layers and price their options; what was measured before is remembered.

    Parameters
    ----------
    path : path-like
        A checkpoint, or a model of the zoo such as ``"zoo:digits-dit"``.
    target : str
        The export format.
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
    settings = TargetSettings(parse_size(shard_size), all_widths)
    found = target_named(target, settings)
    checkpoint = open_checkpoint(os.fspath(path), component)
    try:
        checkpoint, _ = named(checkpoint, names, target)
        pricing = None
        if calibration is not None:
            pricing = Pricing.read(
                calibration, checkpoint,
                num_time_groups=num_time_groups, grouping=grouping, importance=importance,
            )  # fmt: skip
        records = None if pricing is None else pricing.time_aware.records
        # Before anything is measured, so that a wrong effort is told at once.
        encodings = {name: Encodings(effort or default_effort(name), records) for name in TARGETS}
        require_storable(checkpoint, found)
        layers = profile(checkpoint, callback=callback, cancel=cancel, cache=cache)

        def study(target: Target, callback: ProgressCallback | None, cancel: threading.Event | None) -> Study:
            options = price(
                checkpoint,
                target,
                exact=exact,
                pricing=pricing,
                encodings=encodings[target.name],
                callback=callback,
                cancel=cancel,
                cache=cache,
            )
            return Study(
                checkpoint, target, layers, options, scheme, group_size, pricing, encodings[target.name]
            )

        def reopen(name: str, callback: ProgressCallback | None, cancel: threading.Event | None) -> Study:
            other = target_named(name, settings)
            require_storable(checkpoint, other)
            return study(other, callback, cancel)

        return Session(study(found, callback, cancel), reopen)
    except BaseException:
        checkpoint.close()
        raise
