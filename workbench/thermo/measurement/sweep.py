"""Measuring all layers of a checkpoint: in parallel, cancellable, resumable, and never twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import Any

import pyarrow as pa

from workbench.checkpoint import Checkpoint
from workbench.plan import Layer
from workbench.system import usable_cores
from workbench.thermo.measurement.cache import Entry
from workbench.work import Progress, ProgressCallback, run_tasks

Rows = list[dict[str, Any]]
"""What is measured of a layer: rows of the table to be."""

Step = Callable[[float], None]
"""Hears of a further share of a layer's work done; raises when the work is to stop."""


def sweep(
    checkpoint: Checkpoint,
    measure: Callable[[Layer, Step], Rows],
    entry: Entry,
    message: str,
    executor: Executor | None = None,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> pa.Table:
    """The rows of all layers that have weights, in the checkpoint's order, from the cache or measured now.

    Parameters
    ----------
    checkpoint : Checkpoint
    measure : callable
        Measures a layer; called from several threads at once.
    entry : Entry
        Where the table is remembered, and what an interrupted sweep had finished.
    message : str
        The message of the callback.
    executor : Executor, optional
        Threads to measure in; by default one for each core.
    callback : callable, optional
        Hears of the fraction done and the message, in this thread, at most 10 times a second. An exception in it
        ends the work.
    cancel : threading.Event, optional
        Set it to end the work with a `CancelledError`.

    Raises
    ------
    QuantizationError
        If the checkpoint changed since it was opened.
    CancelledError
        If the work was cancelled. The layers that were done are not measured again the next time.
    """
    layers = [layer for layer in checkpoint.layers if layer.params]
    sizes = {layer.name: checkpoint.tensors[layer.name].nbytes for layer in layers}
    progress = Progress(sum(sizes.values()), callback, cancel)
    progress.message = message
    if (table := entry.load()) is not None:
        progress.pump(finished=True)
        return table
    found = {name: rows for name, rows in entry.done().items() if name in sizes}
    progress.advance(sum(sizes[name] for name in found))

    def work(layer: Layer) -> tuple[str, Rows]:
        size = sizes[layer.name]
        return layer.name, measure(layer, lambda share: progress.advance(round(share * size)))

    def keep(result: tuple[str, Rows]) -> None:
        name, rows = result
        found[name] = rows
        entry.note(name, rows)

    # The largest first, so that no thread begins one when the others are done.
    ahead = sorted((layer for layer in layers if layer.name not in found), key=lambda layer: -layer.params)
    cores = usable_cores()
    with ThreadPoolExecutor(cores, "workbench") if executor is None else nullcontext(executor) as threads:
        run_tasks((partial(work, layer) for layer in ahead), threads, cores, progress, keep)
    checkpoint.check_unchanged()
    table = pa.Table.from_pylist([row for layer in layers for row in found[layer.name]], entry.schema)
    entry.save(table)
    progress.pump(finished=True)
    return table
