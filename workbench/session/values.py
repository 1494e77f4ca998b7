"""What a session tells: totals, changes; and what it is asked, sizes among it, as people write it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.errors import ConfigurationError


@dataclass(frozen=True)
class Totals:
    """What a plan adds up to."""

    nbytes: int
    """Bytes of the payload; an upper bound where the target compresses."""
    ratio: float
    """Bytes of all tensors in the source over those of the payload."""
    bpw: float
    """Bits of the layers' data per layer weight, scales included."""
    nsr: float
    """Σ D over the layers."""
    gap: float
    """By how much another plan of the same bytes could be better, at most: under the locks, and under the floors,
    ceilings, ties and least cosine of the solve that made it, if one did."""
    temperature: float
    """T, the price of a bit at these bytes: damage given up for each bit saved; a higher T makes a smaller file."""


@dataclass(frozen=True)
class Change:
    """What an observer hears."""

    version: int
    """Version of the session after the change."""
    rows: tuple[int, ...]
    """Layers, by index, whose option or lock is another."""
    totals: Totals
    """The totals after the change."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The plan at one version of a session, and what follows from it, layer by layer."""

    version: int
    """Version of the session."""
    options: pa.Table
    """`Session.options` at that version; another table since another target came or something was learnt."""
    rows: NDArray[np.int64]
    """Row of each layer's option in `options`, [layers]."""
    locked: NDArray[np.bool_]
    """Whether a solver leaves the layer as it is, [layers]."""
    totals: Totals
    """What it adds up to."""
    present: pa.Table
    """A row a layer, see `workbench.session.present.present_table`."""
    can_undo: bool
    """Whether there is an edit to take back."""
    can_redo: bool
    """Whether there is one to make again."""


@dataclass(frozen=True)
class Naming:
    """What the layers of a checkpoint are called, and what they could be called."""

    asked: str | None = None
    """What the user asked for, of `workbench.config.NAMES`; None leaves it to the target."""
    possible: tuple[str, ...] = ("checkpoint",)
    """What can be had."""
    notes: tuple[str, ...] = ()
    """Sentences on it."""


_UNITS = {"": 1, "B": 1} | {
    f"{letter}{middle}B": base**power
    for power, letter in enumerate("KMGT", start=1)
    for middle, base in (("", 1000), ("I", 1024))
}


def parse_size(size: int | str) -> int:
    """Bytes of a size such as ``"2.5GB"`` (10^9) or ``"900 MiB"`` (2^20).

    Raises
    ------
    ConfigurationError
        If it cannot be read.
    """
    if isinstance(size, int):
        return size
    text = size.strip().upper()
    number = text.rstrip("BIKMGT ").strip()
    unit = text[len(number) :].strip()
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise ConfigurationError(
            f"{size!r} is not a size; write it as 2.5GB, 900MiB or a number of bytes.", key="size", value=size
        ) from None


def plain_values(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody asked for, without what was left out, as values that any file can hold."""

    def plain(value: Any) -> Any:
        match value:
            case Mapping():
                return {key: plain(item) for key, item in value.items()}
            case list() | tuple():
                return [plain(item) for item in value]
            case float():
                return float(value) if math.isfinite(value) else str(value)
        return value

    left_out = {key for key, value in asked.items() if value is None or plain(value) in ({}, [])}
    return {key: plain(value) for key, value in asked.items() if key not in left_out}
