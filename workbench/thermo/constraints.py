"""What every plan must satisfy layer by layer, and the smaller table of choices that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.errors import ConfigurationError
from workbench.thermo.costs import BoolArray, CostTable, FloatArray, IntArray

NAMED = 3
"""How many layers an error names."""

WIDEST = 8
"""Bits of the widest option that is not a plain float."""


@dataclass(frozen=True, eq=False)
class Constraints:
    """Limits on single layers, each an array [layers] or one value for all, and layers that go together."""

    locks: ArrayLike = -1
    """Place of the option that the layer must keep; −1 leaves it free."""
    floors: ArrayLike | None = None
    """Fewest nominal bits."""
    ceilings: ArrayLike | None = None
    """Most nominal bits."""
    min_cosine: ArrayLike | None = None
    """Least cosine between the weights and what is decoded."""
    ties: Sequence[Sequence[int]] = ()
    """Groups of layers, by index, that must share bits, scheme and group size; groups that overlap are one."""

    def masks(self, costs: CostTable) -> dict[str, BoolArray]:
        """The options that each kind of limit allows, [layers, options], by its name; only those that are set."""
        masks = {}
        locks = _for_each(self.locks, costs)
        if (locks >= 0).any():
            places = np.arange(costs.legal.shape[1])
            masks["lock"] = (locks < 0) | ((locks == places) & costs.legal)
            for index in np.flatnonzero(~masks["lock"].any(axis=1))[:1]:
                layer = costs.names[index]
                raise ConfigurationError(
                    f"The lock on {layer!r} is to an option that it does not have.",
                    key="locks",
                    layers=[layer],
                )
        if self.floors is not None:
            masks["floor"] = costs.bits >= _for_each(self.floors, costs)
        if self.ceilings is not None:
            masks["ceiling"] = costs.bits <= _for_each(self.ceilings, costs)
        if self.min_cosine is not None:
            if np.isnan(costs.cosine[costs.legal]).any():
                raise ConfigurationError(
                    "min_cosine needs the cosine of every option measured.", key="min_cosine"
                )
            masks["min_cosine"] = costs.cosine >= _for_each(self.min_cosine, costs)
        return masks


@dataclass(frozen=True, eq=False)
class Restricted:
    """The choices that constraints leave: a table whose rows are layers, or tied layers as one."""

    costs: CostTable
    """Sums over the tied layers; the least of their cosines. The places in a row are those of its first layer."""
    row: IntArray
    """The row of each layer, [layers]."""
    place: IntArray
    """Place of the layer's own option for each place in its row, [layers, options]; −1 where it has none."""

    def expand(self, choice: IntArray) -> IntArray:
        """The choice of each layer from a choice of each row."""
        return self.place[np.arange(len(self.row)), choice[self.row]]


def restrict(costs: CostTable, constraints: Constraints) -> Restricted:
    """Leave what the constraints allow.

    Raises
    ------
    ConfigurationError
        If a layer is left without an option, or tied layers without a common one; names them, what excludes the
        options, and the best cosine to be had.
    """
    masks = constraints.masks(costs)
    if not masks and not len(constraints.ties):
        places = np.where(costs.legal, np.arange(costs.legal.shape[1]), -1)
        return Restricted(costs, np.arange(len(costs)), places)
    legal = costs.legal.copy()
    for mask in masks.values():
        legal &= mask
    stuck = np.flatnonzero(~legal.any(axis=1))
    if stuck.size:
        raise _nothing_left(costs, masks, stuck)
    allowed = replace(costs, legal=legal)
    first = _first_of_tie(constraints.ties, costs)
    if not len(constraints.ties):
        return Restricted(allowed, first, np.where(legal, np.arange(legal.shape[1]), -1))
    return _merge(allowed, first, costs)


def check_choice(costs: CostTable, constraints: Constraints, choice: IntArray) -> None:
    """Check a choice of each layer against the constraints.

    Raises
    ------
    ConfigurationError
        If it is not a choice of each layer, or breaks a constraint; names the first layer that does.
    """
    if choice.shape != (len(costs),) or not ((choice >= 0) & (choice < costs.legal.shape[1])).all():
        raise ConfigurationError("A choice must be the place of an option for each layer.", key="choice")
    layers = np.arange(len(costs))
    form = costs.form[layers, choice]
    meets = {name: mask[layers, choice] for name, mask in constraints.masks(costs).items()}
    meets |= {
        "legality": costs.legal[layers, choice],
        "tie": form == form[_first_of_tie(constraints.ties, costs)],
    }
    for name, good in meets.items():
        for index in np.flatnonzero(~good)[:1]:
            layer = costs.names[index]
            raise ConfigurationError(f"The choice for {layer!r} breaks its {name}.", key=name, layers=[layer])


def tightest(costs: CostTable, constraints: Constraints, of: Literal["nbytes", "damage"]) -> list[str]:
    """The constraints that raise the least total bytes or damage most, the worst first, each as a phrase.

    Each is taken alone: what a layer's least becomes under it, over the layer's least without any.
    """

    def least(table: CostTable, mask: BoolArray | None = None) -> FloatArray:
        values = table.nbytes if of == "nbytes" else table.damage
        allowed = table.legal if mask is None else table.legal & mask
        smallest: FloatArray = np.where(allowed, values, np.inf).min(axis=1, initial=np.inf)
        return smallest

    free = least(costs)
    found: list[tuple[float, str, str]] = []
    for name, mask in constraints.masks(costs).items():
        found += zip(least(costs, mask) - free, [name] * len(costs), costs.names, strict=True)
    if len(constraints.ties):
        tied = restrict(costs, Constraints(ties=constraints.ties))
        extra = least(tied.costs) - np.bincount(tied.row, free, len(tied.costs))
        found += zip(extra, ["tie"] * len(extra), tied.costs.names, strict=True)
    rounding = 1e-12 * float(free.max(initial=0))
    worst = sorted((cause for cause in found if cause[0] > rounding), key=lambda cause: -cause[0])[:NAMED]
    unit = " bytes" if of == "nbytes" else ""
    return [f"the {name} on {layer!r} (+{extra:,.6g}{unit})" for extra, name, layer in worst]


