"""HiDream-I1."""

from __future__ import annotations

from workbench.architectures.record import Architecture, Clock, Reader

HIDREAM = Architecture(
    name="HiDream",
    classes=("HiDreamImageTransformer2DModel",),
    signs=(
        (
            "caption_projection.0.linear.weight",
            "double_stream_blocks.0.block.ff_i.shared_experts.w3.weight",
        ),
    ),
    medium="image",
    clock=Clock(arguments=("timesteps",)),
    high_precision=r"\.ff_i\.gate\.weight$",
    gguf="hidream",
    readers=(Reader("comfyui"), Reader("diffusers"), Reader("diffusers", names="diffusers")),
)
