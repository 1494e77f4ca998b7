"""What ``workbench plan`` is asked for, and the plan that comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.formats import TargetSettings
    from workbench.plan import Plan
    from workbench.session import Prediction, Totals


@dataclass(frozen=True)
class Source:
    """The checkpoint that is planned for, and how it is to be exported."""

    model: str
    component: str | None
    target: str | None
    """The export format; None takes the usual one."""
    names: str | None
    effort: str | None
    settings: TargetSettings


@dataclass(frozen=True)
class Rules:
    """The rules of another tool that a plan is written as, or read from."""

    rules_format: str
    names: str | None
    """What they call tensors; None takes what is usual for them."""
    output: Path | None
    """Where the plan is written as rules too."""


@dataclass(frozen=True)
class Planned:
    """A plan, and what is known of it."""

    plan: Plan
    notes: Sequence[str]
    """What should be known of the checkpoint, in sentences."""
    prediction: Prediction | None
    """What exporting it will take; None where that was not asked."""
    totals: Totals | None = None
    """What it adds up to; None where no options were measured."""
    likely_bytes: int | None = None
    """What its payload will come to where the target compresses; None where no options were measured."""
    printed: Sequence[str] = ()
    """Sentences on it that were printed already."""
