"""Stable Audio Open."""

from __future__ import annotations

from workbench.architectures.record import Architecture, BundlePrefix, Clock

STABLE_AUDIO = Architecture(
    name="Stable Audio",
    classes=("StableAudioDiTModel",),
    medium="audio",
    # Its autoencoder is called pretransform.
    bundle_prefix=BundlePrefix("model.model.", beside="pretransform."),
    clock=Clock(),
)
