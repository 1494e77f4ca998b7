"""`ActivationTables`: scale and zero point of 8-bit activations by layer and time, as an export carries them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from workbench.errors import ArgumentError, MetadataError

LEVELS = 255
"""Steps between the least and the greatest 8-bit code."""

ActivationMode = Literal["none", "int8-time", "int8-static"]
"""Whether a layer's input is rounded to eight bits: with the scale of the time group that the call is in, or with one
scale for all times."""


def mode_named(mode: str) -> ActivationMode:
    """The mode of a name.

    Raises
    ------
    ArgumentError
        If there is none.
    """
    allowed: tuple[ActivationMode, ...] = get_args(ActivationMode)
    for known in allowed:
        if known == mode:
            return known
    raise ArgumentError(
        f"activations is {mode!r}; allowed: {', '.join(allowed)}.", key="activations", value=mode
    )


@dataclass(frozen=True, eq=False)
class ActivationTables:
    """8-bit activations x ≈ (q − zero_point)·scale, q from 0 to 255, with a scale for each layer and time group."""

    time: str
    """What time means, such as ``"timestep"``."""
    borders: NDArray[np.float64]
    """Times at which one group ends and the next begins, [groups − 1], halfway between their recorded steps."""
    scales: Mapping[str, NDArray[np.float64]]
    """By layer, [groups]; of a group in which the layer did not run that of the nearest in which it did."""
    zero_points: Mapping[str, NDArray[np.float64]]
    """The same, from 0 to 255."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "activation tables") -> Self:
        """The tables of plain values, as `TimeAwareQuantizer.to_dict` makes them.

        Raises
        ------
        MetadataError
            If something is missing, of the wrong type or out of range; `where` begins the message.
        """
        try:
            if data["bits"] != 8:
                raise ValueError(f"{data['bits']!r} bits")
            groups = [(_number(group["low"]), _number(group["high"])) for group in data["groups"]]
            if not groups or any(low > high for low, high in groups) or groups != sorted(groups):
                raise ValueError("groups that are not in the order of time")
            scales, zero_points = {}, {}
            for name, entry in data["layers"].items():
                there = np.array([int(group) for group in entry["group"]])
                scale = np.array([_number(value) for value in entry["scale"]])
                zero = np.array([_number(value) for value in entry["zero_point"]])
                if not len(there) == len(scale) == len(zero) > 0:
                    raise ValueError(f"the layer {name!r}, whose columns differ in length or are empty")
                if not ((there >= 0) & (there < len(groups)) & (scale > 0)).all():
                    raise ValueError(f"the layer {name!r}, which has a group or a scale out of range")
                if not ((zero >= 0) & (zero <= LEVELS)).all():
                    raise ValueError(f"the layer {name!r}, which has a zero point out of range")
                nearest = np.abs(np.arange(len(groups))[:, None] - there).argmin(axis=1)
                scales[str(name)], zero_points[str(name)] = scale[nearest], zero[nearest]
            borders = [(high + low) / 2 for (_, high), (low, _) in pairwise(groups)]
            return cls(str(data["time"]), np.array(borders), scales, zero_points)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise MetadataError(f"{where}: not what this release writes ({error}). Export again.") from error

    def group_at(self, time: float) -> int:
        """The group that a time belongs to, or is nearest to."""
        return int(np.searchsorted(self.borders, time, side="right"))

    def static(self) -> ActivationTables:
        """The tables of a single group, whose ranges cover those of all."""
        scales, zero_points = {}, {}
        for name, scale in self.scales.items():
            low = float((-self.zero_points[name] * scale).min())
            high = float(((LEVELS - self.zero_points[name]) * scale).max())
            scales[name] = np.array([(high - low) / LEVELS])
            zero_points[name] = np.array([round(-low / scales[name][0])], np.float64)
        return ActivationTables(self.time, np.empty(0), scales, zero_points)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} where a number should be")
    return float(value)
