"""What the original single-file checkpoint of a model calls the tensors of its diffusers folder.

ComfyUI and stable-diffusion.cpp read the names of the original code. Where diffusers keeps query, key and value apart,
that has one tensor of all their rows; and where a norm's modulation gives scale before shift, it has shift before
scale. The way there is a rearrangement of whole rows, and exact. Names are those of the original repositories
(https://github.com/black-forest-labs/flux, https://github.com/Stability-AI/sd3.5, https://github.com/Wan-Video/Wan2.1,
https://github.com/Tencent-Hunyuan/HunyuanVideo, https://github.com/cloneofsimo/minRF).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from workbench.checkpoint.tensors import TensorInfo
from workbench.errors import ValidationError

JOINED = frozenset({"F32", "F16", "BF16"})
"""Dtypes whose values one tensor can hold, as float32."""

Rule = tuple[str, tuple[str, ...]]
"""A module's original name, and diffusers' modules that it is made of; ``~`` before one swaps its halves."""


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a tensor."""

    tensor: str
    """Its name."""
    start: int
    """First row."""
    stop: int
    """The row after the last."""


def _flux() -> Iterator[Rule]:
    for ours, theirs in (("img", ""), ("txt", "_context")):
        block, attention, qkv = "double_blocks.#.", "transformer_blocks.#.attn.", ("q", "k", "v")
        parts = [f"to_{x}" if ours == "img" else f"add_{x}_proj" for x in qkv]
        norm = "norm_" if ours == "img" else "norm_added_"
        yield f"{block}{ours}_mod.lin", (f"transformer_blocks.#.norm1{theirs}.linear",)
        yield f"{block}{ours}_attn.qkv", tuple(attention + part for part in parts)
        yield f"{block}{ours}_attn.norm.query_norm.scale", (f"{attention}{norm}q.weight",)
        yield f"{block}{ours}_attn.norm.key_norm.scale", (f"{attention}{norm}k.weight",)
        yield f"{block}{ours}_attn.proj", (attention + ("to_out.0" if ours == "img" else "to_add_out"),)
        yield f"{block}{ours}_mlp.0", (f"transformer_blocks.#.ff{theirs}.net.0.proj",)
        yield f"{block}{ours}_mlp.2", (f"transformer_blocks.#.ff{theirs}.net.2",)
    single = "single_transformer_blocks.#."
    yield "single_blocks.#.modulation.lin", (f"{single}norm.linear",)
    yield (
        "single_blocks.#.linear1",
        (f"{single}attn.to_q", f"{single}attn.to_k", f"{single}attn.to_v", f"{single}proj_mlp"),
    )
    yield "single_blocks.#.linear2", (f"{single}proj_out",)
    yield "single_blocks.#.norm.query_norm.scale", (f"{single}attn.norm_q.weight",)
    yield "single_blocks.#.norm.key_norm.scale", (f"{single}attn.norm_k.weight",)
    embedders = {
        "time_in": "timestep_embedder",
        "vector_in": "text_embedder",
        "guidance_in": "guidance_embedder",
    }
    for original, name in embedders.items():
        yield f"{original}.in_layer", (f"time_text_embed.{name}.linear_1",)
        yield f"{original}.out_layer", (f"time_text_embed.{name}.linear_2",)
    yield "img_in", ("x_embedder",)
    yield "txt_in", ("context_embedder",)
    yield "final_layer.adaLN_modulation.1", ("~norm_out.linear",)
    yield "final_layer.linear", ("proj_out",)


def _sd3(last: int) -> Iterator[Rule]:
    block = "transformer_blocks.#."
    for side, attention, norm, names in (
        ("x_block.attn", "attn", "norm_", ("to_q", "to_k", "to_v", "to_out.0")),
        ("x_block.attn2", "attn2", "norm_", ("to_q", "to_k", "to_v", "to_out.0")),
        (
            "context_block.attn",
            "attn",
            "norm_added_",
            ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
        ),
    ):
        *qkv, out = (f"{block}{attention}.{name}" for name in names)
        yield f"joint_blocks.#.{side}.qkv", tuple(qkv)
        yield f"joint_blocks.#.{side}.proj", (out,)
        yield f"joint_blocks.#.{side}.ln_q", (f"{block}{attention}.{norm}q",)
        yield f"joint_blocks.#.{side}.ln_k", (f"{block}{attention}.{norm}k",)
    # The last block only reads the text: its norm is like that of the last layer.
    modulation = "joint_blocks.{}.context_block.adaLN_modulation.1"
    yield modulation.format(last), (f"~transformer_blocks.{last}.norm1_context.linear",)
    yield modulation.format("#"), (f"{block}norm1_context.linear",)
    yield "joint_blocks.#.x_block.adaLN_modulation.1", (f"{block}norm1.linear",)
    for side, name in (("x_block", "ff"), ("context_block", "ff_context")):
        yield f"joint_blocks.#.{side}.mlp.fc1", (f"{block}{name}.net.0.proj",)
        yield f"joint_blocks.#.{side}.mlp.fc2", (f"{block}{name}.net.2",)
    yield "pos_embed", ("pos_embed.pos_embed",)
    yield "x_embedder.proj", ("pos_embed.proj",)
    yield "context_embedder", ("context_embedder",)
    for original, name in (("t_embedder", "timestep_embedder"), ("y_embedder", "text_embedder")):
        yield f"{original}.mlp.0", (f"time_text_embed.{name}.linear_1",)
        yield f"{original}.mlp.2", (f"time_text_embed.{name}.linear_2",)
    yield "final_layer.adaLN_modulation.1", ("~norm_out.linear",)
    yield "final_layer.linear", ("proj_out",)


