"""Where a checkpoint has exact folds, by its architecture.

What feeds what cannot be told from tensors: Gemma's blocks have the names of Llama's and add 1 to their gains. So only
architectures whose code is known are looked into, and in those only blocks without modules that are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from workbench.checkpoint import Checkpoint
from workbench.quantize.folds import Divided, Producer, Site

NAMED = 2
"""How many places a remark names."""


@dataclass(frozen=True)
class FoldSites:
    """Where a checkpoint has exact folds, and what was left alone."""

    sites: tuple[Site, ...]
    """In the order of the model."""
    remarks: tuple[str, ...]
    """What has no exact fold, each in a sentence."""


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
    search = _Search(checkpoint)
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


class _Search:
    """The sites found so far, and the means to add one; modules are named within a block such as ``"layers.0."``."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.sites: list[Site] = []
        self._tensors = checkpoint.tensors
        self._layers = {layer.name: layer for layer in checkpoint.layers if layer.kind == "linear"}
        self._remarks: dict[str, list[str]] = {}

    def remark(self, place: str, text: str) -> None:
        self._remarks.setdefault(text, []).append(place)

    def remarks(self) -> Iterable[str]:
        for text, places in self._remarks.items():
            more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
            yield f"{', '.join(places[:NAMED])}{more}: {text}."

    def blocks(self, pattern: str, known: str) -> list[str]:
        """Prefixes of the blocks whose modules are all known; both are regular expressions."""
        modules: dict[str, set[str]] = {}
        for name in self._tensors:
            if match := re.match(rf"(?:{pattern})\.\d+\.", name):
                modules.setdefault(match[0], set()).add(name.removeprefix(match[0]).rpartition(".")[0])
        found = []
        for block, inside in modules.items():
            foreign = sorted(module for module in inside if module and not re.fullmatch(known, module))
            if foreign:
                self.remark(block[:-1], f"left alone, as {foreign[0]} is not known there")
            else:
                found.append(block)
        return found

    def has(self, *modules: str) -> bool:
        return all(f"{module}.weight" in self._tensors for module in modules)

    def norm(self, block: str, gain: str, consumers: Sequence[str]) -> None:
        """A norm's gain, and its bias if it has one, before the linears that it feeds."""
        if self.has(block + gain):
            self._add(block, "norm", [gain], consumers, [Divided(name) for name in self._parts(block + gain)])

    def modulation(
        self, block: str, linear: str, consumers: Sequence[str], *, shift: int, scale: int, parts: int
    ) -> None:
        """The shift and scale rows, of several parts, of an adaLN that belongs to the block alone."""
        if not self.has(block + linear):
            return
        if f"{block}{linear}.bias" not in self._tensors:
            self.remark(
                block + linear, "left alone, as a modulation without a bias cannot take the 1 of 1 + scale"
            )
            return
        rows = self._tensors[f"{block}{linear}.weight"].shape[0]
        size = rows // parts
        divided = [
            Divided(name, part * size, adds_one=part == scale and name.endswith(".bias"))
            for part in (shift, scale)
            for name in self._parts(block + linear)
        ]
        self._add(block, "modulation", [linear], consumers, divided, size if rows == size * parts else -1)

    def linear(
        self,
        block: str,
        producers: Sequence[str],
        consumers: Sequence[str],
        *,
        heads: int = 1,
        rows: int | None = None,
    ) -> None:
        """Linears, all their rows or the first so many, whose outputs pass straight into others."""
        divided = [Divided(name) for producer in producers for name in self._parts(block + producer)]
        if divided:
            self._add(block, "linear", producers, consumers, divided, rows, heads)

    def value(self, block: str, values: Sequence[str], outputs: Sequence[str]) -> None:
        """The values of an attention and its output projections: each head's output is a mean of values."""
        query, key = (self.config.get(name) for name in self._head_keys)
        if not self.has(block + values[0], block + outputs[0]):
            return
        rows = self._tensors[f"{block}{values[0]}.weight"].shape[0]
        seen = self._tensors[f"{block}{outputs[0]}.weight"].shape[-1]
        if rows == seen:
            self.linear(block, values, outputs)
        elif isinstance(key, int) and isinstance(query, int) and key > 0 and seen * key == rows * query:
            self.linear(block, values, outputs, heads=key)
        else:
            where = " and ".join(self._head_keys)
            self.remark(block + values[0], f"left alone, as {where} of config.json do not tell its heads")

    _head_keys = ("num_attention_heads", "num_key_value_heads")

    def named_heads(self, query: str, key: str) -> None:
        """What the configuration calls the numbers of heads."""
        self._head_keys = (query, key)

    def feed_forward(self, block: str, module: str) -> None:
        """diffusers' gated FeedForward: the first half of its rows is multiplied by what the gate makes of the other."""
        inside, outside = f"{module}.net.0.proj", f"{module}.net.2"
        if self.config.get("activation_fn") in ("geglu", "swiglu") and self.has(
            block + inside, block + outside
        ):
            self.linear(
                block, [inside], [outside], rows=self._tensors[f"{block}{inside}.weight"].shape[0] // 2
            )

    def _parts(self, module: str) -> list[str]:
        return [name for name in (f"{module}.weight", f"{module}.bias") if name in self._tensors]

    def _add(
        self,
        block: str,
        producer: Producer,
        producers: Sequence[str],
        consumers: Sequence[str],
        divided: Sequence[Divided],
        channels: int | None = None,
        heads: int = 1,
    ) -> None:
        place = f"{', '.join(producers)} → {', '.join(consumers)}"
        name = f"{block[:-1]}: {place}" if block else place
        shapes = [self._tensors[part.tensor].shape for part in divided]
        size = shapes[0][0] if channels is None else channels
        layers = [self._layers.get(f"{block}{consumer}.weight") for consumer in consumers]
        widths = {layer.cols for layer in layers if layer is not None}
        repeats = max(widths, default=0) // max(size, 1)
        whole = channels is not None  # otherwise the producer has no other rows
        fits = (
            size > 0
            and None not in layers
            and widths == {size * repeats}
            and (repeats == 1 or size % heads == 0)
            and {shape[:1] for shape in shapes} == {shapes[0][:1]}
            and (shapes[0][0] == size or whole)
            and all(len(shape) == 1 for shape in shapes if producer == "norm")
        )
        if not fits:
            self.remark(name, "left alone, as the shapes do not fit one another")
            return
        names = tuple(layer.name for layer in layers if layer is not None)
        self.sites.append(Site(name, producer, size, tuple(divided), names, heads, repeats))


