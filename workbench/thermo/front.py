"""The whole front of best plans, from one sort of all the steps of all the layers' hulls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.thermo.constraints import Constraints, Restricted, restrict
from workbench.thermo.costs import CostTable, FloatArray, IntArray
from workbench.thermo.hull import hulls_of


@dataclass(frozen=True, eq=False)
class Front:
    """The plans that minimise the free energy F(T; b) = Σ D + T·Σ R, R in bits, as the temperature T falls from ∞.

    Corner 0 is the cheapest plan; step k leads from corner k to corner k + 1 and is taken when T falls below its
    temperature. The corners are the lower convex hull of all plans, so the line through them is also the dual bound.
    """

    restricted: Restricted
    """The choices it was made from."""
    start: IntArray
    """Choice of corner 0, [rows]."""
    row: IntArray
    """The row that each step changes, [steps]."""
    place: IntArray
    """The option that it changes to, [steps]."""
    temperature: FloatArray
    """Distortion saved per bit spent by each step, never rising, [steps]."""
    nbytes: IntArray
    """Bytes of each corner, rising, [steps + 1]."""
    damage: FloatArray
    """Σ D of each corner, falling, [steps + 1]."""

    def rows_at(self, corner: int) -> IntArray:
        """Choice of each row of the restricted table at a corner."""
        choice = self.start.copy()
        choice[self.row[:corner]] = self.place[
            :corner
        ]  # a row's later steps come later, and the last one counts
        return choice

    def choice_at(self, corner: int) -> IntArray:
        """Choice of each layer at a corner."""
        return self.restricted.expand(self.rows_at(corner))

    def corner_at(self, temperature: float) -> int:
        """The corner that minimises the free energy; at the temperature of a step, the one before it."""
        return int(np.searchsorted(-self.temperature, -temperature, side="left"))

    def corner_within(self, nbytes: float) -> int:
        """The last corner of at most so many bytes; −1 where there is none."""
        return int(np.searchsorted(self.nbytes, nbytes, side="right")) - 1

    def bound(self, nbytes: float) -> float:
        """Least Σ D that plans of at most so many bytes could have: max_T [min_b F(T; b) − T·bits].

        References
        ----------
        H. Everett III, "Generalized Lagrange multiplier method for solving problems of optimum allocation of
        resources", Operations Research 11(3), 1963.
        """
        corner = self.corner_within(nbytes)
        if corner < 0:
            return np.inf
        if corner == len(self.row):
            return float(self.damage[-1])
        left, right = self.nbytes[corner : corner + 2].tolist()
        part = (nbytes - left) / (right - left)
        return float((1 - part) * self.damage[corner] + part * self.damage[corner + 1])

    def price(self, nbytes: float) -> float:
        """Temperature at which so many bytes are spent: that of the first step beyond them, 0 where there is none."""
        corner = self.corner_within(nbytes)
        if corner < 0:
            return np.inf
        return float(self.temperature[corner]) if corner < len(self.row) else 0.0


def trace(costs: CostTable, constraints: Constraints | None = None) -> Front:
    """The whole front under some constraints.

    Raises
    ------
    ConfigurationError
        If a layer, or a group of tied layers, is left without an option.
    """
    restricted = restrict(costs, constraints or Constraints())
    table = restricted.costs
    paths = hulls_of(table)
    rows = np.arange(len(table))[:, None]
    sizes, damage = table.nbytes[rows, paths], table.damage[rows, paths]
    more, less = np.diff(sizes, axis=1), -np.diff(damage, axis=1)
    steps = paths[:, 1:] >= 0
    slope = np.divide(less, 8 * more, out=np.zeros(more.shape), where=steps)
    slope = np.minimum.accumulate(slope, axis=1)  # rounding must not turn two steps of a layer around
    row, step = np.nonzero(steps)
    # Steps of equal slope go by size, so that the corners do not depend on the order of the layers.
    order = np.lexsort((more[row, step], step, -slope[row, step]))
    row, step = row[order], step[order]
    # Small damage are summed from the fine end, where none of their digits are lost.
    least = table.damage_or_inf.min(axis=1, initial=np.inf).sum()
    saved = np.cumsum(np.concatenate(([least], less[row, step][::-1])))[::-1]
    return Front(
        restricted=restricted,
        start=paths[:, 0].copy(),
        row=row,
        place=paths[row, step + 1],
        temperature=slope[row, step],
        nbytes=np.cumsum(np.concatenate(([sizes[:, 0].sum()], more[row, step])), dtype=np.int64),
        damage=saved,
    )