def _wan() -> Iterator[Rule]:
    for attention, name in (("self_attn", "attn1"), ("cross_attn", "attn2")):
        for original, leaf in (
            ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"), ("norm_q", "norm_q"), ("norm_k", "norm_k"),
            ("k_img", "add_k_proj"), ("v_img", "add_v_proj"), ("norm_k_img", "norm_added_k"),
        ):  # fmt: skip
            yield f"blocks.#.{attention}.{original}", (f"blocks.#.{name}.{leaf}",)
    yield "blocks.#.ffn.0", ("blocks.#.ffn.net.0.proj",)
    yield "blocks.#.ffn.2", ("blocks.#.ffn.net.2",)
    # The norm before the attention to the text is the third of the original's, the second of diffusers'.
    yield "blocks.#.norm3", ("blocks.#.norm2",)
    yield "blocks.#.modulation", ("blocks.#.scale_shift_table",)
    condition = "condition_embedder."
    for original, name in (("time_embedding", "time_embedder"), ("text_embedding", "text_embedder")):
        yield f"{original}.0", (f"{condition}{name}.linear_1",)
        yield f"{original}.2", (f"{condition}{name}.linear_2",)
    yield "time_projection.1", (f"{condition}time_proj",)
    for number, name in ((0, "norm1"), (1, "ff.net.0.proj"), (3, "ff.net.2"), (4, "norm2")):
        yield f"img_emb.proj.{number}", (f"{condition}image_embedder.{name}",)
    yield "patch_embedding", ("patch_embedding",)
    yield "head.head", ("proj_out",)
    yield "head.modulation", ("scale_shift_table",)


def _hunyuan_video() -> Iterator[Rule]:
    block, single = "transformer_blocks.#.", "single_transformer_blocks.#."
    for side, attention, norm, out, theirs in (
        ("img", ("to_q", "to_k", "to_v"), "norm_", "to_out.0", ""),
        ("txt", ("add_q_proj", "add_k_proj", "add_v_proj"), "norm_added_", "to_add_out", "_context"),
    ):
        yield f"double_blocks.#.{side}_attn_qkv", tuple(f"{block}attn.{name}" for name in attention)
        yield f"double_blocks.#.{side}_attn_q_norm", (f"{block}attn.{norm}q",)
        yield f"double_blocks.#.{side}_attn_k_norm", (f"{block}attn.{norm}k",)
        yield f"double_blocks.#.{side}_attn_proj", (f"{block}attn.{out}",)
        yield f"double_blocks.#.{side}_mod.linear", (f"{block}norm1{theirs}.linear",)
        yield f"double_blocks.#.{side}_mlp.fc1", (f"{block}ff{theirs}.net.0.proj",)
        yield f"double_blocks.#.{side}_mlp.fc2", (f"{block}ff{theirs}.net.2",)
    yield (
        "single_blocks.#.linear1",
        (f"{single}attn.to_q", f"{single}attn.to_k", f"{single}attn.to_v", f"{single}proj_mlp"),
    )
    for original, name in (
        ("linear2", "proj_out"), ("q_norm", "attn.norm_q"), ("k_norm", "attn.norm_k"),
        ("modulation.linear", "norm.linear"),
    ):  # fmt: skip
        yield f"single_blocks.#.{original}", (single + name,)
    theirs, refiner = (
        "context_embedder.token_refiner.refiner_blocks.#.",
        "txt_in.individual_token_refiner.blocks.#.",
    )
    yield f"{refiner}self_attn_qkv", (f"{theirs}attn.to_q", f"{theirs}attn.to_k", f"{theirs}attn.to_v")
    for original, name in (
        ("self_attn_proj", "attn.to_out.0"), ("norm1", "norm1"), ("norm2", "norm2"), ("mlp.fc1", "ff.net.0.proj"),
        ("mlp.fc2", "ff.net.2"), ("adaLN_modulation.1", "norm_out.linear"),
    ):  # fmt: skip
        yield refiner + original, (theirs + name,)
    yield "txt_in.input_embedder", ("context_embedder.proj_in",)
    for original, name in (
        ("time_in.mlp.{}", "time_text_embed.timestep_embedder"),
        ("guidance_in.mlp.{}", "time_text_embed.guidance_embedder"),
        ("txt_in.t_embedder.mlp.{}", "context_embedder.time_text_embed.timestep_embedder"),
    ):
        yield original.format(0), (f"{name}.linear_1",)
        yield original.format(2), (f"{name}.linear_2",)
    for number, original in ((1, "in"), (2, "out")):
        yield f"vector_in.{original}_layer", (f"time_text_embed.text_embedder.linear_{number}",)
        yield (
            f"txt_in.c_embedder.linear_{number}",
            (f"context_embedder.time_text_embed.text_embedder.linear_{number}",),
        )
    yield "img_in.proj", ("x_embedder.proj",)
    yield "final_layer.adaLN_modulation.1", ("~norm_out.linear",)
    yield "final_layer.linear", ("proj_out",)


