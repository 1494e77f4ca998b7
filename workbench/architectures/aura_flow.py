"""AuraFlow. Original names: https://github.com/cloneofsimo/minRF."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from workbench.architectures.record import Architecture, Clock, Reader, Rule


def _original_names(tensors: Collection[str]) -> Iterator[Rule]:
    joint, single = "joint_transformer_blocks.#.", "single_transformer_blocks.#."
    for original, name in (
        ("attn.w2q", "attn.to_q"), ("attn.w2k", "attn.to_k"), ("attn.w2v", "attn.to_v"), ("attn.w2o", "attn.to_out.0"),
        ("attn.w1q", "attn.add_q_proj"), ("attn.w1k", "attn.add_k_proj"), ("attn.w1v", "attn.add_v_proj"),
        ("attn.w1o", "attn.to_add_out"), ("modX.1", "norm1.linear"), ("modC.1", "norm1_context.linear"),
    ):  # fmt: skip
        yield f"double_layers.#.{original}", (joint + name,)
    for original, name in (
        ("attn.w1q", "attn.to_q"), ("attn.w1k", "attn.to_k"), ("attn.w1v", "attn.to_v"), ("attn.w1o", "attn.to_out.0"),
        ("modCX.1", "norm1.linear"),
    ):  # fmt: skip
        yield f"single_layers.#.{original}", (single + name,)
    for original, name in (("c_fc1", "linear_1"), ("c_fc2", "linear_2"), ("c_proj", "out_projection")):
        yield f"double_layers.#.mlpX.{original}", (f"{joint}ff.{name}",)
        yield f"double_layers.#.mlpC.{original}", (f"{joint}ff_context.{name}",)
        yield f"single_layers.#.mlp.{original}", (f"{single}ff.{name}",)
    yield "t_embedder.mlp.0", ("time_step_proj.linear_1",)
    yield "t_embedder.mlp.2", ("time_step_proj.linear_2",)
    yield "cond_seq_linear", ("context_embedder",)
    yield "positional_encoding", ("pos_embed.pos_embed",)
    yield "init_x_linear", ("pos_embed.proj",)
    yield "register_tokens", ("register_tokens",)
    yield "modF.1", ("~norm_out.linear",)
    yield "final_linear", ("proj_out",)


AURA_FLOW = Architecture(
    name="AuraFlow",
    classes=("AuraFlowTransformer2DModel",),
    signs=(("double_layers.3.modX.1.weight",),),
    medium="image",
    original_names=_original_names,
    clock=Clock(),
    gguf="aura",
    readers=(Reader("comfyui"), Reader("diffusers"), Reader("diffusers", names="diffusers")),
)
