"""What a panel asks before it does something that would lose something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """An answer that can be chosen."""

    label: str
    """What its button says."""
    message: Mapping[str, Any]
    """What the browser then sends instead of what it sent first."""


@dataclass(frozen=True)
class Question:
    """A question to the user; nothing has been done yet, and nothing is if it is not answered."""

    text: str
    choices: tuple[Choice, ...]
