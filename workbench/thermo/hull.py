"""Lower convex hulls of damage over bytes, of one layer or of all at once."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from workbench.thermo.costs import NEVER, BoolArray, CostTable, FloatArray, IntArray


def hull(nbytes: Sequence[int] | IntArray, damage: Sequence[float] | FloatArray) -> list[int]:
    """Indices of the options on the lower convex hull of damage over bytes, cheapest first.

    Along it bytes rise and damage falls, both strictly, and a byte buys less at every step. Of equal options the
    first is taken; one on the line between two others is left out.

    References
    ----------
    Y. Shoham and A. Gersho, "Efficient bit allocation for an arbitrary set of quantizers", IEEE Trans. ASSP 36(9),
    1988: an optimum of D + T·R lies on these hulls, whatever the quantizers.
    """
    sizes = np.asarray(nbytes, np.int64)[None, :]
    if not sizes.size:
        return []
    path = hulls(sizes, np.asarray(damage, np.float64)[None, :], np.ones(sizes.shape, np.bool_))[0]
    return [int(place) for place in path if place >= 0]


_KNOWN: WeakKeyDictionary[CostTable, IntArray] = WeakKeyDictionary()


def hulls_of(costs: CostTable) -> IntArray:
    """The hull of every layer of a table, see `hulls`; remembered as long as the table is used."""
    paths = _KNOWN.get(costs)
    if paths is None:
        paths = hulls(costs.nbytes, costs.damage, costs.legal)
        paths.flags.writeable = False
        _KNOWN[costs] = paths
    return paths


def hulls(nbytes: IntArray, damage: FloatArray, legal: BoolArray) -> IntArray:
    """The hull of every row.

    Parameters
    ----------
    nbytes, damage, legal : arrays [layers, options]
        Every row has a legal option.

    Returns
    -------
    int64 [layers, options]
        Places of the options on the hull, cheapest first, then −1.
    """
    paths = np.full(nbytes.shape, -1, np.int64)
    rows = np.arange(len(nbytes))
    at = cheapest(nbytes, damage, legal)
    # Gift wrapping: the next corner is where a byte buys most, and the farthest of those in line.
    for place in range(nbytes.shape[1]):
        paths[rows, place] = at
        more = nbytes[rows] - nbytes[rows, at][:, None]
        less = damage[rows, at][:, None] - damage[rows]
        steps = legal[rows] & (more > 0) & (less > 0)
        slope = np.divide(less, more, out=np.full(more.shape, -1.0), where=steps)
        steepest = slope.max(axis=1, initial=-1.0)
        at = np.where(slope == steepest[:, None], more, -1).argmax(axis=1)
        going = steepest >= 0
        rows, at = rows[going], at[going]
        if not rows.size:
            break
    return paths


def cheapest(nbytes: IntArray, damage: FloatArray, legal: BoolArray) -> IntArray:
    """Place of the legal option of fewest bytes in each row, of equals the one of least damage, [layers]."""
    sizes = np.where(legal, nbytes, NEVER)
    fewest = legal & (sizes == sizes.min(axis=1, initial=NEVER)[:, None])
    places: IntArray = np.where(fewest, damage, np.inf).argmin(axis=1)
    return places
