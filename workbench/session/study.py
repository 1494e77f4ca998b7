"""`Study`: what was measured of a checkpoint, and what follows from it for any tuning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from workbench.checkpoint import Checkpoint
from workbench.errors import ConfigurationError
from workbench.formats import Format
from workbench.formats.rules import naming_of, read_rules
from workbench.plan import TOTALS, Layer, Option, Plan
from workbench.quantize import Encodings
from workbench.session.over_time import with_time
from workbench.session.patterns import Patterns, rows_matching
from workbench.session.tuning import Tuning
from workbench.session.values import Naming, Totals, parse_size, plain_values
from workbench.thermo import (
    Constraints,
    CostTable,
    PricedCheckpoint,
    Pricing,
    annealing,
    entropy_rule,
    solve,
    sorted_greedy,
    threshold,
    uniform,
)
from workbench.thermo.costs import IntArray

NSR_OF_THRESHOLD = 0.01
"""What the policy ``threshold`` keeps the NSR of every layer under."""


class Study:
    """A checkpoint, a target, and the costs of its options; nothing in it changes but what it remembers.

    Parameters
    ----------
    checkpoint : Checkpoint
    target : Format
    layers : pyarrow.Table
        Of `workbench.thermo.profile.profile`.
    options : pyarrow.Table
        Of `workbench.thermo.options.price`.
    scheme, group_size
        Of the option that stands for a width.
    pricing : Pricing, optional
        What the options were priced by.
    encodings : Encodings, optional
        How the weights became codes; by default ``fast``.
    learnt : mapping of str to float, optional
        By what the damage of layers is multiplied, because measuring found it so.
    naming : Naming, optional
        What layers are called, and could be.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: Format,
        layers: pa.Table,
        options: pa.Table,
        scheme: str,
        group_size: int,
        pricing: Pricing | None = None,
        encodings: Encodings | None = None,
        learnt: Mapping[str, float] | None = None,
        naming: Naming | None = None,
    ) -> None:
        self.naming = naming or Naming()
        self.learnt = dict(learnt or {})
        self.checkpoint = checkpoint
        self.target = target
        self.pricing = pricing
        self._measured = layers, options
        self.profile = layers if pricing is None else with_time(layers, pricing, checkpoint)
        self.prices = _scaled(options, self.learnt)
        self.priced = PricedCheckpoint(checkpoint, target, self.prices, encodings)
        self.encodings = self.priced.encodings
        self.layers: tuple[Layer, ...] = self.priced.layers
        self.index = {layer.name: row for row, layer in enumerate(self.layers)}
        self.options = self.priced.options
        self.costs: CostTable = self.priced.costs
        # Prices stand layer by layer in the order of the options.
        self.starts: IntArray = np.cumsum([0, *(len(options) for options in self.options)])[:-1]
        self.scheme, self.group_size = scheme, group_size

    @property
    def names(self) -> str:
        """What layers are called: ``"original"`` or ``"checkpoint"``."""
        return "checkpoint" if self.checkpoint.parts is None else "original"

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the names."""
        return self.naming.notes

    def learn(self, factors: Mapping[str, float]) -> Study:
        """The same with the damage of layers multiplied, in place of what was learnt before of them.

        Layers that are not named keep what was learnt of them before, or else get the median factor.

        Raises
        ------
        ConfigurationError
            If there is no such layer, or a factor is not a positive number.
        """
        for name, factor in factors.items():
            if name not in self.index or not (math.isfinite(factor) and factor > 0):
                problem = (
                    f"{factor} is not a positive number" if name in self.index else "there is no such layer"
                )
                raise ConfigurationError(
                    f"Nothing can be learnt of {name!r}: {problem}.", key=name, value=factor
                )
        if not factors:
            raise ConfigurationError("Nothing can be learnt: no layer was measured.", key="factors")
        others = float(np.median(list(factors.values())))
        learnt = {name: factors.get(name, self.learnt.get(name, others)) for name in self.index}
        return Study(
            self.checkpoint, self.target, *self._measured, self.scheme, self.group_size, self.pricing,
            self.encodings, learnt, self.naming,
        )  # fmt: skip

    def uniform(self, bits: int) -> Tuning:
        """Every layer at one width."""
        places = tuple(self.place(row, bits) for row in range(len(self.layers)))
        return Tuning(places, made_by={"method": "uniform", "bits": bits})

    def rows(self, patterns: Patterns) -> list[int]:
        """Places of the layers that match, see `rows_matching`."""
        return rows_matching(self.layers, patterns)

    def place(self, row: int, bits: int) -> int:
        """Place of a layer's option of a width in the session's scheme and group size."""
        option = self.target.quantized(self.layers[row], bits, self.scheme, self.group_size)
        return self.place_of(row, option)

    def place_of(self, row: int, option: Option) -> int:
        """Place of a layer's option; of a layer that was opened to be kept, of its only one."""
        options = self.options[row]
        return 0 if len(options) == 1 else options.index(option)

    def place_kept(self, row: int) -> int:
        """Place of the option that leaves a layer in its source dtype."""
        return next(place for place, option in enumerate(self.options[row]) if option.is_kept)

    @cached_property
    def menu(self) -> IntArray:
        """Rows of the prices: what every layer gets at 2 … 8 bits, and what keeps it, [layers, 8]."""
        costs = self.costs
        layers, places = np.nonzero(costs.legal)
        numbers, first = np.unique(costs.form[costs.legal], return_index=True)
        examples = [self.options[layers[at]][places[at]] for at in first.tolist()]
        forms = {
            (one.bits, one.scheme, one.group_size): number
            for one, number in zip(examples, numbers.tolist(), strict=True)
        }
        wanted = [
            [
                *(self.target.quantized(layer, bits, self.scheme, self.group_size) for bits in range(2, 9)),
                options[self.place_kept(row)],
            ]
            for row, (layer, options) in enumerate(zip(self.layers, self.options, strict=True))
        ]
        # A layer that was opened to be kept has the first place, its only one, for every width.
        form = np.array(
            [[forms.get((one.bits, one.scheme, one.group_size), -1) for one in row] for row in wanted],
            np.int64,
        ).reshape(-1, 8, 1)
        found: IntArray = (costs.legal[:, None, :] & (costs.form[:, None, :] == form)).argmax(axis=2)
        return self.starts[:, None] + found

    def solved(
        self,
        now: Tuning,
        size: int | str | None = None,
        bpw: float | None = None,
        temperature: float | None = None,
        max_nsr: float | None = None,
        min_cosine: float | None = None,
        floors: Mapping[str, int] | None = None,
        ceilings: Mapping[str, int] | None = None,
        ties: Sequence[Patterns] = (),
    ) -> Tuning:
        """The best tuning for one goal, see `Session.solve`; the locks stay."""
        goals = {"size": size, "bpw": bpw, "temperature": temperature, "max_nsr": max_nsr}
        asked = {**goals, "min_cosine": min_cosine, "floors": floors, "ceilings": ceilings, "ties": ties}
        limits = Constraints(
            floors=self.limits(floors, 0),
            ceilings=self.limits(ceilings, 64),
            min_cosine=min_cosine,
            ties=[self.rows(tie) for tie in ties],
        )
        ahead = replace(now, made_by={"method": "solver", **plain_values(asked)}, limits=limits)
        if size is None:
            under = self.limits_of(ahead)
            found = solve(
                self.costs, under, bpw=bpw, temperature=temperature, max_distortion=max_nsr,
                front=self.priced.front(under),
            ).choice  # fmt: skip
        elif bpw is temperature is max_nsr is None:
            found = self.within(parse_size(size), ahead)
        else:
            raise ConfigurationError("A solver takes one goal; a size stands alone.", key="size")
        return replace(ahead, choice=tuple(found.tolist()), by_hand=now.by_hand & now.locks)

    def by_policy(self, now: Tuning, policy: str, size: int | None) -> Tuning:
        """The tuning of a policy, see `Session.follow`.

        Raises
        ------
        ConfigurationError
            If there is no such policy, or it has no plan of the size.
        """
        nbytes = self.costs.nbytes_of(np.array(now.choice))
        if size is not None:
            nbytes += size - self.priced.payload_bytes(self._draft(now))
        ways: dict[str, Callable[[], IntArray]] = {
            "uniform": lambda: uniform(self.costs, nbytes),
            "sorted_greedy": lambda: sorted_greedy(self.costs, nbytes),
            "annealing": lambda: annealing(self.costs, nbytes),
            "entropy_rule": lambda: entropy_rule(self.costs, self.profile["entropy"].to_numpy()),
            "threshold": lambda: threshold(self.costs, NSR_OF_THRESHOLD),
        }
        if policy not in ways:
            allowed = ", ".join(ways)
            raise ConfigurationError(
                f"There is no policy {policy!r}; allowed: {allowed}.",
                key="policy",
                value=policy,
                allowed=allowed,
            )
        choice = tuple(ways[policy]().tolist())
        made_by = {"method": policy}
        return replace(now, choice=choice, made_by=made_by, limits=Constraints(), by_hand=frozenset())

    def limits(self, limits: Mapping[str, int] | None, otherwise: int) -> list[int] | None:
        if not limits:
            return None
        values = [otherwise] * len(self.layers)
        for pattern, bits in limits.items():
            for row in self.rows(pattern):
                values[row] = bits
        return values

    def adopt(self, plan: Plan, where: str) -> tuple[Tuning, tuple[str, ...]]:
        """The tuning of a plan that was made elsewhere, and what does not match but does not matter.

        Raises
        ------
        ConfigurationError
            If the plan is for another target or other layers, or has an option that a layer here has not; `where`
            begins the message.
        """
        if plan.target != self.target.name:
            raise ConfigurationError(
                f"{where}: the plan is for {plan.target}, this session for {self.target.name}; open the checkpoint "
                f"with target={plan.target!r}.",
                key="target",
            )
        unlike = sorted(set(plan.choices) ^ set(self.index))
        if unlike:
            lacking = "the plan" if unlike[0] in self.index else "the checkpoint"
            raise ConfigurationError(
                f"{where}: {len(unlike)} layers do not match; {unlike[0]!r} is not in {lacking}.",
                key="layers",
            )
        for name, option in plan.choices.items():
            row = self.index[name]
            if option not in self.options[row] and self.target.stores(self.layers[row], option):
                raise ConfigurationError(
                    f"{where}: {name!r} is stored as {option}, which {self.target.name} offers only where "
                    f"asked: open the checkpoint with scheme={option.scheme!r}, all_widths=True.",
                    key=name,
                )
            if option not in self.options[row]:
                raise ConfigurationError(
                    f"{where}: {name!r} cannot be stored as {option}; its shape here is {self.layers[row].shape}.",
                    key=name,
                )
        choice = tuple(
            self.options[row].index(plan.choices[layer.name]) for row, layer in enumerate(self.layers)
        )
        notes: tuple[str, ...] = ()
        if plan.fingerprint != self.checkpoint.fingerprint:
            notes += ("The plan was made for a checkpoint with the same layers and other contents.",)
        if (plan.effort, plan.weighted_by) != (self.encodings.effort, self.encodings.weighted_by):
            theirs, ours = (
                f"{one.effort}{' by a calibration' if one.weighted_by else ''}"
                for one in (plan, self.encodings)
            )
            notes += (f"The plan was made with the effort {theirs}; here it is {ours}.",)
        return Tuning(choice, frozenset(self.index[name] for name in plan.locks), plan.made_by), notes

    def by_rules(
        self, now: Tuning, text: str, rules_format: str, where: str, names: str | None = None
    ) -> Tuning:
        """The tuning with the options that some rules give, see `Session.load_rules`."""
        present = self.priced.choices(now.choice)
        naming = naming_of(self.checkpoint, rules_format, names)
        found = read_rules(text, rules_format, self.layers, self.target, present, where=where, naming=naming)
        choice = tuple(self.place_of(row, found[layer.name]) for row, layer in enumerate(self.layers))
        made_by = {"method": "rules", "format": rules_format}
        return replace(now, choice=choice, made_by=made_by, limits=Constraints(), by_hand=frozenset())

    def compressible_bytes(self, tuning: Tuning) -> int:
        """Bytes of the codes of a tuning beyond their entropy."""
        rows = self.starts + np.array(tuning.choice, np.int64)
        chosen = self.prices.select(["bits", "code_entropy"]).take(rows).to_pylist()
        spare = sum(
            layer.params * (option["bits"] - option["code_entropy"])
            for layer, option in zip(self.layers, chosen, strict=True)
            if option["code_entropy"] is not None
        )
        return max(int(spare / 8), 0)

    def locks(self, tuning: Tuning) -> list[int]:
        """Place of each locked layer's option; −1 for the others."""
        return [place if row in tuning.locks else -1 for row, place in enumerate(tuning.choice)]

    def limits_of(self, tuning: Tuning) -> Constraints:
        """The limits that the tuning was solved under, and its locks."""
        return replace(tuning.limits, locks=self.locks(tuning))

    def within(self, size: int, tuning: Tuning) -> IntArray:
        """The best choice whose payload is within a size, under the tuning's locks and limits."""
        return self.priced.within(size, self.limits_of(tuning), self._draft(tuning))

    def plan(self, tuning: Tuning, totals: Totals) -> Plan:
        """The plan of a tuning and its totals."""
        predicted = {name: getattr(totals, name) for name in TOTALS}
        return replace(self._draft(tuning), predicted=predicted)

    def totals(self, tuning: Tuning) -> Totals:
        found = self.priced.totals(np.array(tuning.choice), self._draft(tuning), self.limits_of(tuning))
        return Totals(
            nbytes=int(found["nbytes"]),
            ratio=self.checkpoint.nbytes / max(found["nbytes"], 1),
            bpw=found["bpw"],
            nsr=found["nsr"],
            gap=found["gap"],
            temperature=found["temperature"],
        )

    def _draft(self, tuning: Tuning) -> Plan:
        return self.priced.plan(tuning.choice, tuning.locks, tuning.made_by)


def _scaled(options: pa.Table, factors: Mapping[str, float]) -> pa.Table:
    """Prices with the damage of some layers multiplied."""
    if not factors:
        return options
    scale = np.array([factors.get(name, 1.0) for name in options["layer"].to_pylist()])
    for column in ("nsr", "nsr_stderr"):
        place = options.column_names.index(column)
        values = pa.array(options[column].to_numpy() * scale, options.schema.field(place).type)
        options = options.set_column(place, options.schema.field(place), values)
    return options
