"""LLaDA, a masked-diffusion language model."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.architectures.folds import (
    Config,
    FoldedBlocks,
    FoldPlace,
    Folds,
    Has,
    LeftAlone,
    LinearFold,
    NormFold,
    ValueFold,
    joined_head,
)
from workbench.architectures.record import MASK_RATIO, Architecture, LlamaCpp, Reader, Tie


def _folds_of_block(config: Config, has: Has) -> Iterator[FoldPlace]:
    yield NormFold("attn_norm", ("q_proj", "k_proj", "v_proj"))
    if config.get("clip_qkv") is None:
        yield ValueFold(("v_proj",), ("attn_out",))
    else:
        yield LeftAlone("v_proj", "left alone, as clip_qkv cuts its values")
    yield NormFold("ff_norm", ("ff_proj", "up_proj"))
    yield LinearFold(("up_proj",), ("ff_out",))


def _folds_outside(config: Config, has: Has) -> Iterator[FoldPlace]:
    is_tied = bool(config.get("weight_tying", True))
    yield from joined_head("model.transformer.ln_f", "model.transformer.ff_out", is_tied, has)


def _obstacle(config: Config) -> LeftAlone | None:
    norm = config.get("layer_norm_type", "default")
    is_known = norm in ("default", "low_precision", "rms")
    return None if is_known else LeftAlone("The norms", f"layer_norm_type {norm!r} is not known")


LLADA = Architecture(
    name="LLaDA",
    classes=("LLaDAModelLM",),
    model_types=("llada", "lladamodel"),
    medium="text",
    library="",
    roles=(("head", r"^transformer\.ff_out$"),),
    folds=Folds(
        (
            FoldedBlocks(
                r"model\.transformer\.blocks",
                r"attn_norm|ff_norm|[qkv]_proj|[qk]_norm|attn_out|ff_proj|up_proj|ff_out|rotary_emb",
                _folds_of_block,
            ),
        ),
        _folds_outside,
        heads=("n_heads", "n_kv_heads"),
        obstacle=_obstacle,
    ),
    tie=Tie("weight_tying", r"transformer\.ff_out", "wte"),
    clock=MASK_RATIO,
    gguf="llada",
    readers=(
        Reader(
            "llama.cpp",
            names="llama.cpp",
            lines=(
                "llama-diffusion-cli -m {export} -p 'Hello' -ub 512 --diffusion-block-length 32 --diffusion-steps 128",
            ),
        ),
    ),
    llama_cpp=LlamaCpp(
        is_interleaved=True,
        keys=(("diffusion.shift_logits", False),),
        tokenizer_keys=(("tokenizer.ggml.add_bos_token", True),),
    ),
)
