"""The engine's first verb: `resolve`, from settings and an open checkpoint to a plan."""

from __future__ import annotations

from workbench.config import DiffusionQuantConfig
from workbench.engine.output.partial_folder import Journal
from workbench.engine.resolution.fixed import FixedPlan
from workbench.engine.resolution.solver import Solver
from workbench.engine.resolution.strategy import Resolution, Strategy
from workbench.engine.resolution.width_rules import EntropyRule, UniformWidth
from workbench.engine.subject import Subject, Workers
from workbench.plan import Plan


def strategy_of(config: DiffusionQuantConfig, plan: Plan | None = None) -> Strategy:
    """The way to a plan that a configuration asks for; a plan that is there already is taken as it is."""
    if plan is not None:
        return FixedPlan(plan)
    if config.enable_mixed_precision:
        return Solver()
    return EntropyRule() if config.enable_entropy_adaptation else UniformWidth()


def resolve(strategy: Strategy, subject: Subject, workers: Workers, journal: Journal) -> Resolution:
    """The plan that a strategy comes to for an open checkpoint, with what was found of its layers."""
    return strategy.resolve(subject, workers, journal)
