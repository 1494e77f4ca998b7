"""What an export turns out to be when it is read back, block by block and tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.formats import BlockCheck
from workbench.quantize import Error


class TensorCheck:
    """What the checks of the blocks of one tensor add up to."""

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


def note_on_rounding(layers: Mapping[str, TensorCheck]) -> tuple[str, ...]:
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


def notes_on_cut_groups(kept: Mapping[str, int], layers: Mapping[str, TensorCheck]) -> tuple[str, ...]:
    """A sentence on each layer with groups that the runtime's arithmetic is too narrow for.

    Parameters
    ----------
    kept : mapping of str to int
        Such groups of the layers that are kept because of them; 0 of all others.
    layers : mapping of str to TensorCheck
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


def checks_by_tensor(units: Iterable[list[BlockCheck]]) -> dict[str, TensorCheck]:
    """Errors and code counts of tensors, summed over blocks in the order stored."""
    found: dict[str, TensorCheck] = {}
    for checks in units:
        for check in checks:
            found.setdefault(check.tensor, TensorCheck()).add(check)
    return found


def check_line(check: BlockCheck) -> list[Any]:
    """The check of a block as a journal has it."""
    counts = None if check.code_counts is None else check.code_counts.tolist()
    error = [check.error.noise, check.error.signal, check.error.cross]
    return [check.tensor, check.nbytes, error, counts, check.rounding, check.cut_groups]


def check_from(line: Sequence[Any]) -> BlockCheck:
    """Undo `check_line`."""
    tensor, nbytes, sums, counts, rounding, cut = line
    found = None if counts is None else np.array(counts, np.int64)
    return BlockCheck(tensor, nbytes, Error(*sums), found, rounding, cut)
