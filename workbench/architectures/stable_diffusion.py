"""Stable Diffusion 1 and XL: UNets. diffusers' class is the same for both, so it does not tell them apart."""

from __future__ import annotations

from workbench.architectures.record import Architecture, Clock, Reader

_READERS = (Reader("comfyui"), Reader("stable-diffusion.cpp"))

SDXL = Architecture(
    name="Stable Diffusion XL",
    signs=(
        (
            "input_blocks.3.0.op.weight",
            "input_blocks.6.0.op.weight",
            "output_blocks.2.2.conv.weight",
            "output_blocks.5.2.conv.weight",
        ),
        ("label_emb.0.0.weight",),
    ),
    medium="image",
    gguf="sdxl",
    readers=_READERS,
)

SD1 = Architecture(
    name="Stable Diffusion 1",
    signs=(("input_blocks.3.0.op.weight", "input_blocks.9.0.op.weight", "output_blocks.8.2.conv.weight"),),
    medium="image",
    gguf="sd1",
    readers=_READERS,
)

UNET = Architecture(
    name="UNet of diffusers",
    classes=("UNet2DConditionModel", "UNet2DModel"),
    medium="image",
    clock=Clock(),
)
