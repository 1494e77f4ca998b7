"""Looking at all layers, in parallel; what an interrupted run has looked at is taken from its journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from workbench.engine.output.partial_folder import Journal
from workbench.engine.resolution.survey import Survey, survey_layer
from workbench.engine.subject import Subject, Workers
from workbench.plan import Layer, Option
from workbench.thermo.measurement.profile import layer_entropy

Candidates = Callable[[Layer, Callable[[], float]], Sequence[Option]]
"""The options to try for a layer, in order, of which the last is taken as it is; may ask for its Ĥ."""


def survey_layers(
    subject: Subject, workers: Workers, journal: Journal, candidates: Candidates
) -> dict[str, Survey]:
    """The surveys of all layers, by name."""
    surveys = {line["layer"]: survey_from(line) for line in journal.lines if line.get("kind") == "survey"}
    progress = workers.progress
    for name in surveys:
        progress.advance(subject.checkpoint.tensors[name].nbytes)

    def keep(survey: Survey) -> None:
        surveys[survey.layer] = survey
        journal.append(survey_line(survey))

    def look(layer: Layer) -> Survey:
        entropy = cache(partial(_entropy, subject, layer, progress.advance))
        return settle(subject, workers, layer, candidates(layer, entropy), entropy)

    progress.message = "looking at layers"
    workers.run((partial(look, layer) for layer in subject.layers if layer.name not in surveys), keep)
    return surveys


def settle(
    subject: Subject,
    workers: Workers,
    layer: Layer,
    options: Sequence[Option],
    entropy: Callable[[], float],
) -> Survey:
    """The first of the options that is accurate enough for a layer, else the last."""
    return survey_layer(
        layer, subject.streamed, subject.encoder, options, entropy, subject.config,
        workers.progress.advance,
    )  # fmt: skip


def _entropy(subject: Subject, layer: Layer, advance: Callable[[int], None]) -> float:
    nbytes = subject.checkpoint.tensors[layer.name].nbytes
    if layer.name in subject.entropies:
        advance(nbytes)
        return subject.entropies[layer.name]
    return layer_entropy(subject.streamed, layer, lambda share: advance(round(share * nbytes)))


def survey_line(survey: Survey) -> dict[str, Any]:
    """A survey as a journal has it."""
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


def survey_from(line: Mapping[str, Any]) -> Survey:
    """Undo `survey_line`."""
    return Survey(
        line["layer"],
        line["entropy"],
        Option(*line["option"]),
        tuple(line["fallback"]),
        line.get("is_sampled", False),
        line.get("cut_groups", 0),
    )
