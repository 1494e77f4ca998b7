"""Lumina-Image 2.0."""

from __future__ import annotations

from workbench.architectures.record import Architecture, Clock, Reader

LUMINA = Architecture(
    name="Lumina 2",
    classes=("Lumina2Transformer2DModel",),
    signs=(("cap_embedder.1.weight", "context_refiner.0.attention.qkv.weight"),),
    medium="image",
    clock=Clock(),
    gguf="lumina2",
    readers=(Reader("comfyui"), Reader("diffusers"), Reader("diffusers", names="diffusers")),
)
