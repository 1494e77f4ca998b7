"""`FixedPlan`: the plan is there already, and is executed as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.engine.execution.readback import TensorCheck
from workbench.engine.output.partial_folder import Journal
from workbench.engine.resolution.strategy import Resolution, journal_header
from workbench.engine.resolution.surveys import survey_layers
from workbench.engine.subject import Subject, Workers
from workbench.plan import Plan


@dataclass(frozen=True)
class FixedPlan:
    """A strategy that has its plan; its layers are looked at for what the report says of them."""

    plan: Plan
    """The plan."""

    def work(self, subject: Subject) -> int:
        """Each layer once."""
        return subject.layer_bytes

    def resolve(self, subject: Subject, workers: Workers, journal: Journal) -> Resolution:
        """The plan itself, see `Strategy.resolve`."""
        journal.begin(journal_header(subject, self.plan))
        surveys = survey_layers(
            subject, workers, journal, lambda layer, entropy: [self.plan.choices[layer.name]]
        )
        return Resolution(self.plan, surveys, is_planned=True)

    def revise(
        self,
        resolution: Resolution,
        checks: Mapping[str, TensorCheck],
        subject: Subject,
        workers: Workers,
        journal: Journal,
    ) -> Resolution | None:
        """None: the plan stands, and what it misses is reported."""
        return None
