"""How hard to look for the codes of a layer, and which of its errors count most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from workbench.calibration import CalibrationRecords
from workbench.config import EFFORTS
from workbench.errors import ANY, ArgumentError, setting
from workbench.plan import Plan

Weights = NDArray[np.float32]

DAMPING = 0.01
"""Share of the mean importance that every channel gets besides its own, as calibration has not seen all there is."""

SILENT = 1e-4
"""Channels of less than this share of the median's power were never seen to fire."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """How the weights of one layer become codes."""

    effort: str = "fast"
    """``"fast"`` is round-to-nearest between the extremes of each group; the others search."""
    channel_weights: Weights | None = None
    """What a squared error in each column counts, float32 [cols], greatest 1; None where all count alike."""


FAST = Encoding()
"""Round-to-nearest."""


@dataclass(frozen=True, eq=False)
class Encodings:
    """How the weights of all layers become codes: an effort, and a calibration that weighs their errors.

    Parameters
    ----------
    effort : str
        One of `workbench.config.EFFORTS`.
    records : CalibrationRecords, optional
        A layer's errors then count by the second moments of its input channels; ``fast`` has no use for them.

    Raises
    ------
    ArgumentError
        If there is no such effort.
    """

    effort: str = "fast"
    records: CalibrationRecords | None = None
    _known: dict[str, Encoding] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.effort not in EFFORTS:
            allowed = ", ".join(EFFORTS)
            raise ArgumentError(
                f"There is no effort {self.effort!r}; allowed: {allowed}.",
                key="effort",
                value=self.effort,
                allowed=allowed,
            )
        if self.effort == "fast":
            object.__setattr__(self, "records", None)

    @property
    def weighted_by(self) -> str | None:
        """Digest of the calibration; None without one."""
        return None if self.records is None else self.records.digest

    def of(self, tensor: str, shape: Sequence[int]) -> Encoding:
        """How a layer of a name and shape becomes codes."""
        if self.effort == "fast":
            return FAST
        if tensor not in self._known:
            weights = None if self.records is None else _channel_weights(self.records, tensor, shape)
            self._known[tensor] = Encoding(self.effort, weights)
        return self._known[tensor]

    @classmethod
    def of_plan(cls, plan: Plan, records: CalibrationRecords | None = None) -> Self:
        """How a plan says that layers become codes.

        Raises
        ------
        ArgumentError
            If the plan names a calibration and it is not the one given.
        """
        if plan.weighted_by is None:
            return cls(plan.effort)
        given = "none was given" if records is None else f"the one given is {records.digest[:12]}…"
        if records is None or records.digest != plan.weighted_by:
            raise ArgumentError(
                f"The plan's codes are weighed by the calibration {plan.weighted_by[:12]}…, and {given}. Give the "
                f"records that the plan was made with, {setting('calibration', ANY)}, or make the plan again.",
                key="calibration",
                value=plan.weighted_by,
            )
        return cls(plan.effort, records)


def _channel_weights(records: CalibrationRecords, tensor: str, shape: Sequence[int]) -> Weights | None:
    """E[x_j²] of the input that each column of a layer meets, relative to the output's energy in every bucket.

    The mean over the parts of a grouped convolution. A channel that was silent throughout counts as the median of the
    others, since nothing is known of what it carries when it fires. None without a record, and for an embedding, whose
    columns all meet the same.
    """
    record = records.layers.get(tensor)
    if record is None or record.kind == "embedding":
        return None
    ran = (record.count > 0) & (record.output_energy > 0)
    if not ran.any():
        return None
    share = records.shares[ran] / record.output_energy[ran]
    power = share @ record.second_moment[ran].astype(np.float64)
    if record.kind == "conv":
        power = power.reshape(-1, shape[1]).mean(axis=0).repeat(math.prod(shape[2:]))
    fired = power > 0
    if fired.any():
        median = np.median(power[fired])
        power[power < SILENT * median] = median
    power = power + DAMPING * power.mean()
    peak = power.max()
    return (power / peak).astype(np.float32) if peak > 0 else None
