"""LTX-Video, whose original names are those of diffusers."""

from __future__ import annotations

from workbench.architectures.record import Architecture, Clock, Reader

LTX_VIDEO = Architecture(
    name="LTX-Video",
    classes=("LTXVideoTransformer3DModel",),
    signs=(
        (
            "adaln_single.emb.timestep_embedder.linear_2.weight",
            "transformer_blocks.27.scale_shift_table",
            "caption_projection.linear_2.weight",
        ),
    ),
    medium="image",
    roles=(("modulation", r"\b\w*time_embed\.linear$"),),
    clock=Clock(),
    high_precision="scale_shift_table",
    gguf="ltxv",
    readers=(Reader("comfyui"), Reader("diffusers")),
)
