"""The names and signatures of ArrowQuant V2, working: `ArrowQuantV2` and `AsyncArrowQuantV2`.

Both hand everything to `workbench.DiffusionOrchestrator` and keep nothing back. The engine's other parts,
``TimeAwareQuantizer`` and ``SpatialQuantizer`` among them, have the names of ArrowQuant V2 in `workbench` itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

from workbench.config import DiffusionQuantConfig
from workbench.engine import DiffusionOrchestrator, ProgressCallback
from workbench.engine.output.partial_folder import export_folder
from workbench.errors import ArgumentError, ConfigurationError

Mode = Literal["diffusion", "base"]
"""What to make of a model: ``"base"`` quantizes its weights and looks at nothing else."""

Settings = DiffusionQuantConfig | Mapping[str, Any]
"""A configuration, or its keys and values."""

BASE_NOTE = "Mode base: weights only, without time groups and channel equalisation."
"""What the report of a run in mode ``"base"`` says."""


class ArrowQuantV2:
    """Quantizes checkpoints.

    Parameters
    ----------
    mode : {"diffusion", "base"}
        ``"base"`` is plain weight quantization: no time groups, no equalisation, whatever the configuration
        says. The report says so.

    Raises
    ------
    ConfigurationError
        For any other mode.
    """

    def __init__(self, mode: Mode = "diffusion") -> None:
        self.mode = _checked(mode)

    def quantize_diffusion_model(
        self,
        model_path: str | os.PathLike[str],
        output_path: str | os.PathLike[str],
        config: Settings | None = None,
        progress_callback: ProgressCallback | None = None,
    ) -> dict[str, Any]:
        """Quantize a checkpoint into a new folder.

        Parameters
        ----------
        model_path : path-like
            A safetensors file, an index, a Hugging Face or diffusers folder, or ``"zoo:NAME"``.
        output_path : path-like
            A folder that does not exist; it appears when all is done.
        config : DiffusionQuantConfig or mapping, optional
            Settings, or a mapping of some of its keys; None takes the defaults.
        progress_callback : callable, optional
            Called with the fraction done and a message, in this thread, at most 10 times a second. An
            exception in it ends the run and is raised.

        Returns
        -------
        dict
            The report, as `workbench.Report` describes it and as it stands in the export's workbench.json:
            ``compression_ratio``, ``cosine_similarity``, ``model_size_mb``, ``layers`` and more.

        Raises
        ------
        ArrowQuantError
            Whatever is wrong; nothing is left behind.
        """
        return _quantize(self.mode, model_path, output_path, config, progress_callback)


class AsyncArrowQuantV2:
    """Quantizes checkpoints without blocking an event loop; several runs may be under way at once.

    Parameters
    ----------
    mode : {"diffusion", "base"}
        As for `ArrowQuantV2`.

    Raises
    ------
    ConfigurationError
        For any other mode.
    """

    def __init__(self, mode: Mode = "diffusion") -> None:
        self.mode = _checked(mode)

    async def quantize_diffusion_model_async(
        self,
        model_path: str | os.PathLike[str],
        output_path: str | os.PathLike[str],
        config: Settings | None = None,
        progress_callback: ProgressCallback | None = None,
    ) -> dict[str, Any]:
        """Quantize a checkpoint into a new folder, in a thread of its own.

        Parameters and result are those of `ArrowQuantV2.quantize_diffusion_model`; the callback is called on
        the event loop's thread. When the task is cancelled, it ends only after the work has stopped, and
        nothing is left: no output and no temporary folder.

        Raises
        ------
        ArrowQuantError
            Whatever is wrong; nothing is left behind.
        """
        loop = asyncio.get_running_loop()
        output = export_folder(
            output_path
        ).absolute()  # the working directory may be another when the thread starts
        cancel = threading.Event()
        raised: list[Exception] = []

        def report(fraction: float, message: str) -> None:
            if progress_callback is None or cancel.is_set():
                return
            try:
                progress_callback(fraction, message)
            except Exception as error:  # noqa: BLE001 - raised below, to those who wait for the result
                raised.append(error)
                cancel.set()

        def pass_on(fraction: float, message: str) -> None:
            loop.call_soon_threadsafe(report, fraction, message)

        def quantize() -> dict[str, Any]:
            return _quantize(self.mode, model_path, output, config, pass_on, cancel)

        # Not the loop's own threads, of which there are few: runs beyond them would wait for one another.
        thread = ThreadPoolExecutor(1, "arrowquant")
        work = loop.run_in_executor(thread, quantize)
        thread.shutdown(wait=False)
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancel.set()
            await _end_of(work)
            _discard(work, output)
            raise
        if raised:
            _discard(work, output)
            raise raised[0]
        return work.result()


async def _end_of(work: asyncio.Future[dict[str, Any]]) -> None:
    """Wait for the work, however often the task that waits is cancelled meanwhile."""
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([work])


def _discard(work: asyncio.Future[dict[str, Any]], output: Path) -> None:
    """Remove what a run has made that was done before it heard that it should stop."""
    if work.exception() is None:
        shutil.rmtree(output)


def _checked(mode: Mode) -> Mode:
    if mode not in get_args(Mode):
        allowed = " or ".join(get_args(Mode))
        raise ArgumentError(f"mode is {mode!r}; allowed: {allowed}.", key="mode", value=mode, allowed=allowed)
    return mode


def _quantize(
    mode: Mode,
    model_path: str | os.PathLike[str],
    output_path: str | os.PathLike[str],
    settings: Settings | None,
    callback: ProgressCallback | None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    config = _configure(settings)
    notes: tuple[str, ...] = ()
    if mode == "base":
        config = config.model_copy(update={"enable_time_aware": False, "enable_spatial": False})
        notes = (BASE_NOTE,)
    engine = DiffusionOrchestrator(config)
    return engine.run(model_path, output_path, callback=callback, cancel=cancel, notes=notes).to_dict()


def _configure(settings: Settings | None) -> DiffusionQuantConfig:
    if isinstance(settings, DiffusionQuantConfig):
        return settings
    if settings is None or isinstance(settings, Mapping):
        return DiffusionQuantConfig(**(settings or {}))
    raise ConfigurationError(
        f"config is {settings!r}; give a DiffusionQuantConfig (such as .from_profile('edge') or "
        ".from_yaml(path)), a mapping of its keys, or None.",
        key="config",
        value=settings,
    )
