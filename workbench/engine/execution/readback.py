"""What was measured of the tensors of an export when it was read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from workbench.formats import BlockCheck
from workbench.quantize import Error


class Measured:
    """What the blocks of one tensor add up to."""

    def __init__(self) -> None:
        self.error = Error()
        self.rounding = 0.0
        self.cut_groups = 0
        self.counts: NDArray[np.int64] | None = None

    def add(self, check: BlockCheck) -> None:
        self.error += check.error
        self.rounding += check.rounding
        self.cut_groups += check.cut_groups
        if check.code_counts is not None:
            self.counts = check.code_counts if self.counts is None else self.counts + check.code_counts


def note_on_rounding(layers: Mapping[str, Measured]) -> tuple[str, ...]:
    """A sentence on decoded weights that were rounded to the source's dtype, where that changed any."""
    rounded = {
        name: found.rounding / found.error.signal
        for name, found in layers.items()
        if found.rounding > 0.0 and found.error.signal > 0.0
    }
    if not rounded:
        return ()
    worst = max(rounded, key=lambda name: rounded[name])
    return (
        f"Decoded weights are rounded to the source's dtype, which moves {len(rounded)} layers: by an NSR of "
        f"{sum(rounded.values()) / len(layers):.2g} in the mean, {rounded[worst]:.2g} at most ({worst}).",
    )


def notes_on_cut_groups(kept: Mapping[str, int], layers: Mapping[str, Measured]) -> tuple[str, ...]:
    """A sentence on each layer with groups that the runtime's arithmetic is too narrow for.

    Parameters
    ----------
    kept : mapping of str to int
        Such groups of the layers that are kept because of them; 0 of all others.
    layers : mapping of str to Measured
        What was read back.
    """
    what = "of its groups span more than 65,504, the most that the runtime decodes in float16"
    return (
        *(f"{name} is kept in its source dtype: {count} {what}." for name, count in kept.items() if count),
        *(
            f"{name}: {found.cut_groups} {what}, and their ends are cut off, as the plan quantizes it. Keep the layer "
            "instead."
            for name, found in layers.items()
            if found.cut_groups
        ),
    )


def measured_by_tensor(units: Iterable[list[BlockCheck]]) -> dict[str, Measured]:
    """Errors and code counts of tensors, summed over blocks in the order stored."""
    measured: dict[str, Measured] = {}
    for checks in units:
        for check in checks:
            measured.setdefault(check.tensor, Measured()).add(check)
    return measured