def _aura() -> Iterator[Rule]:
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


_RULES: Mapping[str, Callable[[], Iterator[Rule]]] = {
    "AuraFlowTransformer2DModel": _aura,
    "FluxTransformer2DModel": _flux,
    "HunyuanVideoTransformer3DModel": _hunyuan_video,
    "WanTransformer3DModel": _wan,
}

ARCHITECTURES = (*_RULES, "SD3Transformer2DModel")
"""Diffusers' classes whose original names are known."""


def _rules(architecture: str, tensors: Mapping[str, TensorInfo]) -> Sequence[Rule] | None:
    if architecture == "SD3Transformer2DModel":
        blocks = (re.match(r"transformer_blocks\.(\d{1,6})\.", name) for name in tensors)
        return list(_sd3(max((int(block[1]) for block in blocks if block), default=0)))
    return list(_RULES[architecture]()) if architecture in _RULES else None


def original_parts(
    architecture: str, tensors: Mapping[str, TensorInfo]
) -> Mapping[str, tuple[Part, ...]] | None:
    """What each tensor of the original checkpoint is made of.

    Parameters
    ----------
    architecture : str
        Diffusers' class of the model.
    tensors : mapping of str to TensorInfo
        All tensors by diffusers' names.

    Returns
    -------
    mapping of str to tuple of Part, or None
        By original name, in the order of the first part; the rows of all parts one after the other. None for a class
        whose original names are not known.

    Raises
    ------
    ValidationError
        If a tensor has no place in the original checkpoint, or parts do not fit each other: names the tensor.
    """
    rules = _rules(architecture, tensors)
    if rules is None:
        return None
    by_module = {
        name.removeprefix("~"): (original, names) for original, names in reversed(rules) for name in names
    }
    found: dict[str, tuple[Part, ...]] = {}
    done: set[str] = set()
    for name in tensors:
        if name in done:
            continue
        original, parts, sources = _made_of(architecture, name, by_module, tensors)
        if original in found or done & set(sources):
            raise ValidationError(f"Two tensors would be called {original!r}: {name!r} is one.", tensor=name)
        found[original] = parts
        done |= set(sources)
    return found


def _made_of(
    architecture: str, name: str, by_module: Mapping[str, Rule], tensors: Mapping[str, TensorInfo]
) -> tuple[str, tuple[Part, ...], list[str]]:
    """The original tensor that a tensor goes into, its parts, and their tensors."""
    module, dot, leaf = name.rpartition(".")
    number = re.search(r"(?<=blocks\.)(\d{1,6})(?=\.)", name)
    for key, ending in ((name, ""), (module, dot + leaf)):
        for pattern in (key, key if number is None else f"{key[: number.start()]}#{key[number.end() :]}"):
            if pattern in by_module:
                original, modules = by_module[pattern]
                block = number[1] if number else ""
                sources = [part.removeprefix("~").replace("#", block) + ending for part in modules]
                parts = _parts(sources, modules[0].startswith("~"), tensors)
                return original.replace("#", block) + ending, parts, sources
    raise ValidationError(
        f"Tensor {name!r} has no place in an original {architecture} checkpoint.", tensor=name
    )


def _parts(sources: Sequence[str], is_swapped: bool, tensors: Mapping[str, TensorInfo]) -> tuple[Part, ...]:
    missing = next((source for source in sources if source not in tensors), None)
    if missing is not None:
        raise ValidationError(f"Tensor {missing!r} is missing beside {sources[0]!r}.", tensor=missing)
    infos = [tensors[source] for source in sources]
    shapes = {(info.shape[1:], len(info.shape)) for info in infos}
    dtypes = {info.dtype for info in infos}
    # A fold may have made one of them float32, which holds all values of the others.
    if len(shapes) > 1 or (len(dtypes) > 1 and not dtypes <= JOINED):
        raise ValidationError(
            f"{', '.join(map(repr, sources))} cannot be one tensor: their dtypes or shapes differ.",
            tensor=sources[0],
        )
    if is_swapped:
        rows = infos[0].shape[0] if infos[0].shape else 1
        if rows % 2:
            raise ValidationError(f"The {rows} rows of {sources[0]!r} have no halves.", tensor=sources[0])
        return Part(sources[0], rows // 2, rows), Part(sources[0], 0, rows // 2)
    return tuple(
        Part(source, 0, info.shape[0] if info.shape else 1)
        for source, info in zip(sources, infos, strict=True)
    )
