"""What the user has decided about every layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.thermo import Constraints


@dataclass(frozen=True)
class Tuning:
    """What the user has decided: an option for every layer, and which of them are locked; immutable."""

    choice: tuple[int, ...]
    """Place of each layer's option in the cost table."""
    locks: frozenset[int] = frozenset()
    """Layers, by index, that a solver leaves as they are."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """How it came about, in plain values."""
    limits: Constraints = field(default_factory=Constraints)
    """What it was solved under besides locks; without any where it was edited by hand."""
    by_hand: frozenset[int] = frozenset()
    """Layers, by index, whose option was set one by one since a solver or a policy decided."""
