"""Proving an export: every block is read from disk, decoded and compared with the source and the report."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from workbench.calibration import CalibrationRecords, records_for
from workbench.checkpoint import Checkpoint, named_as, open_checkpoint
from workbench.engine.equalization.spatial import restore
from workbench.engine.execution.readback import TensorCheck, checks_by_tensor
from workbench.engine.output.partial_folder import export_folder
from workbench.engine.output.record import Record, read_record
from workbench.engine.referees import OURS, referee_for
from workbench.engine.report import plain
from workbench.engine.verification.runtime_check import PACKAGE_ERRORS, RuntimeCheck, RuntimeFinding
from workbench.errors import ArrowQuantError, ConfigurationError
from workbench.folds.folded import FoldedCheckpoint
from workbench.folds.records import fold_records
from workbench.formats import BlockCheck, Check, Payload, exported, target_named
from workbench.plan import Layer, Option
from workbench.quantize import Encodings
from workbench.work import Progress, ProgressCallback, disk_workers, run_tasks

TOLERANCE = 1e-4
"""Relative difference between a reported and a measured error that sums in another order explain."""


@dataclass(frozen=True)
class LayerCheck:
    """What a layer of an export decodes to."""

    name: str
    """Its tensor in the checkpoint."""
    bits: int
    """Nominal bits per weight."""
    scheme: str
    """How it is stored; ``"keep"`` where it keeps its dtype."""
    group_size: int
    """Weights that share a scale; 0 where it keeps its dtype."""
    max_difference: float | None
    """Greatest difference between what the runtime's own decoder gives and ours, rounded to its dtype; None where the
    runtime's did not decode it."""
    nsr: float
    """Noise-to-signal ratio of what was decoded: by the runtime's own decoder, else by ours."""
    cosine: float
    """Cosine of the same."""
    exact_nsr: float
    """Noise-to-signal ratio of what we decode in float32, which the report of the export states."""
    arithmetic: str | None
    """The dtype in which the runtime's own decoder computes; None where it did not decode it."""


