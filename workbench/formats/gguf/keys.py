"""The keys of a GGUF file: what a runtime must know besides the tensors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import gguf

from workbench.checkpoint import Checkpoint
from workbench.checkpoint.readers.gguf_file import GgufKey
from workbench.errors import ValidationError
from workbench.formats.gguf.families import Family
from workbench.formats.gguf.layout import (
    BOOL,
    FLOAT32,
    UINT32,
    GgufPiece,
    integers_key,
    number_key,
    text_key,
)
from workbench.formats.gguf.tokenizer import tokenizer_keys

FILE_TYPES: Mapping[str, int] = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 12, "Q4_K": 15,
    "Q5_K": 17, "Q6_K": 18, "BF16": 32,
}  # fmt: skip
"""llama.cpp's ``general.file_type`` for the type that most tensors have."""


def file_keys(
    checkpoint: Checkpoint,
    family: Family,
    pieces: Sequence[GgufPiece],
    shapes: Mapping[str, tuple[int, ...]],
    own: Mapping[str, object],
) -> dict[str, GgufKey]:
    """The keys of a file.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where it is a GGUF file, all its keys are kept as they are; only ``general.file_type`` is written anew.
    family : Family
    pieces : sequence of GgufPiece
    shapes : mapping of str to tuple of int
        The original shapes of tensors that are stored in another, by their name in the file.
    own : mapping of str to object
        Documents of this workbench, written as JSON.
    """
    keys: dict[str, GgufKey] = {}
    if checkpoint.gguf is not None:
        keys |= {
            name: key for name, key in checkpoint.gguf.keys.items() if not name.startswith("arrowquant.")
        }
    else:
        keys["general.architecture"] = text_key(family.architecture)
        if family.language_model is not None:
            keys |= _model_keys(checkpoint, family)
            keys |= tokenizer_keys(checkpoint, family)
    commonest = Counter(piece.kind for piece in pieces for _ in range(len(piece.shape) > 1)).most_common(1)
    if commonest and commonest[0][0] in FILE_TYPES:
        keys["general.file_type"] = number_key(UINT32, FILE_TYPES[commonest[0][0]])
    keys.setdefault("general.quantization_version", number_key(UINT32, gguf.GGML_QUANT_VERSION))
    keys |= {f"comfy.gguf.orig_shape.{name}": integers_key(shape) for name, shape in shapes.items()}
    keys |= {name: text_key(compact(document)) for name, document in own.items()}
    return keys


def compact(document: object) -> str:
    """JSON without spaces."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _model_keys(checkpoint: Checkpoint, family: Family) -> dict[str, GgufKey]:
    """What llama.cpp must know of a language model, of its config.json."""
    name, config = family.architecture, checkpoint.config
    heads = _number(checkpoint, int, "num_attention_heads", "n_heads")
    keys = {
        f"{name}.context_length": _number(checkpoint, int, "max_position_embeddings", "max_sequence_length"),
        f"{name}.embedding_length": _number(checkpoint, int, "hidden_size", "d_model"),
        f"{name}.block_count": _number(checkpoint, int, "num_hidden_layers", "n_layers"),
        f"{name}.feed_forward_length": _number(checkpoint, int, "intermediate_size", "mlp_hidden_size"),
        f"{name}.attention.head_count": heads,
        f"{name}.attention.head_count_kv": config.get("num_key_value_heads", config.get("n_kv_heads"))
        or heads,
        f"{name}.vocab_size": _number(checkpoint, int, "vocab_size"),
    }
    dimensions = config.get("head_dim") or keys[f"{name}.embedding_length"] // heads
    found = {key: number_key(UINT32, value) for key, value in keys.items()}
    found[f"{name}.rope.dimension_count"] = number_key(UINT32, dimensions)
    found[f"{name}.rope.freq_base"] = number_key(FLOAT32, float(_number(checkpoint, float, "rope_theta")))
    epsilon = float(_number(checkpoint, float, "rms_norm_eps"))
    found[f"{name}.attention.layer_norm_rms_epsilon"] = number_key(FLOAT32, epsilon)
    found[f"{name}.attention.causal"] = number_key(BOOL, False)
    if family.language_model is not None:
        found |= {key: number_key(BOOL, value) for key, value in family.language_model.keys}
    return found


def _number(checkpoint: Checkpoint, kind: type[int] | type[float], *names: str) -> Any:
    """A number of config.json that must be there, under one of its names."""
    for name in names:
        value = checkpoint.config.get(name)
        if isinstance(value, (int, kind)) and not isinstance(value, bool) and 0 < value < 2**31:
            return value
    raise ValidationError(
        f"{checkpoint.path}: config.json has no number {' or '.join(names)}, which llama.cpp needs to load the model.",
        path=checkpoint.path,
        key=names[0],
    )
