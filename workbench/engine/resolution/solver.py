"""`Solver`: ``enable_mixed_precision``, the plan that loses least within a size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from workbench.config import DiffusionQuantConfig
from workbench.engine.execution.readback import TensorCheck
from workbench.engine.notes import note_on_solved
from workbench.engine.output.partial_folder import Journal
from workbench.engine.resolution.fixed import FixedPlan
from workbench.engine.resolution.strategy import Resolution, made_by
from workbench.engine.resolution.widths import at_width, settled_option
from workbench.engine.subject import Subject, Workers
from workbench.errors import ConfigurationError
from workbench.plan import Plan
from workbench.thermo import Constraints, Planner, measure_options
from workbench.thermo.costs import IntArray


class Solver:
    """A strategy that weighs layers against each other: least damage within ``target_model_size_mb``.

    Without a size it has the bytes of uniform ``bit_width``. The options are priced from a sample of rows, and
    remembered. Layers that the configuration speaks of, as sensitive or by their width, are locked; every other layer
    reaches ``min_accuracy``.
    """

    def work(self, subject: Subject) -> int:
        """Each layer twice: to price it, and for what the report says of it."""
        return 2 * subject.layer_bytes

    def resolve(self, subject: Subject, workers: Workers, journal: Journal) -> Resolution:
        """The solver's plan, see `Strategy.resolve`.

        Raises
        ------
        ConfigurationError
            If the budget is under the floor; carries the ``floor`` in bytes, and names what costs most.
        """
        plan = _solve(subject, workers)
        found = FixedPlan(plan).resolve(subject, workers, journal)
        return replace(found, notes=(note_on_solved(plan),))

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


def _solve(subject: Subject, workers: Workers) -> Plan:
    config, checkpoint, target = subject.config, subject.checkpoint, subject.target
    option_table = measure_options(
        checkpoint, target,
        keep={layer.name for layer in checkpoint.layers if config.keeps(layer.name, layer.role)},
        damage_model=subject.damage_model, encodings=subject.encodings,
        executor=workers.executor, cancel=workers.progress.cancelled,
        callback=workers.progress.follow(subject.layer_bytes),
    )  # fmt: skip
    planner = Planner(checkpoint, target, option_table, subject.encodings)
    settled = [settled_option(layer, config, target) for layer in planner.layers]
    locks = np.array(
        [
            -1 if option is None else options.index(option)
            for option, options in zip(settled, planner.options, strict=True)
        ],
        np.int64,
    )
    constraints = Constraints(
        locks=locks,
        min_cosine=np.where(locks < 0, config.min_accuracy, -1.0) if config.min_accuracy > 0 else None,
    )
    uniform = [
        0 if len(options) == 1 else options.index(at_width(layer, config.bit_width, config, target))
        for layer, options in zip(planner.layers, planner.options, strict=True)
    ]
    origin = made_by("mixed precision", subject)
    if config.target_model_size_mb is not None:
        origin["target_model_size_mb"] = config.target_model_size_mb
    draft = planner.plan(uniform, np.flatnonzero(locks >= 0).tolist(), origin)
    choice = _within(config, planner, constraints, draft)
    plan = planner.plan(choice.tolist(), np.flatnonzero(locks >= 0).tolist(), origin)
    return replace(plan, predicted=planner.totals(choice, plan, constraints))


def _within(
    config: DiffusionQuantConfig, planner: Planner, constraints: Constraints, draft: Plan
) -> IntArray:
    """The best choice within the configuration's budget, where none is given that of the draft."""
    if config.target_model_size_mb is None:
        budget = planner.payload_bytes(draft)
        problem = f"target_model_size_mb is none, which is {budget / 1e6:g} here, uniform bit_width {config.bit_width}"
    else:
        budget = int(config.target_model_size_mb * 1e6)
        problem = f"target_model_size_mb is {config.target_model_size_mb:g}"
    try:
        return planner.within(budget, constraints, draft)
    except ConfigurationError as error:
        if "floor" not in error.context:
            raise
        # With room for the digits of another budget, which the payload states.
        allowed = f"at least {math.ceil((error.floor + 100) / 1e4) / 100:.2f}"
        raise ConfigurationError(
            f"{problem}; allowed: {allowed}. {error} (A lock is by layer_bit_widths or skip_sensitive_layers, a "
            "min_cosine is min_accuracy.)",
            key="target_model_size_mb",
            value=config.target_model_size_mb,
            allowed=allowed,
            floor=error.floor,
        ) from error
