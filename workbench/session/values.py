"""What a session tells: totals, changes; and sizes as people write them."""

from __future__ import annotations

from dataclasses import dataclass

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
    """By how much another plan of the same bytes and locks could be better, at most."""
    temperature: float
    """Price of a bit at these bytes: distortion saved per bit more."""


@dataclass(frozen=True)
class Change:
    """What an observer hears."""

    version: int
    """Version of the session after the change."""
    rows: tuple[int, ...]
    """Layers, by index, whose option or lock is another."""
    totals: Totals
    """The totals after the change."""


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
