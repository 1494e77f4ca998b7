"""Cosmos 1.0."""

from __future__ import annotations

from workbench.architectures.record import Architecture, Clock, Reader

COSMOS = Architecture(
    name="Cosmos",
    classes=("CosmosTransformer3DModel",),
    signs=(("blocks.0.mlp.layer1.weight", "blocks.0.adaln_modulation_cross_attn.1.weight"),),
    medium="image",
    clock=Clock(),
    high_precision="pos_embedder",
    gguf="cosmos",
    readers=(Reader("comfyui"), Reader("diffusers"), Reader("diffusers", names="diffusers")),
)
