"""`UniformWidth` and `EntropyRule`: a width for each layer, and the next wider one where it is not accurate enough."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

from workbench.engine.execution.readback import TensorCheck
from workbench.engine.output.partial_folder import Journal
from workbench.engine.resolution.strategy import Resolution, journal_header, made_by
from workbench.engine.resolution.survey import Survey, miss_of
from workbench.engine.resolution.surveys import settle, survey_layers, survey_line
from workbench.engine.resolution.widths import at_width, fallbacks, settled_option
from workbench.engine.subject import Subject, Workers
from workbench.formats import kept_as
from workbench.plan import Layer, Option, Plan
from workbench.thermo import entropy_widths


class WidthRule(ABC):
    """A strategy that gives each layer a width, whatever the others get.

    A layer under ``min_accuracy`` gets the next wider one. Of large layers a sample decides, where it is clear; a layer
    that is read back worse than its sample is settled again.
    """

    method: ClassVar[str]
    """What plans say of how they were made."""

    @abstractmethod
    def bits(self, subject: Subject, entropy: Callable[[], float]) -> int:
        """The width of a layer that the settings do not speak of; `entropy` measures its Ĥ."""

    def work(self, subject: Subject) -> int:
        """Each layer once."""
        return subject.layer_bytes

    def resolve(self, subject: Subject, workers: Workers, journal: Journal) -> Resolution:
        """The plan of what each layer gets, see `Strategy.resolve`."""
        journal.begin(journal_header(subject, None))
        surveys = survey_layers(subject, workers, journal, partial(self._candidates, subject))
        return Resolution(self._plan(subject, surveys), surveys)

    def revise(
        self,
        resolution: Resolution,
        checks: Mapping[str, TensorCheck],
        subject: Subject,
        workers: Workers,
        journal: Journal,
    ) -> Resolution | None:
        """Give layers that were read back worse than their samples the next option, see `Strategy.revise`."""

        def is_misled(survey: Survey) -> bool:
            found = checks[survey.layer]
            is_worse = survey.is_sampled and found.error.cosine < subject.config.min_accuracy
            return found.cut_groups > 0 or is_worse

        misled = [layer for layer in subject.layers if is_misled(resolution.surveys[layer.name])]
        if not misled:
            return None
        workers.progress.extend(2 * subject.checkpoint.nbytes)
        workers.progress.message = "looking again at layers worse than their samples"
        settled: list[Survey] = []
        again = partial(self._settle_again, subject, workers, resolution.surveys, checks)
        workers.run((partial(again, layer) for layer in misled), settled.append)
        journal.append({"kind": "again"})
        for survey in settled:
            journal.append(survey_line(survey))
        surveys = {**resolution.surveys, **{survey.layer: survey for survey in settled}}
        return replace(resolution, plan=self._plan(subject, surveys), surveys=surveys)

    def _settle_again(
        self,
        subject: Subject,
        workers: Workers,
        surveys: Mapping[str, Survey],
        checks: Mapping[str, TensorCheck],
        layer: Layer,
    ) -> Survey:
        """Settle for the next option of a layer, after the one that was read back."""
        survey, check = surveys[layer.name], checks[layer.name]
        if check.cut_groups:  # and no width would help
            option = kept_as(layer, subject.target)
            return replace(survey, option=option, is_sampled=False, cut_groups=check.cut_groups)
        miss = miss_of(layer.name, survey.option, check.error, subject.config)

        def entropy() -> float:
            assert survey.entropy is not None, "only finite layers are sampled"
            return survey.entropy

        options = self._candidates(subject, layer, entropy)
        rest = options[options.index(survey.option) + 1 :]
        found = settle(subject, workers, layer, rest, entropy)
        return replace(found, fallback=(*survey.fallback, miss, *found.fallback))

    def _candidates(self, subject: Subject, layer: Layer, entropy: Callable[[], float]) -> Sequence[Option]:
        config, target = subject.config, subject.target
        option = settled_option(layer, config, target)
        if option is None:
            option = at_width(layer, self.bits(subject, entropy), config, target)
        return fallbacks(layer, option, config, target)

    def _plan(self, subject: Subject, surveys: Mapping[str, Survey]) -> Plan:
        return Plan(
            target=subject.target.name,
            choices={layer.name: surveys[layer.name].option for layer in subject.layers},
            fingerprint=subject.checkpoint.fingerprint,
            effort=subject.encodings.effort,
            weighted_by=subject.encodings.weighted_by,
            made_by=made_by(self.method, subject),
        )


class UniformWidth(WidthRule):
    """``bit_width`` for every layer."""

    method = "configuration"

    def bits(self, subject: Subject, entropy: Callable[[], float]) -> int:
        """The configured width."""
        return subject.config.bit_width


class EntropyRule(WidthRule):
    """ArrowQuant V2's rule: more bits for layers of low Ĥ."""

    method = "entropy rule"

    def bits(self, subject: Subject, entropy: Callable[[], float]) -> int:
        """The width of the rule."""
        return int(entropy_widths(entropy()))
