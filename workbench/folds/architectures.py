"""Where a checkpoint has exact folds, by its architecture.

What feeds what cannot be told from tensors: Gemma's blocks have the names of Llama's and add 1 to their gains. So only
architectures whose code is known are looked into, and in those only blocks without modules that are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workbench.checkpoint import Checkpoint
from workbench.folds.sites import FoldSites, Search


def find_sites(checkpoint: Checkpoint) -> FoldSites:
    """Find the exact folds of a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
        Its configuration names the architecture, and the heads where attention repeats them.

    Returns
    -------
    FoldSites
        Without sites where the architecture is unknown or has none; the remarks say so.
    """
    search = Search(checkpoint)
    look = _ARCHITECTURES.get(checkpoint.architecture or "")
    if look is None:
        known = ", ".join(sorted(_ARCHITECTURES))
        name = "A checkpoint without config.json" if not checkpoint.config else checkpoint.architecture
        return FoldSites(
            (), (f"{name or 'This model'} has no fold that is known to be exact; known are: {known}.",)
        )
    look(search)
    if not search.sites:
        search.remark(str(checkpoint.architecture), "no fold is exact here")
    return FoldSites(tuple(search.sites), tuple(search.remarks()))


def _llama(search: Search) -> None:
    known = (
        r"input_layernorm|post_attention_layernorm|mlp\.(gate|up|down)_proj"
        r"|self_attn\.([qkvo]_proj|[qk]_norm|rotary_emb)"
    )
    for block in search.blocks(r"(?:model\.)?layers", known):
        search.norm(block, "input_layernorm", [f"self_attn.{name}_proj" for name in "qkv"])
        search.value(block, ["self_attn.v_proj"], ["self_attn.o_proj"])
        search.norm(block, "post_attention_layernorm", ["mlp.gate_proj", "mlp.up_proj"])
        search.linear(block, ["mlp.up_proj"], ["mlp.down_proj"])
    _head(search, "model.norm", "lm_head", bool(search.config.get("tie_word_embeddings")))


def _llada(search: Search) -> None:
    if search.config.get("layer_norm_type", "default") not in ("default", "low_precision", "rms"):
        search.remark("The norms", f"layer_norm_type {search.config['layer_norm_type']!r} is not known")
        return
    search.named_heads("n_heads", "n_kv_heads")
    known = r"attn_norm|ff_norm|[qkv]_proj|[qk]_norm|attn_out|ff_proj|up_proj|ff_out|rotary_emb"
    for block in search.blocks(r"model\.transformer\.blocks", known):
        search.norm(block, "attn_norm", ["q_proj", "k_proj", "v_proj"])
        if search.config.get("clip_qkv") is None:
            search.value(block, ["v_proj"], ["attn_out"])
        else:
            search.remark(f"{block}v_proj", "left alone, as clip_qkv cuts its values")
        search.norm(block, "ff_norm", ["ff_proj", "up_proj"])
        search.linear(block, ["up_proj"], ["ff_out"])
    tied = bool(search.config.get("weight_tying", True))
    _head(search, "model.transformer.ln_f", "model.transformer.ff_out", tied)


def _head(search: Search, norm: str, head: str, tied: bool) -> None:
    """The last norm before the head, whose weights are its own."""
    if search.has(norm, head) and not tied:
        search.norm("", norm, [head])
    elif search.has(norm):
        search.remark(norm, "left alone, as its head has the weights of the embedding")


def _dit(search: Search) -> None:
    known = r"norm1\.(linear|emb\..+)|norm3|attn1\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)"
    for block in search.blocks("transformer_blocks", known):
        attention = [f"attn1.to_{name}" for name in "qkv"]
        search.modulation(block, "norm1.linear", attention, shift=0, scale=1, parts=6)
        search.value(block, ["attn1.to_v"], ["attn1.to_out.0"])
        search.modulation(block, "norm1.linear", ["ff.net.0.proj"], shift=3, scale=4, parts=6)
        search.feed_forward(block, "ff")
    search.modulation("", "proj_out_1", ["proj_out_2"], shift=0, scale=1, parts=2)


_JOINT = (
    r"norm1(_context)?\.linear|attn2?\.(to_[qkv]|to_out\.0|norm_[qk])|attn\.(add_[qkv]_proj|to_add_out|norm_added_[qk])"
    r"|ff(_context)?\.net\.(0\.proj|2)"
)


def _joint(search: Search) -> None:
    """Blocks of Stable Diffusion 3 and Flux: text and image attend to each other, each with its own modulation."""
    for block in search.blocks("transformer_blocks", _JOINT):
        own, added = ([f"attn.{name.format(part)}" for part in "qkv"] for name in ("to_{}", "add_{}_proj"))
        dual = search.has(f"{block}attn2.to_q")
        parts = 9 if dual else 6
        search.modulation(block, "norm1.linear", own, shift=0, scale=1, parts=parts)
        search.modulation(block, "norm1.linear", ["ff.net.0.proj"], shift=3, scale=4, parts=parts)
        if dual:
            second = [f"attn2.to_{name}" for name in "qkv"]
            search.modulation(block, "norm1.linear", second, shift=6, scale=7, parts=parts)
            search.value(block, ["attn2.to_v"], ["attn2.to_out.0"])
        outputs = ["attn.to_out.0", *(["attn.to_add_out"] if search.has(f"{block}attn.to_add_out") else [])]
        search.value(block, ["attn.to_v", "attn.add_v_proj"], outputs)
        context = "norm1_context.linear"
        if search.has(f"{block}ff_context.net.2"):
            search.modulation(block, context, added, shift=0, scale=1, parts=6)
            search.modulation(block, context, ["ff_context.net.0.proj"], shift=3, scale=4, parts=6)
        else:  # the last block of Stable Diffusion 3 gives no text, and its modulation has scale before shift
            search.modulation(block, context, added, shift=1, scale=0, parts=2)
    for block in search.blocks(
        "single_transformer_blocks", r"norm\.linear|proj_mlp|proj_out|attn\.(to_[qkv]|norm_[qk])"
    ):
        search.modulation(
            block,
            "norm.linear",
            ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"],
            shift=0,
            scale=1,
            parts=3,
        )
    search.modulation("", "norm_out.linear", ["proj_out"], shift=1, scale=0, parts=2)


_SHARED = "left alone, as all blocks share it and a fold would be of one"


def _pixart(search: Search) -> None:
    for block in search.blocks(
        "transformer_blocks", r"attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)|norm[123]"
    ):
        for attention in ("attn1", "attn2"):
            search.value(block, [f"{attention}.to_v"], [f"{attention}.to_out.0"])
    search.remark("The modulation adaln_single", _SHARED)


def _wan(search: Search) -> None:
    known = (
        r"attn[12]\.(to_[qkv]|to_out\.0|add_[kv]_proj|norm_q|norm_k|norm_added_k)|norm2|ffn\.net\.(0\.proj|2)"
    )
    for block in search.blocks("blocks", known):
        search.value(block, ["attn1.to_v"], ["attn1.to_out.0"])
        search.norm(block, "norm2", ["attn2.to_q"])
        added = ["attn2.add_v_proj"] if search.has(f"{block}attn2.add_v_proj") else []
        search.value(block, ["attn2.to_v", *added], ["attn2.to_out.0"])
    search.remark("The modulation condition_embedder.time_proj", _SHARED)


_ARCHITECTURES: Mapping[str, Callable[[Search], None]] = {
    **dict.fromkeys(
        (
            "LlamaForCausalLM", "LlamaModel", "MistralForCausalLM", "MistralModel", "Qwen2ForCausalLM", "Qwen2Model",
            "Qwen3ForCausalLM", "Qwen3Model", "DreamModel",
        ),
        _llama,
    ),
    "LLaDAModelLM": _llada,
    "DiTTransformer2DModel": _dit,
    "FluxTransformer2DModel": _joint,
    "SD3Transformer2DModel": _joint,
    "PixArtTransformer2DModel": _pixart,
    "WanTransformer3DModel": _wan,
}  # fmt: skip
"""What is known of how each architecture computes, from the code of diffusers, transformers, Dream and LLaDA."""
