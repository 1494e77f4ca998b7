"""`kernels_pythran.search` in NumPy: all groups of a tile at once, weights [k, groups], sums four weights at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.kernels.forms import Form, Storage
from workbench.kernels.portable.tiles import Array, by_row, each_run, first_not_finite, tiles, widen

__all__ = ["improve_groups"]

F = np.float32
MAGIC = F(1.5 * 2**23)
LEAST, MOST = F(1 / 64), F(256.0)
MARGIN = F(1.0 - 2.0**-14)


def improve_groups(
    source: Array,
    is_half: bool,
    rows: int,
    cols: int,
    bits: int,
    group: int,
    form: int,
    storage: int,
    weights: Array,
    clips: Array,
    refits: int,
    nudges: Array,
    scales: Array,
    origins: Array,
) -> int:
    """Replace the scale and origin of each group by better ones where there are any."""
    tensor = source.reshape(rows, cols)
    scale, origin = by_row(scales, rows), by_row(origins, rows)
    importance = weights if weights.size else np.ones(cols, F)
    for r, c in tiles(rows, cols):
        values = widen(tensor[r, c], is_half)
        bad = first_not_finite(values)
        if bad >= 0:
            return int(r.start * cols + c.start + bad)
        counts = np.broadcast_to(importance[c], values.shape)
        for at, v, u in each_run(c, group, values, counts):
            found = _improve(
                _on_its_side(v), _on_its_side(u), v.min(axis=2).reshape(-1), v.max(axis=2).reshape(-1),
                scale[r, at].reshape(-1), origin[r, at].reshape(-1),
                bits, form, Storage(storage).dtype, clips, refits, nudges,
            )  # fmt: skip
            scale[r, at], origin[r, at] = (x.reshape(v.shape[:2]) for x in found)
    return -1


@dataclass
class _Groups:
    """Groups on their side: weights and importances [k, groups], and a value a group of everything else."""

    weights: Array
    importances: Array
    low: Array
    step: Array
    unit: Array
    form: int
    bits: int
    weight: Array = field(init=False)
    first: Array = field(init=False)
    second: Array = field(init=False)

    def __post_init__(self) -> None:
        u, w = self.importances, self.weights
        self.weight, self.first, self.second = _sum(u), _sum(u * w), _sum(u * w * w)
        self.levels, self.half = F((1 << self.bits) - 1), F(1 << (self.bits - 1))

    def assign(self, inverse: Array, middle: Array) -> tuple[Array, Array, Array]:
        """Σu·q, Σu·q² and Σu·q·w of the codes."""
        q = np.clip((self.weights - middle) * inverse + MAGIC - MAGIC, -self.half, self.levels - self.half)
        p = q * self.importances
        return _sum(p), _sum(p * q), _sum(p * self.weights)

    def measure(self, scale: Array, origin: Array) -> Array:
        """Weighted squared error, in the arithmetic of the decoders."""
        w = self.weights
        inverse = np.where(scale > 0, F(1.0) / scale, F(0.0))
        x = (w - origin) * inverse if self.form == Form.OFFSET else w * inverse + origin
        q = np.clip(x + MAGIC - MAGIC, F(0.0), self.levels)
        d = w - (q * scale + origin if self.form == Form.OFFSET else (q - origin) * scale)
        return _sum(d * d * self.importances)

    def propose(self, below: np.float32, above: np.float32) -> tuple[Array, Array, Array]:
        """Inverse scale, middle and pivot of the range without so many steps below and above."""
        scale = self.step * (F(1.0) - (below + above) / self.levels)
        inverse = F(1.0) / scale
        middle = self.low + below * self.step + self.half * scale
        pivot = np.zeros_like(scale)
        if self.form == Form.FIXED:
            middle = np.zeros_like(scale)
        elif self.form == Form.WHOLE:
            zero = self.half - middle * inverse + MAGIC - MAGIC
            pivot = np.clip(zero, F(0.0), self.levels) - self.half
            middle = F(0.0) - pivot * scale
        return inverse, middle, pivot

    def refit(self, sums: tuple[Array, Array, Array], pivot: Array) -> tuple[Array, Array, Array, Array]:
        """Error, scale, middle and pivot that are best for codes of these sums."""
        total, squares, products = sums
        if self.form in (Form.OFFSET, Form.ZERO):
            spread = self.weight * squares - total * total
            scale = (self.weight * products - total * self.first) / spread
            middle = (self.first - scale * total) / self.weight
            loss = self.second - (middle * self.first + scale * products)
            return loss, scale, middle, total / self.weight
        spread = squares - pivot * (total + total - pivot * self.weight)
        along = products - pivot * self.first
        scale = along / spread
        return self.second - scale * along, scale, F(0.0) - pivot * scale, pivot

    def settle(
        self, scale: Array, pivot: Array, nudge: np.float32, storage: np.dtype[Any]
    ) -> tuple[Array, Array]:
        """Scale and origin as they would be stored."""
        found = (scale * nudge * self.unit).astype(storage).astype(F) / self.unit
        if self.form in (Form.FIXED, Form.WHOLE):
            return found, self.half + pivot
        middle = self.first / self.weight - pivot * found
        if self.form == Form.ZERO:
            return found, self.half - middle / found
        origin = (middle - self.half * found) * self.unit
        return found, origin.astype(storage).astype(F) / self.unit


def _improve(
    w: Array,
    u: Array,
    low: Array,
    high: Array,
    scale: Array,
    origin: Array,
    bits: int,
    form: int,
    storage: np.dtype[Any],
    clips: Array,
    refits: int,
    nudges: Array,
) -> tuple[Array, Array]:
    with np.errstate(all="ignore"):
        low, high = low + F(0.0), high + F(0.0)
        peak, wide = np.maximum(F(0.0) - low, high), high - low
        step = (peak + peak if form == Form.FIXED else wide) / F((1 << bits) - 1)
        fit = (wide > F(1e-27)) & (peak < F(1e29)) & (wide * F(64.0) >= peak)
        fit &= (scale > step * LEAST) & (scale * LEAST < step)
        unit = (peak.view(np.uint32) & np.uint32(0x7F800000)).view(F)
        shrink = F(1.0) / unit
        groups = _Groups(w * shrink, u, low * shrink, step * shrink, unit, form, bits)
        best = scale * shrink, origin * shrink if form == Form.OFFSET else origin
        error = groups.measure(*best)
        found: tuple[Array, ...] = (
            np.full_like(scale, 3e38),
            best[0],
            np.zeros_like(scale),
            np.zeros_like(scale),
        )
        for trial in range(len(clips) + refits):
            if trial < len(clips):
                inverse, middle, pivot = groups.propose(*clips[trial])
            else:
                inverse, middle, pivot = F(1.0) / found[1], found[2], found[3]
            new = groups.refit(groups.assign(inverse, middle), pivot)
            usual = (new[1] > groups.step * LEAST) & (new[1] < groups.step * MOST)
            found = _choose(usual & (new[0] < found[0]), new, found)
        for nudge in nudges:
            stored = groups.settle(found[1], found[3], nudge, storage)
            less = groups.measure(*stored)
            error, s, o = _choose(less < error * MARGIN, (less, *stored), (error, *best))
            best = s, o
        better = best[0] * unit, best[1] * unit if form == Form.OFFSET else best[1]
    s, o = _choose(fit, better, (scale, origin))
    return s, o


def _choose(mask: Array, ours: tuple[Array, ...], theirs: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(np.where(mask, a, b) for a, b in zip(ours, theirs, strict=True))


def _sum(terms: Array) -> Array:
    """Sums over k, four at a time, in this order."""
    total = np.zeros(terms.shape[1], F)
    for k in range(0, len(terms), 4):
        total = total + ((terms[k] + terms[k + 1]) + (terms[k + 2] + terms[k + 3]))
    return total


def _on_its_side(x: Array) -> Array:
    """[k, rows · groups] of [rows, groups, k], with zeros up to a multiple of four."""
    size = x.shape[2]
    turned = np.zeros((-(-size // 4) * 4, x.shape[0] * x.shape[1]), F)
    turned[:size] = x.reshape(-1, size).T
    return turned
