"""`Strategy`: a way from settings to a plan; and the plan it comes to, with what was found of the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from workbench.engine.execution.readback import TensorCheck
from workbench.engine.output.partial_folder import Journal
from workbench.engine.resolution.survey import Survey
from workbench.engine.subject import Subject, Workers
from workbench.plan import Plan


@dataclass(frozen=True)
class Resolution:
    """A plan, with what was found of the layers on the way to it."""

    plan: Plan
    """What becomes of every layer."""
    surveys: Mapping[str, Survey]
    """What was found of every layer, by name."""
    is_planned: bool = False
    """Whether the widths are those of a plan or a solver, and no width of the configuration was missed."""
    notes: tuple[str, ...] = ()
    """Sentences for the report."""


class Strategy(Protocol):
    """A way from settings to a plan."""

    def work(self, subject: Subject) -> int:
        """Source bytes that `resolve` goes through, for the progress."""

    def resolve(self, subject: Subject, workers: Workers, journal: Journal) -> Resolution:
        """The plan; what the journal has of an interrupted run is not done again.

        Raises
        ------
        ArrowQuantError
            If there is no plan within the settings, a weight to quantize is NaN or Inf, the source changed, or the
            journal is that of another run.
        """

    def revise(
        self,
        resolution: Resolution,
        checks: Mapping[str, TensorCheck],
        subject: Subject,
        workers: Workers,
        journal: Journal,
    ) -> Resolution | None:
        """Another plan, where what was read back of layers is worse than was promised; None where the plan stands."""


def journal_header(subject: Subject, plan: Plan | None) -> dict[str, Any]:
    """What a journal begins with: all that makes a run another one, a plan that was there before it too."""
    return {
        "kind": "run",
        "checkpoint": subject.checkpoint.fingerprint,
        "target": subject.target.name,
        "configuration": subject.config.model_dump(
            mode="json", exclude={"num_threads", "max_memory_limit_mb"}
        ),
        "plan": plan.digest if plan else None,
        "calibration": subject.encodings.weighted_by,
    }


def made_by(method: str, subject: Subject) -> dict[str, Any]:
    """What a plan that follows from a configuration says of its origin: the method, and the decisive settings."""
    config = subject.config
    return {
        "method": method,
        "deployment_profile": config.deployment_profile,
        "bit_width": config.bit_width,
        "group_size": config.group_size,
        "scheme": config.scheme,
        "min_accuracy": config.min_accuracy,
        "modality": config.modality or subject.checkpoint.modality.value,
    }
