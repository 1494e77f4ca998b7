"""`Planner`: from the table of options to plans, the bytes of their payloads, and their totals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from workbench.checkpoint import Checkpoint
from workbench.errors import ConfigurationError
from workbench.formats import Format
from workbench.plan import Layer, Option, Plan
from workbench.quantize import Encodings
from workbench.thermo.constraints import Constraints
from workbench.thermo.costs import CostTable, IntArray
from workbench.thermo.front import Front, trace
from workbench.thermo.goal import Goal
from workbench.thermo.options.option_table import cost_table, options_of
from workbench.thermo.solver import certify, solve

ROUNDS = 3
"""How often a size is solved for, as what a payload holds beside the layers' data depends a little on the plan."""


class Planner:
    """Plans of a checkpoint in a format: solves for them, and predicts their bytes and totals.

    A *choice* is an int64 array [layers] of places in `options`.

    Parameters
    ----------
    checkpoint : Checkpoint
    target : Format
    prices : pyarrow.Table
        Of `workbench.thermo.options.option_table.measure_options`.
    encodings : Encodings, optional
        Those that the options were measured with; by default ``fast``.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: Format,
        option_table: pa.Table,
        encodings: Encodings | None = None,
    ) -> None:
        self.encodings = encodings or Encodings()
        self.checkpoint = checkpoint
        self.target = target
        self.option_table = option_table
        self.layers: tuple[Layer, ...] = tuple(layer for layer in checkpoint.layers if layer.params)
        found = options_of(option_table)
        self.options: tuple[tuple[Option, ...], ...] = tuple(found[layer.name] for layer in self.layers)
        self.costs: CostTable = cost_table(option_table, self.layers)
        self._traced: tuple[object, Front] | None = None
        self._predicted: tuple[Plan, int] | None = None

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
            effort=self.encodings.effort,
            weighted_by=self.encodings.weighted_by,
            made_by=made_by or {},
        )

    def payload_bytes(self, plan: Plan) -> int:
        """Predicted bytes of a plan's payload; an upper bound where the target compresses. The last are remembered."""
        known = self._predicted
        if known is None or known[0] != plan:
            known = self._predicted = plan, self.target.layout(self.checkpoint, plan).nbytes
        return known[1]

    def front(self, constraints: Constraints) -> Front:
        """The front under some constraints, see `workbench.thermo.front.trace`; the last one is remembered."""
        key = _key(constraints)
        known = self._traced
        if known is None or known[0] != key:
            known = self._traced = key, trace(self.costs, constraints)
        return known[1]

    def totals(self, choice: IntArray, plan: Plan, constraints: Constraints) -> dict[str, float]:
        """What the plan of a choice adds up to, by the names of `workbench.plan.TOTALS`.

        The gap is to other plans under the constraints.

        Raises
        ------
        ConfigurationError
            If the choice breaks them.
        """
        found = certify(self.costs, choice, constraints, front=self.front(constraints))
        return {
            "nbytes": self.payload_bytes(plan),
            "bpw": found.bpw,
            "damage": found.damage,
            "gap": found.gap,
            "temperature": found.temperature,
        }

    def solved(self, goal: Goal, constraints: Constraints, draft: Plan) -> IntArray:
        """The best choice for a goal.

        Parameters
        ----------
        goal : Goal
        constraints : Constraints
            With the goal's least cosine.
        draft : Plan
            As for `within`.

        Raises
        ------
        ConfigurationError
            If no choice meets the goal and the constraints; carries the ``floor``, and names what costs most.
        """
        if goal.nbytes is not None:
            return self.within(goal.nbytes, constraints, draft)
        return solve(
            self.costs, constraints, bpw=goal.bpw, temperature=goal.temperature, max_damage=goal.max_damage,
            front=self.front(constraints),
        ).choice  # fmt: skip

    def within(self, size: int, constraints: Constraints, draft: Plan) -> IntArray:
        """The best choice whose payload is within a size.

        Parameters
        ----------
        size : int
            Bytes of the payload, headers and kept tensors included.
        constraints : Constraints
        draft : Plan
            Any plan of this checkpoint with the locks and the `made_by` of the one to be, which the payload states.

        Raises
        ------
        ConfigurationError
            If there is none; carries the ``floor`` in bytes, and names what costs most.
        """
        front = self.front(constraints)
        cheapest = self._payload(front.choice_at(0), draft)
        if cheapest.nbytes > size:
            raise self._too_small(size, constraints, cheapest)
        best, beside = cheapest, cheapest.beside
        for _ in range(ROUNDS):
            if size - beside < cheapest.nbytes - cheapest.beside:
                break
            solution = solve(self.costs, constraints, nbytes=size - beside, front=front)
            found = self._payload(solution.choice, draft)
            if found.nbytes <= size:
                best = min(best, found, key=lambda payload: self.costs.damage_of(payload.choice))
            if found.beside == beside:
                break
            beside = found.beside
        return best.choice

    def _payload(self, choice: IntArray, draft: Plan) -> _Payload:
        plan = replace(draft, choices=self.choices(choice.tolist()))
        nbytes = self.payload_bytes(plan)
        return _Payload(choice, nbytes, nbytes - plan.nbytes)

    def _too_small(self, size: int, constraints: Constraints, cheapest: _Payload) -> ConfigurationError:
        floor, beside = cheapest.nbytes, cheapest.beside
        try:
            solve(self.costs, constraints, nbytes=max(size - beside, 0))
            cause = ""
        except ConfigurationError as error:
            cause = f" {error}"
        return ConfigurationError(
            f"No payload of {size:,} bytes can be made: {floor:,} are the least, {beside:,} of them for headers and "
            f"the tensors that are no layers.{cause}",
            key="size",
            value=size,
            floor=floor,
        )


def _key(constraints: Constraints) -> object:
    """Equal for equal constraints."""
    limits = (constraints.locks, constraints.floors, constraints.ceilings, constraints.min_cosine)
    arrays = [None if limit is None else np.asarray(limit) for limit in limits]
    return (
        [None if array is None else (array.shape, array.dtype.str, array.tobytes()) for array in arrays],
        [list(tie) for tie in constraints.ties],
    )


@dataclass(frozen=True, eq=False)
class _Payload:
    """What a choice would be written as."""

    choice: IntArray
    nbytes: int
    beside: int
    """Those of its bytes that are not the layers' data."""
