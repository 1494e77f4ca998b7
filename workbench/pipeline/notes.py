"""What a run should tell its user besides figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase

from workbench.checkpoint import Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.formats import Target

NAMED = 3
"""How many layers a note names."""


def notes_on(config: DiffusionQuantConfig, checkpoint: Checkpoint, target: Target) -> tuple[str, ...]:
    """Sentences on settings that change nothing in this run, names that match no layer, layers that gain nothing."""
    names = [layer.name for layer in checkpoint.layers]
    notes = [f"{key} is off: {reason}." for key, reason in config.inactive.items()]

    def unmatched(key: str, asked: list[str], matches: Callable[[str, str], bool]) -> None:
        notes.extend(
            f"{key}: {pattern!r} matches no layer."
            for pattern in asked
            if not any(matches(name, pattern) for name in names)
        )

    unmatched("layer_bit_widths", list(config.layer_bit_widths), fnmatchcase)
    unmatched("sensitive_layer_names", list(config.sensitive_layer_names), lambda name, asked: name == asked)
    unmatched(
        "sensitive_layer_patterns",
        list(config.sensitive_layer_patterns),
        lambda name, pattern: re.search(pattern, name) is not None,
    )
    whole = [
        layer.name
        for layer in checkpoint.layers
        if target.quantized(layer, config.bits_for(layer.name), config.scheme, config.group_size).is_kept
    ]
    if whole:
        more = f" and {len(whole) - NAMED} more" if len(whole) > NAMED else ""
        notes.append(
            f"{', '.join(whole[:NAMED])}{more}: kept in the source's dtype, as {target.name} has nothing smaller for "
            "such a shape."
        )
    return tuple(notes)
