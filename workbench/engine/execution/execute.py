"""The engine's second verb: `execute`, from a plan and an open checkpoint to an export that was read back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.engine.execution.readback import TensorCheck, note_on_rounding, notes_on_cut_groups
from workbench.engine.execution.units import write_units
from workbench.engine.notes import note_on_fallbacks, note_on_kept, note_on_size, notes_on
from workbench.engine.output.partial_folder import Journal
from workbench.engine.output.record import write_record
from workbench.engine.output.side_files import place_side_files, require_space
from workbench.engine.report import Report, layer_report, summarise
from workbench.engine.resolution.strategy import Resolution, Strategy
from workbench.engine.subject import Subject, Workers
from workbench.kernels import load_kernels


def execute(
    resolution: Resolution,
    strategy: Strategy,
    subject: Subject,
    folder: Path,
    journal: Journal,
    workers: Workers,
    *,
    started: float,
    notes: Sequence[str] = (),
) -> Report:
    """Write a plan's export into a folder, read it back and measure it.

    Parameters
    ----------
    resolution : Resolution
        The plan, and what was found of the layers.
    strategy : Strategy
        What made it; asked for another plan where layers are read back worse than was promised.
    subject : Subject
        The open checkpoint, and how it is exported.
    folder : Path
        Where it is written.
    journal : Journal
        What an interrupted run had finished there.
    workers : Workers
        Who does the work.
    started : float
        When the run began, by `time.monotonic`.
    notes : sequence of str
        Sentences for the report, before its own.

    Raises
    ------
    ArrowQuantError
        If the source changed, the disk has no room, or a weight to quantize is NaN or Inf.
    """
    while True:
        layout = subject.target.layout(subject.streamed, resolution.plan)
        require_space(folder, layout.nbytes)
        checks = write_units(subject, layout, folder, journal, workers)
        revised = strategy.revise(resolution, checks, subject, workers, journal)
        if revised is None:
            break
        resolution = revised
    place_side_files(subject.checkpoint, folder, layout.documents, layout.files)
    subject.checkpoint.check_unchanged()
    report = _report(
        resolution, subject, folder, checks, layout.nbytes, workers, started,
        (*notes, *resolution.notes, *layout.notes),
    )  # fmt: skip
    write_record(
        folder,
        resolution.plan,
        subject.config.model_dump(mode="json"),
        report.to_dict(),
        None if subject.time_aware is None else subject.time_aware.to_dict(),
        None if subject.spatial is None else subject.spatial.to_dict(),
    )
    return report


def _report(
    resolution: Resolution,
    subject: Subject,
    folder: Path,
    checks: Mapping[str, TensorCheck],
    predicted: int,
    workers: Workers,
    started: float,
    notes: Sequence[str],
) -> Report:
    config, checkpoint, target = subject.config, subject.checkpoint, subject.target
    plan, surveys = resolution.plan, resolution.surveys
    source_bytes = (subject.spatial.checkpoint.source if subject.spatial else checkpoint).nbytes
    payload = target.open(folder)
    measured = {layer.name: checks[layer.name] for layer in subject.layers}
    cut = {layer.name: surveys[layer.name].cut_groups for layer in subject.layers}
    layers = [
        layer_report(
            layer, plan.choices[layer.name], surveys[layer.name],
            checks[layer.name].error, checks[layer.name].counts, config.min_accuracy,
        )
        for layer in subject.layers
    ]  # fmt: skip
    workers.progress.pump()
    found = (
        *note_on_fallbacks([surveys[layer.name] for layer in subject.layers], config.min_accuracy),
        *notes_on(config, checkpoint, target, subject.time_aware is not None, resolution.is_planned),
    )
    sizes = {"source": source_bytes, "actual": payload.nbytes, "predicted": predicted}
    return summarise(
        layers,
        sizes,
        target=target.name,
        seconds=time.monotonic() - started,
        peak_anon_mb=workers.progress.peak_anonymous / 1e6,
        min_accuracy=config.min_accuracy,
        modality=config.modality or checkpoint.modality.value,
        modality_evidence="the configuration says so" if config.modality else checkpoint.modality.evidence,
        kernels=load_kernels().description,
        notes=(
            *notes,
            *note_on_kept(plan),
            *note_on_rounding(measured),
            *notes_on_cut_groups(cut, measured),
            *note_on_size(source_bytes, payload.nbytes, target),
            *(note.text for note in found),
        ),
        note_layers={note.text: note.layers for note in found if note.layers},
    )
