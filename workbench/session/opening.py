"""Opening a session: measure the layers, price their options."""

from __future__ import annotations

import inspect
import os
import threading
from contextlib import suppress

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint, named, open_checkpoint, originally_named
from workbench.config import TARGETS, default_effort
from workbench.errors import ValidationError
from workbench.formats import DEFAULTS, TargetSettings, require_storable, target_named
from workbench.quantize import Encodings
from workbench.session.script import Name, call
from workbench.session.session import Session
from workbench.session.study import Study
from workbench.session.values import Naming, parse_size
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
        session has the same. A plan for `workbench.live.apply` needs ``"checkpoint"``, the names of the running model.
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
    target_named(target, settings)  # a wrong one is told before anything is read
    opened = open_checkpoint(os.fspath(path), component)
    try:
        possible: tuple[str, ...] = ("checkpoint",)
        with suppress(ValidationError):
            possible += () if originally_named(opened) is None else ("original",)

        # What goes by the names of the files, and what by those of the original checkpoint.
        measured: dict[bool, tuple[Checkpoint, Pricing | None]] = {}

        def study(
            target: str, names: str | None, callback: ProgressCallback | None, cancel: threading.Event | None
        ) -> Study:
            found = target_named(target, settings)
            checkpoint, notes = named(opened, names, target)
            known = measured.get(checkpoint.parts is None)
            checkpoint, pricing = known or (checkpoint, None)
            if calibration is not None and pricing is None:
                pricing = Pricing.read(
                    calibration, checkpoint,
                    num_time_groups=num_time_groups, grouping=grouping, importance=importance,
                )  # fmt: skip
            records = None if pricing is None else pricing.time_aware.records
            # Before anything is measured, so that a wrong effort is told at once.
            encodings = {name: Encodings(effort or default_effort(name), records) for name in TARGETS}[target]
            require_storable(checkpoint, found)
            layers = profile(checkpoint, callback=callback, cancel=cancel, cache=cache)
            measured[checkpoint.parts is None] = checkpoint, pricing
            options = price(
                checkpoint, found, exact=exact, pricing=pricing, encodings=encodings,
                callback=callback, cancel=cancel, cache=cache,
            )  # fmt: skip
            naming = Naming(names, possible, notes)
            return Study(
                checkpoint, found, layers, options, scheme, group_size, pricing, encodings, naming=naming
            )

        session = Session(study(target, names, callback, cancel), study)
    except BaseException:
        opened.close()
        raise
    given = {
        "component": component, "exact": exact, "group_size": group_size, "scheme": scheme,
        "calibration": Name("records") if isinstance(calibration, CalibrationRecords) else calibration,
        "num_time_groups": num_time_groups, "grouping": grouping, "importance": importance, "all_widths": all_widths,
        "shard_size": shard_size, "effort": effort, "names": names,
    }  # fmt: skip
    usual = {name: one.default for name, one in inspect.signature(open_session).parameters.items()}
    unusual = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in given.items()
        if value is not usual[name] and value != usual[name]
    }
    zoo = isinstance(path, str) and path.startswith("zoo:")
    where = path if zoo else str(opened.path)
    session.opening = call("open", where, on="wb", target=target, **unusual)
    return session
