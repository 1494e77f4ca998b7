"""Qwen-Image, whose original names are those of diffusers."""

from __future__ import annotations

from workbench.architectures.record import Architecture, Clock, Reader

QWEN_IMAGE = Architecture(
    name="Qwen-Image",
    classes=("QwenImageTransformer2DModel",),
    signs=(
        (
            "time_text_embed.timestep_embedder.linear_2.weight",
            "transformer_blocks.0.img_mlp.net.0.proj.weight",
        ),
    ),
    medium="image",
    clock=Clock(),
    gguf="qwen_image",
    readers=(Reader("comfyui"), Reader("stable-diffusion.cpp"), Reader("diffusers")),
)