def largest(costs: CostTable) -> str:
    """Sentences on what the least bytes of all layers come from.

    Layers that have no narrow option, and those that take most.
    """
    nbytes = np.where(costs.legal, costs.nbytes, np.iinfo(np.int64).max)
    cheapest = nbytes.argmin(axis=1)
    rows = np.arange(len(costs))
    least, width = nbytes[rows, cheapest], costs.bits[rows, cheapest]
    is_wide = np.where(costs.legal, costs.bits, np.iinfo(np.int64).max).min(axis=1) > WIDEST
    sentences = []
    if is_wide.any():
        sentences.append(
            f"{int(is_wide.sum())} of {len(costs)} layers have no option of {WIDEST} bits or fewer here; they take "
            f"{int(least[is_wide].sum()):,} of these bytes."
        )
    order = np.argsort(-least, kind="stable")[:NAMED]
    most = ", ".join(f"{costs.names[row]!r} ({least[row]:,} bytes, {width[row]} bits)" for row in order)
    return " ".join([*sentences, f"The largest at their least: {most}."])


def _for_each(value: ArrayLike, costs: CostTable) -> NDArray[Any]:
    array = np.asarray(value)
    if array.shape not in ((), (len(costs),)):
        raise ConfigurationError(
            f"A constraint must be one value or one for each of the {len(costs)} layers, not of shape {array.shape}.",
            key="constraints",
        )
    return np.broadcast_to(array, len(costs))[:, None]


def _first_of_tie(ties: Sequence[Sequence[int]], costs: CostTable) -> IntArray:
    """The first layer of each layer's tied group, [layers]; itself where it is not tied."""
    first = np.arange(len(costs))
    group_of: dict[int, set[int]] = {}
    for tie in ties:
        if not all(0 <= layer < len(costs) for layer in tie):
            raise ConfigurationError(
                f"The tie {list(tie)} is not of indices of the {len(costs)} layers.", key="ties"
            )
        merged = set(tie).union(*(group_of.get(layer, ()) for layer in tie))
        group_of.update(dict.fromkeys(merged, merged))
    for group in {id(group): group for group in group_of.values()}.values():
        first[sorted(group)] = min(group)
    return first


def _merge(allowed: CostTable, first: IntArray, costs: CostTable) -> Restricted:
    """Tied layers as one row, over the options that all of them have."""
    match = (allowed.form[first][:, :, None] == allowed.form[:, None, :]) & allowed.legal[:, None, :]
    place = np.where(match.any(axis=2), match.argmax(axis=2), -1)
    leaders, row = np.unique(first, return_inverse=True)
    layers = np.arange(len(row))[:, None]
    shape = len(leaders), place.shape[1]
    nbytes, damage = np.zeros(shape, np.int64), np.zeros(shape)
    cosine, legal, params = np.full(shape, np.inf), allowed.legal[leaders], np.zeros(len(leaders), np.int64)
    np.add.at(nbytes, row, allowed.nbytes[layers, place])
    np.add.at(damage, row, allowed.damage[layers, place])
    np.minimum.at(cosine, row, allowed.cosine[layers, place])
    np.logical_and.at(legal, row, place >= 0)
    np.add.at(params, row, allowed.params)
    names: list[list[str]] = [[] for _ in leaders]
    for name, index in zip(allowed.names, row.tolist(), strict=True):
        names[index].append(name)
    for index in np.flatnonzero(~legal.any(axis=1))[:1]:
        group = names[index]
        raise ConfigurationError(
            f"The tied layers {', '.join(map(repr, group))} have no option in common that their limits allow; "
            "untie them or loosen a lock, floor, ceiling or min_cosine among them.",
            key="ties",
            layers=group,
        )
    merged = CostTable(
        tuple(" + ".join(group) for group in names), params, nbytes, damage, costs.bits[leaders], cosine,
        costs.form[leaders], legal,
    )  # fmt: skip
    return Restricted(merged, row, place)


def _nothing_left(costs: CostTable, masks: dict[str, BoolArray], stuck: IntArray) -> ConfigurationError:
    best = np.where(costs.legal, costs.cosine, -np.inf).max(axis=1, initial=-np.inf)
    phrases = []
    for index in stuck[:NAMED]:
        legal = costs.legal[index]
        blamed = [name for name, mask in masks.items() if not mask[index][legal].all()]
        widths = ", ".join(map(str, np.unique(costs.bits[index][legal])))
        reach = f"; its best cosine is {best[index]:.6g}" if "min_cosine" in blamed else ""
        phrases.append(f"{costs.names[index]!r} ({' and '.join(blamed)}; it has {widths} bits{reach})")
    more = f" and {len(stuck) - NAMED} more" if len(stuck) > NAMED else ""
    return ConfigurationError(
        f"No option is left for {', '.join(phrases)}{more}; loosen or lift these limits.",
        key="constraints",
        layers=[costs.names[index] for index in stuck],
        best_cosine=float(best[stuck].min()),
    )
