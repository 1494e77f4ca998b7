"""One export under way: survey, plan, write, read back, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from workbench.calibration import TimeAwareQuantizer
from workbench.checkpoint import Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.engine.export import write_record
from workbench.engine.measured import Measured, measured_by_tensor, note_on_rounding, notes_on_cut_groups
from workbench.engine.notes import note_on_fallbacks, note_on_kept, note_on_size, notes_on
from workbench.engine.origin import made_by
from workbench.engine.output_folder import place_side_files, require_space
from workbench.engine.partial import JOURNAL, LOCK, Journal, remove_all
from workbench.engine.remembered import remembered
from workbench.engine.report import Report, layer_report, summarise
from workbench.engine.spatial import SpatialQuantizer
from workbench.engine.survey import Survey, entropy_of, fallbacks, miss_of, survey_layer, wished_option
from workbench.formats import BlockCheck, Check, Format, Layout, Unit, kept_as
from workbench.kernels import load_kernels
from workbench.plan import Layer, Option, Plan
from workbench.quantize import Encodings, Error
from workbench.work import Progress, run_tasks


class Run:
    """One export under way."""

    def __init__(
        self,
        config: DiffusionQuantConfig,
        checkpoint: Checkpoint,
        target: Format,
        folder: Path,
        executor: Executor,
        in_flight: int,
        progress: Progress,
        encodings: Encodings,
        time_aware: TimeAwareQuantizer | None = None,
        spatial: SpatialQuantizer | None = None,
    ) -> None:
        self.config = config
        self.folds = spatial.to_dict() if spatial else None
        self.source_bytes = (spatial.checkpoint.source if spatial else checkpoint).nbytes
        self.time_aware = time_aware
        self.encodings = encodings
        self.checkpoint = checkpoint
        self.streamed = remembered(checkpoint, whole=not config.enable_streaming)
        self.target = target
        self.encoder = target.encoder(self.streamed, encodings)
        self.folder = folder
        self.executor = executor
        self.in_flight = in_flight
        self.progress = progress
        self.layers = [layer for layer in checkpoint.layers if layer.params]

    def export(
        self, journal: Journal, plan: Plan | None, started: float, notes: Sequence[str] = ()
    ) -> Report:
        journal.begin(self._header(plan))
        surveys = self._survey(journal, plan)
        while True:
            chosen = plan or self._plan(surveys)
            layout = self.target.layout(self.streamed, chosen)
            require_space(self.folder, layout.nbytes)
            checks = self._write(journal, layout)
            misled = [
                layer for layer in self.layers if not plan and self._misled(surveys[layer.name], checks)
            ]
            if not misled:
                break
            self._settle_again(misled, surveys, checks, journal)
        place_side_files(self.checkpoint, self.folder, layout.documents, layout.files)
        self.checkpoint.check_unchanged()
        report = self._report(
            chosen, surveys, checks, layout.nbytes, started, (*notes, *layout.notes), plan is not None
        )
        tables = None if self.time_aware is None else self.time_aware.to_dict()
        write_record(
            self.folder, chosen, self.config.model_dump(mode="json"), report.to_dict(), tables, self.folds
        )
        return report

    def _header(self, plan: Plan | None) -> dict[str, Any]:
        return {
            "kind": "run",
            "checkpoint": self.checkpoint.fingerprint,
            "target": self.target.name,
            "configuration": self.config.model_dump(
                mode="json", exclude={"num_threads", "max_memory_limit_mb"}
            ),
            "plan": plan.digest if plan else None,
            "calibration": self.encodings.weighted_by,
        }

    def _survey(self, journal: Journal, plan: Plan | None) -> dict[str, Survey]:
        """Look at every layer, in parallel; what an interrupted run has looked at is taken from its journal."""
        surveys = {
            line["layer"]: _survey_from(line) for line in journal.lines if line.get("kind") == "survey"
        }
        sizes = {layer.name: self.checkpoint.tensors[layer.name].nbytes for layer in self.layers}
        for name in surveys:
            self.progress.advance(sizes[name])

        def look(layer: Layer) -> Survey:
            entropy = cache(partial(entropy_of, layer, self.streamed, self.progress.advance))
            wishes = [plan.choices[layer.name]] if plan else self._wishes(layer, entropy)
            return self._settle(layer, wishes, entropy)

        def keep(survey: Survey) -> None:
            surveys[survey.layer] = survey
            journal.append(_survey_line(survey))

        self.progress.message = "looking at layers"
        tasks = (partial(look, layer) for layer in self.layers if layer.name not in surveys)
        run_tasks(tasks, self.executor, self.in_flight, self.progress, keep)
        return surveys

    def _wishes(self, layer: Layer, entropy: Callable[[], float]) -> list[Option]:
        wish = wished_option(layer, self.config, self.target, entropy)
        return fallbacks(layer, wish, self.config, self.target)

    def _settle(self, layer: Layer, wishes: Sequence[Option], entropy: Callable[[], float]) -> Survey:
        return survey_layer(
            layer, self.streamed, self.encoder, wishes, entropy, self.config, self.progress.advance
        )

    def _misled(self, survey: Survey, checks: Mapping[str, Measured]) -> bool:
        """Whether a layer's sample promised more than was read back, or the runtime cannot decode all of it."""
        found = checks[survey.layer]
        return found.cut_groups > 0 or (survey.is_sampled and found.error.cosine < self.config.min_accuracy)

    def _settle_again(
        self,
        layers: Sequence[Layer],
        surveys: dict[str, Survey],
        checks: Mapping[str, Measured],
        journal: Journal,
    ) -> None:
        """Settle for the next option of layers, after the one that was read back worse than their samples."""

        def settle(layer: Layer) -> Survey:
            survey = surveys[layer.name]
            cut = checks[layer.name].cut_groups
            if cut:  # and no width would help
                return replace(survey, option=kept_as(layer, self.target), is_sampled=False, cut_groups=cut)
            miss = miss_of(layer.name, survey.option, checks[layer.name].error, self.config)

            def entropy() -> float:
                assert survey.entropy is not None, "only finite layers are sampled"
                return survey.entropy

            wishes = self._wishes(layer, entropy)
            found = self._settle(layer, wishes[wishes.index(survey.option) + 1 :], entropy)
            return replace(found, fallback=(*survey.fallback, miss, *found.fallback))

        self.progress.extend(2 * self.checkpoint.nbytes)
        self.progress.message = "looking again at layers worse than their samples"
        settled: list[Survey] = []
        tasks = (partial(settle, layer) for layer in layers)
        run_tasks(tasks, self.executor, self.in_flight, self.progress, settled.append)
        journal.append({"kind": "again"})
        for survey in settled:
            surveys[survey.layer] = survey
            journal.append(_survey_line(survey))

    def _plan(self, surveys: Mapping[str, Survey]) -> Plan:
        method = "entropy rule" if self.config.enable_entropy_adaptation else "configuration"
        return Plan(
            target=self.target.name,
            choices={layer.name: surveys[layer.name].option for layer in self.layers},
            fingerprint=self.checkpoint.fingerprint,
            effort=self.encodings.effort,
            weighted_by=self.encodings.weighted_by,
            made_by=made_by(method, self.config, self.checkpoint),
        )

    def _write(self, journal: Journal, layout: Layout) -> dict[str, Measured]:
        """Write the units and read each back, in parallel; those in the journal are there already."""
        units, writer = layout.units, self.target.writer(layout, self.streamed, self.encoder)
        finished: dict[int, list[BlockCheck]] = {}
        for line in journal.lines:
            if line.get("kind") == "again":
                finished.clear()
            elif line.get("kind") == "unit":
                finished[line["unit"]] = [_check_from(check) for check in line["checks"]]
        if not finished:
            remove_all(self.folder, keep=(JOURNAL, LOCK))  # what another plan had written
        writer.begin(self.folder)
        for index in finished:
            self.progress.advance(2 * units[index].nbytes)

        def make(unit: Unit, check: Check) -> tuple[Unit, list[BlockCheck]]:
            checks: list[BlockCheck] = []
            unchecked = check(unit.index)
            written = 0
            for done in writer.write(unit, self.folder):
                self.progress.advance(done)
                written += done
                # At once, while a block and its source are in the cache.
                while written > 0:
                    checks.append(next(unchecked))
                    self.progress.advance(checks[-1].nbytes)
                    written -= checks[-1].nbytes
            checks += unchecked  # blocks without weights
            return unit, checks

        def keep(result: tuple[Unit, list[BlockCheck]]) -> None:
            unit, checks = result
            finished[unit.index] = checks
            journal.append({"kind": "unit", "unit": unit.index, "checks": [_check_line(c) for c in checks]})

        self.progress.message = "writing and reading back"
        with self.target.checker(self.streamed, self.folder, self.encodings) as check:
            # From the end, which was looked at last: of a source larger than the memory, it is still there.
            tasks = (partial(make, unit, check) for unit in reversed(units) if unit.index not in finished)
            run_tasks(tasks, self.executor, self.in_flight, self.progress, keep)
        return measured_by_tensor(finished[unit.index] for unit in units)

    def _report(
        self,
        plan: Plan,
        surveys: Mapping[str, Survey],
        checks: Mapping[str, Measured],
        predicted: int,
        started: float,
        notes: Sequence[str],
        is_planned: bool,
    ) -> Report:
        payload = self.target.open(self.folder)
        measured = {layer.name: checks[layer.name] for layer in self.layers}
        cut = {layer.name: surveys[layer.name].cut_groups for layer in self.layers}
        layers = [
            layer_report(
                layer, plan.choices[layer.name], surveys[layer.name],
                checks[layer.name].error, checks[layer.name].counts, self.config.min_accuracy,
            )
            for layer in self.layers
        ]  # fmt: skip
        self.progress.pump()
        found = (
            *note_on_fallbacks([surveys[layer.name] for layer in self.layers], self.config.min_accuracy),
            *notes_on(self.config, self.checkpoint, self.target, self.time_aware is not None, is_planned),
        )
        sizes = {"source": self.source_bytes, "actual": payload.nbytes, "predicted": predicted}
        return summarise(
            layers,
            sizes,
            target=self.target.name,
            seconds=time.monotonic() - started,
            peak_anon_mb=self.progress.peak_anonymous / 1e6,
            min_accuracy=self.config.min_accuracy,
            modality=self.config.modality or self.checkpoint.modality.value,
            modality_evidence="the configuration says so"
            if self.config.modality
            else self.checkpoint.modality.evidence,
            kernels=load_kernels().description,
            notes=(
                *notes,
                *note_on_kept(plan),
                *note_on_rounding(measured),
                *notes_on_cut_groups(cut, measured),
                *note_on_size(self.source_bytes, payload.nbytes, self.target),
                *(note.text for note in found),
            ),
            note_layers={note.text: note.layers for note in found if note.layers},
        )


def _survey_line(survey: Survey) -> dict[str, Any]:
    option = survey.option
    return {
        "kind": "survey",
        "layer": survey.layer,
        "entropy": survey.entropy,
        "option": [option.bits, option.scheme, option.group_size, option.nbytes],
        "fallback": list(survey.fallback),
        "is_sampled": survey.is_sampled,
        "cut_groups": survey.cut_groups,
    }


def _survey_from(line: Mapping[str, Any]) -> Survey:
    option, fallback = Option(*line["option"]), tuple(line["fallback"])
    return Survey(
        line["layer"],
        line["entropy"],
        option,
        fallback,
        line.get("is_sampled", False),
        line.get("cut_groups", 0),
    )


def _check_line(check: BlockCheck) -> list[Any]:
    counts = None if check.code_counts is None else check.code_counts.tolist()
    error = [check.error.noise, check.error.signal, check.error.cross]
    return [check.tensor, check.nbytes, error, counts, check.rounding, check.cut_groups]


def _check_from(line: Sequence[Any]) -> BlockCheck:
    tensor, nbytes, sums, counts, rounding, cut = line
    found = None if counts is None else np.array(counts, np.int64)
    return BlockCheck(tensor, nbytes, Error(*sums), found, rounding, cut)