@dataclass(frozen=True)
class Verification:
    """The outcome of verifying an export."""

    problems: tuple[str, ...]
    """What is wrong, each in a sentence; empty when the export is what its report claims."""
    decoder: str
    """What decoded the payload: the runtime's own package with its version, or this workbench."""
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
    exact_nsr: float = math.nan
    """The same as we decode, in float32: that of the report of the export."""
    by_layer: tuple[LayerCheck, ...] = ()
    """Every layer, in the checkpoint's order; empty where something is wrong with the payload."""

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
    calibration: CalibrationRecords | str | os.PathLike[str] | None = None,
    callback: ProgressCallback | None = None,
) -> Verification:
    """Compare an export with its source, and with what its report claims.

    Every block is decoded by us, in float32. Where the runtime's own package is installed, it loads the files too: it
    must give the values of every kept tensor, and decode every layer to finite weights, in its own arithmetic, that
    differ from ours by no more than that arithmetic's rounding.

    Parameters
    ----------
    output : path-like
        The folder of the export.
    source : path-like
        The checkpoint it was made from.
    component : str, optional
        The component of a diffusers folder; its denoiser by default.
    calibration : CalibrationRecords or path-like, optional
        The records that weighed the codes. Only dequantized safetensors of such a plan need them, since what the codes
        decode to is worked out again.
    callback : callable, optional
        Hears of the fraction done and a message.

    Returns
    -------
    Verification
        Damage to the payload is a problem in it, not an exception.

    Raises
    ------
    ModelNotFoundError, MetadataError
        If the folder is no export, or its record, the source or the calibration cannot be read at all.
    ConfigurationError
        If the calibration is not the one that weighed the codes.
    """
    folder = export_folder(output)
    record = read_record(folder)
    target = target_named(record.target)
    if calibration is not None and not isinstance(calibration, CalibrationRecords):
        calibration = CalibrationRecords.load(calibration)
    with open_checkpoint(os.fspath(source), component) as opened:
        try:
            held = exported(opened, record.target)
            folded = None if record.folds is None else restore(held, record.folds, f"{folder}: folds")
            checkpoint = named_as(folded or held, record.plan.choices)
            payload = target.open(folder)
        except ArrowQuantError as error:
            return _failed([str(error)])
        problems = _tensor_problems(payload, checkpoint, record)
        if problems:
            return _failed(problems)
        encodings = _encodings(record, checkpoint, folded, calibration)
        try:
            referee, decoder = referee_for(target.referee, folder)
        except PACKAGE_ERRORS as error:
            return _failed([f"The runtime's own package cannot read the export: {error!r}"])
        layers = [layer for layer in checkpoint.layers if layer.params]
        quantized = [layer for layer in layers if not record.plan.choices[layer.name].is_kept]
        kept = checkpoint.tensors.keys() - {layer.name for layer in quantized}
        progress = Progress(checkpoint.nbytes * (1 if referee is None else 2), callback)
        progress.message = "decoding and comparing"
        checks: dict[int, list[BlockCheck]] = {}

        def check(unit: int, read_back: Check) -> None:
            checks[unit] = []
            try:
                for block in read_back(unit):
                    checks[unit].append(block)
                    progress.advance(block.nbytes)
            except ArrowQuantError as error:
                problems.append(str(error))

        findings: dict[str, RuntimeFinding] = {}
        threads = disk_workers()
        with ThreadPoolExecutor(threads) as executor:
            try:
                with target.checker(checkpoint, folder, encodings) as read_back:
                    tasks = (partial(check, unit, read_back) for unit in range(payload.units(checkpoint)))
                    run_tasks(tasks, executor, threads, progress, lambda _: None)
            except ConfigurationError as error:  # it needs a calibration that was not given
                problems.append(str(error))
            if referee is not None and not problems:
                progress.message = f"decoding by {decoder}"
                runtime = RuntimeCheck(referee, payload, checkpoint, progress)
                decodings = (
                    *(partial(runtime.check_layer, layer) for layer in quantized),
                    *(partial(runtime.check_kept, name) for name in checkpoint.tensors if name in kept),
                )
                run_tasks(
                    decodings,
                    executor,
                    threads,
                    progress,
                    lambda found: findings.update({found.layer: found}),
                )
                problems += [found.problem for found in findings.values() if found.problem]
        progress.pump(finished=True)
        if problems:
            return _failed(problems, decoder)
        measured = checks_by_tensor(checks[unit] for unit in sorted(checks))
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
        by_layer = tuple(
            _layer_check(layer, record.plan.choices[layer.name], measured[layer.name], findings)
            for layer in layers
        )
        worst = min(by_layer, key=lambda layer: layer.cosine, default=None)
        return Verification(
            problems=tuple(problems),
            decoder=decoder,
            layers=len(by_layer),
            tensors=len(payload.tensors),
            worst_layer=None if worst is None else worst.name,
            worst_cosine=1.0 if worst is None else worst.cosine,
            nsr=sum(layer.nsr for layer in by_layer) / max(len(by_layer), 1),
            exact_nsr=sum(layer.exact_nsr for layer in by_layer) / max(len(by_layer), 1),
            by_layer=by_layer,
        )


def _encodings(
    record: Record,
    checkpoint: Checkpoint,
    folded: FoldedCheckpoint | None,
    calibration: CalibrationRecords | None,
) -> Encodings | None:
    """How the codes were made; None where no calibration was given, and a target that asks for it says so."""
    if calibration is None or record.plan.weighted_by is None:
        return None
    if folded is not None and calibration.fingerprint == folded.source.fingerprint:
        calibration = fold_records(calibration, folded)
    return Encodings.of_plan(record.plan, records_for(calibration, checkpoint))


def _layer_check(
    layer: Layer, option: Option, measured: TensorCheck, findings: Mapping[str, RuntimeFinding]
) -> LayerCheck:
    finding = None if option.is_kept else findings.get(layer.name)
    error = measured.error if finding is None else finding.error
    return LayerCheck(
        layer.name,
        option.bits,
        option.scheme,
        option.group_size,
        None if finding is None else finding.max_difference,
        error.nsr,
        error.cosine,
        measured.error.nsr,
        None if finding is None else finding.arithmetic,
    )


def _failed(problems: list[str], decoder: str = OURS) -> Verification:
    return Verification(tuple(problems), decoder, 0, 0, None, math.nan, math.nan)


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
