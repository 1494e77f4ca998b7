"""Llama and the language models whose blocks compute like its: Mistral, Qwen 2 and 3."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.architectures.folds import (
    Config,
    FoldedBlocks,
    FoldPlace,
    Folds,
    Has,
    LinearFold,
    NormFold,
    ValueFold,
    joined_head,
)
from workbench.architectures.record import Architecture


def _folds_of_block(config: Config, has: Has) -> Iterator[FoldPlace]:
    yield NormFold("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"))
    yield ValueFold(("self_attn.v_proj",), ("self_attn.o_proj",))
    yield NormFold("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj"))
    yield LinearFold(("mlp.up_proj",), ("mlp.down_proj",))


def _folds_outside(config: Config, has: Has) -> Iterator[FoldPlace]:
    yield from joined_head("model.norm", "lm_head", bool(config.get("tie_word_embeddings")), has)


LLAMA_FOLDS = Folds(
    (
        FoldedBlocks(
            r"(?:model\.)?layers",
            r"input_layernorm|post_attention_layernorm|mlp\.(gate|up|down)_proj"
            r"|self_attn\.([qkvo]_proj|[qk]_norm|rotary_emb)",
            _folds_of_block,
        ),
    ),
    _folds_outside,
)

LLAMA = Architecture(
    name="Llama",
    # Only classes whose code is known: Gemma's blocks have the names of these, and add 1 to their gains.
    classes=(
        "LlamaForCausalLM",
        "LlamaModel",
        "MistralForCausalLM",
        "MistralModel",
        "Qwen2ForCausalLM",
        "Qwen2Model",
        "Qwen3ForCausalLM",
        "Qwen3Model",
    ),
    medium="text",
    library="transformers",
    folds=LLAMA_FOLDS,
)
