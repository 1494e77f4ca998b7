"""Stable Audio Open."""

from __future__ import annotations

from workbench.architectures.record import Architecture, Clock

STABLE_AUDIO = Architecture(
    name="Stable Audio",
    classes=("StableAudioDiTModel",),
    medium="audio",
    clock=Clock(),
)
