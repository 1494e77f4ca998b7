"""What every option of every layer costs: the table that the solver, the ensemble and the policies work on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import ValidationError
from workbench.plan import Option

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

NEVER = np.iinfo(np.int64).max
"""Bytes of what is no option."""


@dataclass(frozen=True, eq=False)
class CostTable:
    """Bytes and damage of every option of every layer; immutable.

    Arrays are [layers, options]. A layer with fewer options than the widest has cells that are not `legal`,
    whose other values mean nothing. A *choice* is an int64 array [layers] of places along the second axis.
    """

    names: tuple[str, ...]
    """The layers."""
    params: IntArray
    """Weights in each layer, [layers]."""
    nbytes: IntArray
    """Exact bytes of the option's tensor data."""
    damage: FloatArray
    """D, relative error power, 0 for a lossless option."""
    bits: IntArray
    """Nominal bits per weight."""
    cosine: FloatArray
    """Cosine between the weights and what is decoded; NaN where it was not measured."""
    form: IntArray
    """Equal numbers mean equal bits, scheme and group size; what tied layers must share."""
    legal: BoolArray
    """Whether there is such an option."""

    def __post_init__(self) -> None:
        for item in fields(self):
            array = getattr(self, item.name)
            if isinstance(array, np.ndarray):
                frozen = array.view()
                frozen.flags.writeable = False
                object.__setattr__(self, item.name, frozen)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        params: Sequence[int],
        options: Sequence[Sequence[Option]],
        damage: Sequence[Sequence[float]],
        cosine: Sequence[Sequence[float]] | None = None,
    ) -> CostTable:
        """The table of some layers' options.

        Parameters
        ----------
        names, params
            Name and number of weights of each layer.
        options
            The legal options of each layer, in any order; their places are what a choice refers to.
        damage, cosine
            D and cosine of each option, in the same places.

        Raises
        ------
        ValidationError
            If a layer has no option, the same one twice, or a damage that is negative, NaN or Inf.
        """
        counts = np.array([len(row) for row in options], np.int64)
        legal = np.arange(counts.max(initial=1)) < counts[:, None]
        flat = list(chain.from_iterable(options))
        forms: dict[tuple[int, str, int], int] = {}

        def spread(values: Iterable[float], dtype: type[np.generic] = np.int64) -> NDArray[Any]:
            array = np.zeros(legal.shape, dtype)
            array[legal] = list(values)
            return array

        table = cls(
            names=tuple(names),
            params=np.array(params, np.int64),
            nbytes=spread(option.nbytes for option in flat),
            damage=spread(chain.from_iterable(damage), np.float64),
            bits=spread(option.bits for option in flat),
            cosine=spread(chain.from_iterable(cosine) if cosine else [math.nan] * len(flat), np.float64),
            form=spread(forms.setdefault((o.bits, o.scheme, o.group_size), len(forms)) for o in flat),
            legal=legal,
        )
        table._check()
        return table

    def _check(self) -> None:
        unlike = -1 - np.arange(self.form.shape[1])
        forms = np.sort(np.where(self.legal, self.form, unlike), axis=1)
        sound = np.isfinite(self.damage) & (self.damage >= 0)
        problems = {
            "has no option": ~self.legal.any(axis=1),
            "has a damage that is negative, NaN or Inf": (self.legal & ~sound).any(axis=1),
            "has an option of negative size": (self.legal & (self.nbytes < 0)).any(axis=1),
            "has two options of equal bits, scheme and group size": (forms[:, 1:] == forms[:, :-1]).any(
                axis=1
            ),
        }
        for problem, layers in problems.items():
            for index in np.flatnonzero(layers)[:1]:
                raise ValidationError(f"The layer {self.names[index]!r} {problem}.", tensor=self.names[index])

    @property
    def sizes(self) -> IntArray:
        """`nbytes`, and NEVER where there is no option."""
        return np.where(self.legal, self.nbytes, NEVER)

    @property
    def damage_or_inf(self) -> FloatArray:
        """`damage`, and Inf where there is no option."""
        return np.where(self.legal, self.damage, np.inf)

    def __len__(self) -> int:
        return len(self.names)

    def nbytes_of(self, choice: IntArray) -> int:
        """Bytes of a choice."""
        return int(self.nbytes[np.arange(len(self)), choice].sum())

    def damage_of(self, choice: IntArray) -> float:
        """Σ D of a choice, correctly rounded, so that the order of the layers does not show."""
        return math.fsum(self.damage[np.arange(len(self)), choice])

    def bpw(self, nbytes: float) -> float:
        """Bits per layer weight that so many bytes are."""
        return 8 * nbytes / max(int(self.params.sum()), 1)
