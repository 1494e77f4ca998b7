"""`PricedCheckpoint`: from the prices of all options to plans, the bytes of their payloads, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from workbench.checkpoint import Checkpoint
from workbench.errors import ConfigurationError
from workbench.formats import Target
from workbench.plan import Layer, Option, Plan
from workbench.thermo.constraints import Constraints
from workbench.thermo.costs import CostTable, IntArray
from workbench.thermo.options import cost_table, options_of
from workbench.thermo.solver import certify, solve

ROUNDS = 3
"""How often a size is solved for, as what the file adds to the layers' data depends a little on the plan."""


class PricedCheckpoint:
    """A checkpoint, a target, and the costs of its options; nothing in it changes.

    A *choice* is an int64 array [layers] of places in `options`.

    Parameters
    ----------
    checkpoint : Checkpoint
    target : Target
    prices : pyarrow.Table
        Of `workbench.thermo.options.price`.
    """

    def __init__(self, checkpoint: Checkpoint, target: Target, prices: pa.Table) -> None:
        self.checkpoint = checkpoint
        self.target = target
        self.prices = prices
        self.layers: tuple[Layer, ...] = tuple(layer for layer in checkpoint.layers if layer.params)
        found = options_of(prices)
        self.options: tuple[tuple[Option, ...], ...] = tuple(found[layer.name] for layer in self.layers)
        self.costs: CostTable = cost_table(prices, self.layers)

    def choices(self, choice: Iterable[int]) -> dict[str, Option]:
        """The option of each layer, by its name."""
        return {
            layer.name: options[place]
            for layer, options, place in zip(self.layers, self.options, choice, strict=True)
        }

    def plan(
        self, choice: Iterable[int], locks: Iterable[int] = (), made_by: Mapping[str, Any] | None = None
    ) -> Plan:
        """The plan of a choice, with some layers, by index, locked; without `Plan.predicted`."""
        return Plan(
            target=self.target.name,
            choices=self.choices(choice),
            fingerprint=self.checkpoint.fingerprint,
            locks=frozenset(self.layers[row].name for row in locks),
            made_by=made_by or {},
        )

    def payload_bytes(self, plan: Plan) -> int:
        """Predicted bytes of a plan's payload; an upper bound where the target compresses."""
        return self.target.writer(self.checkpoint, plan).predicted_bytes

    def totals(self, choice: IntArray, plan: Plan, constraints: Constraints) -> dict[str, float]:
        """What the plan of a choice adds up to, by the names of `workbench.plan.TOTALS`.

        The gap is to other plans under the constraints.

        Raises
        ------
        ConfigurationError
            If the choice breaks them.
        """
        found = certify(self.costs, choice, constraints)
        return {
            "nbytes": self.payload_bytes(plan),
            "bpw": found.bpw,
            "nsr": found.distortion,
            "gap": found.gap,
            "temperature": found.temperature,
        }

    def within(self, size: int, constraints: Constraints, draft: Plan) -> IntArray:
        """The best choice whose payload is within a size.

        Parameters
        ----------
        size : int
            Bytes of the payload, headers and kept tensors included.
        constraints : Constraints
        draft : Plan
            A plan of this checkpoint with the locks and the `made_by` of the one to be, which the payload states.

        Raises
        ------
        ConfigurationError
            If there is none; carries the ``floor`` in bytes, and names what costs most.
        """
        plan = draft
        for _ in range(ROUNDS):
            beside = self.payload_bytes(plan) - plan.nbytes
            try:
                found = solve(self.costs, constraints, nbytes=max(size - beside, 0)).choice
            except ConfigurationError as error:
                if "floor" not in error.context:
                    raise
                floor = beside + error.context["floor"]
                raise ConfigurationError(
                    f"No payload of {size:,} bytes can be made: {floor:,} are the least, {beside:,} of them for "
                    f"headers and the tensors that are no layers. {error}",
                    key="size",
                    value=size,
                    floor=floor,
                ) from error
            plan = replace(draft, choices=self.choices(found.tolist()))
            if self.payload_bytes(plan) <= size:
                return found
        raise ConfigurationError(
            f"No plan found whose payload is within {size:,} bytes; the nearest has {self.payload_bytes(plan):,}.",
            key="size",
            value=size,
        )