def _llama(search: _Search) -> None:
    known = r"input_layernorm|post_attention_layernorm|mlp\.(gate|up|down)_proj|self_attn\.([qkvo]_proj|[qk]_norm|rotary_emb)"
    for block in search.blocks(r"(?:model\.)?layers", known):
        search.norm(block, "input_layernorm", [f"self_attn.{name}_proj" for name in "qkv"])
        search.value(block, ["self_attn.v_proj"], ["self_attn.o_proj"])
        search.norm(block, "post_attention_layernorm", ["mlp.gate_proj", "mlp.up_proj"])
        search.linear(block, ["mlp.up_proj"], ["mlp.down_proj"])
    _head(search, "model.norm", "lm_head", bool(search.config.get("tie_word_embeddings")))


def _llada(search: _Search) -> None:
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


def _head(search: _Search, norm: str, head: str, tied: bool) -> None:
    """The last norm before the head, whose weights are its own."""
    if search.has(norm, head) and not tied:
        search.norm("", norm, [head])
    elif search.has(norm):
        search.remark(norm, "left alone, as its head has the weights of the embedding")


def _dit(search: _Search) -> None:
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


def _joint(search: _Search) -> None:
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


def _pixart(search: _Search) -> None:
    for block in search.blocks(
        "transformer_blocks", r"attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)|norm[123]"
    ):
        for attention in ("attn1", "attn2"):
            search.value(block, [f"{attention}.to_v"], [f"{attention}.to_out.0"])
    search.remark("The modulation adaln_single", _SHARED)


def _wan(search: _Search) -> None:
    known = (
        r"attn[12]\.(to_[qkv]|to_out\.0|add_[kv]_proj|norm_q|norm_k|norm_added_k)|norm2|ffn\.net\.(0\.proj|2)"
    )
    for block in search.blocks("blocks", known):
        search.value(block, ["attn1.to_v"], ["attn1.to_out.0"])
        search.norm(block, "norm2", ["attn2.to_q"])
        added = ["attn2.add_v_proj"] if search.has(f"{block}attn2.add_v_proj") else []
        search.value(block, ["attn2.to_v", *added], ["attn2.to_out.0"])
    search.remark("The modulation condition_embedder.time_proj", _SHARED)


_ARCHITECTURES: Mapping[str, Callable[[_Search], None]] = {
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
