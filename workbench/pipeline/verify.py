"""Proving an export: every block is read from disk, decoded and compared with the source and the report."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.errors import ArrowQuantError
from workbench.formats import BlockCheck, Payload, target_named
from workbench.pipeline.export import Record, read_record
from workbench.pipeline.report import plain
from workbench.pipeline.run import measured_by_tensor
from workbench.pipeline.spatial import restore
from workbench.work import Progress, ProgressCallback, run_tasks, usable_cores

TOLERANCE = 1e-4
"""Relative difference between a reported and a measured error that sums in another order explain."""


@dataclass(frozen=True)
class Verification:
    """The outcome of verifying an export."""

    problems: tuple[str, ...]
    """What is wrong, each in a sentence; empty when the export is what its report claims."""
    decoder: str
    """What decoded the payload."""
    layers: int
    """Quantized or kept layers compared."""
    tensors: int
    """Tensors compared."""
    worst_layer: str | None
    """The layer with the lowest cosine."""
    worst_cosine: float
    """Its cosine."""
    nsr: float
    """Mean of the layers' noise-to-signal ratios."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain JSON values."""
        return {"ok": self.ok, **asdict(self, dict_factory=plain)}


def verify(
    output: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    component: str | None = None,
    callback: ProgressCallback | None = None,
) -> Verification:
    """Compare an export with its source, and with what its report claims.

    Parameters
    ----------
    output : path-like
        The folder of the export.
    source : path-like
        The checkpoint it was made from.
    component : str, optional
        The component of a diffusers folder; its denoiser by default.
    callback : callable, optional
        Hears of the fraction done and a message.

    Returns
    -------
    Verification
        Damage to the payload is a problem in it, not an exception.

    Raises
    ------
    ModelNotFoundError, MetadataError
        If the folder is no export, or its record or the source cannot be read at all.
    """
    folder = Path(output)
    record = read_record(folder)
    target = target_named(record.target)
    with open_checkpoint(os.fspath(source), component) as opened:
        try:
            checkpoint = opened
            if record.folds is not None:
                checkpoint = restore(opened, record.folds, f"{folder}: folds")
            payload = target.open(folder)
        except ArrowQuantError as error:
            return _failed([str(error)])
        problems = _tensor_problems(payload, checkpoint, record)
        if problems:
            return _failed(problems)
        progress = Progress(checkpoint.nbytes, callback)
        progress.message = "decoding and comparing"
        checks: dict[int, list[BlockCheck]] = {}

        def check(unit: int) -> None:
            checks[unit] = []
            try:
                for block in target.check(unit, checkpoint, folder):
                    checks[unit].append(block)
                    progress.advance(block.nbytes)
            except ArrowQuantError as error:
                problems.append(str(error))

        threads = usable_cores()
        with ThreadPoolExecutor(threads) as executor:
            tasks = (partial(check, unit) for unit in range(payload.units(checkpoint)))
            run_tasks(tasks, executor, threads, progress, lambda _: None)
        progress.pump(finished=True)
        if problems:
            return _failed(problems)
        measured = measured_by_tensor(checks[unit] for unit in sorted(checks))
        reported = {layer.get("name"): layer for layer in record.report.get("layers", [])}
        problems += [
            problem
            for name in record.plan.choices
            for problem in _claim_problems(
                name, measured[name].error.nsr, measured[name].error.cosine, reported
            )
        ]
        if record.report.get("actual_bytes") != payload.nbytes:
            problems.append(
                f"The payload has {payload.nbytes:,} bytes; the report claims "
                f"{record.report.get('actual_bytes')!r}."
            )
        layers = {name: measured[name].error for name in record.plan.choices}
        worst = min(layers, key=lambda name: layers[name].cosine, default=None)
        return Verification(
            problems=tuple(problems),
            decoder="ArrowQuant Workbench",
            layers=len(layers),
            tensors=len(payload.tensors),
            worst_layer=worst,
            worst_cosine=1.0 if worst is None else layers[worst].cosine,
            nsr=sum(error.nsr for error in layers.values()) / max(len(layers), 1),
        )


def _failed(problems: list[str]) -> Verification:
    return Verification(tuple(problems), "ArrowQuant Workbench", 0, 0, None, math.nan, math.nan)


def _tensor_problems(payload: Payload, checkpoint: Checkpoint, record: Record) -> list[str]:
    if record.plan.fingerprint != checkpoint.fingerprint:
        return [
            f"{checkpoint.path} is not the checkpoint that this export was made from: its fingerprint is "
            f"{checkpoint.fingerprint[:12]}…, the export's {record.plan.fingerprint[:12]}…."
        ]
    problems = []
    if payload.plan.digest != record.plan.digest:
        problems.append("The plan in the payload is not the plan in workbench.json.")
    for name in sorted(set(payload.tensors) ^ set(checkpoint.tensors)):
        where = "the source" if name in payload.tensors else "the export"
        problems.append(f"Tensor {name!r} is missing from {where}.")
    for name, stored in payload.tensors.items():
        tensor = checkpoint.tensors.get(name)
        if tensor and (tensor.shape, tensor.dtype) != (stored.shape, stored.dtype):
            problems.append(
                f"Tensor {name!r} is stored as {stored.dtype} {stored.shape}; the source has {tensor.dtype} "
                f"{tensor.shape}."
            )
    return problems


def _claim_problems(
    name: str, nsr: float, cosine: float, reported: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    if name not in reported:
        return [f"The report does not speak of layer {name!r}."]
    problems = []
    for key, value in (("nsr", nsr), ("cosine", cosine)):
        claim = reported[name].get(key)
        matches = (
            not math.isfinite(value)
            if claim is None
            else isinstance(claim, int | float)
            and math.isclose(claim, value, rel_tol=TOLERANCE, abs_tol=1e-12)
        )
        if not matches:
            problems.append(
                f"Layer {name!r}: the report claims {key} {claim!r}; the file decodes to {value!r}."
            )
    return problems
