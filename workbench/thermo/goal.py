"""`Goal`: what a plan is solved for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from workbench.errors import ConfigurationError, setting

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
    if not isinstance(size, str):
        return int(size)
    text = size.strip().upper()
    number = text.rstrip("BIKMGT ").strip()
    unit = text[len(number) :].strip()
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise ConfigurationError(
            f"{size!r} is not a size; write it as 2.5GB, 900MiB or a number of bytes.", key="size", value=size
        ) from None


@dataclass(frozen=True)
class Goal:
    """What a plan is solved for: one of size, bpw, temperature and max_damage, or min_cosine alone."""

    size: int | str | None = None
    """Bytes of the payload, headers and kept tensors included; or text such as ``"2.5GB"``."""
    bpw: float | None = None
    """Bits per layer weight, scales included."""
    temperature: float | None = None
    """Lagrange multiplier λ: damage per bit."""
    max_damage: float | None = None
    """Σ D at most this, in the fewest bytes."""
    min_cosine: float | None = None
    """Least cosine of every layer: alone the plan of fewest bytes, beside another goal a constraint."""

    def __post_init__(self) -> None:
        goals = {
            "size": self.size,
            "bpw": self.bpw,
            "temperature": self.temperature,
            "max_damage": self.max_damage,
        }
        given = [name for name, value in goals.items() if value is not None]
        if len(given) != 1 and (given or self.min_cosine is None):
            raise ConfigurationError(
                f"A solver needs one goal of {', '.join(map(setting, goals))}, or {setting('min_cosine')} alone; it "
                f"was given {' and '.join(map(setting, given)) or 'none'}.",
                key="goal",
            )
        for name in given:
            value = self.nbytes if name == "size" else goals[name]
            if not isinstance(value, Real) or math.isnan(value) or value < 0:
                raise ConfigurationError(
                    f"{setting(name)} must not be negative or NaN, as {value!r} is.", key=name, value=value
                )

    @property
    def nbytes(self) -> int | None:
        """The size in bytes, if it is the goal."""
        return None if self.size is None else parse_size(self.size)
