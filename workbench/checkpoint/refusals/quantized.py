"""Recognising weights that are already quantized: quantizing them again would only add error.

Many tools quantize, and each has names of its own, so the structure of the tensors counts: integers where a model has
weights, or narrow codes with a scale beside them. Names that are known only make the message say which tool it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from workbench.checkpoint.strict_json import quote
from workbench.checkpoint.tensors import FLOAT_DTYPES, TensorInfo
from workbench.errors import ValidationError

_CONFIG_KEYS = ("quantization_config", "quantization", "compression_config", "quip_params")
_METADATA_KEYS = (
    "_quantization_metadata",
    "quantization_metadata",
    "quantization_config",
    "quantization",
    "quant_method",
)
_PLAIN = frozenset(
    {"", "none", "null", "false", "no", "{}", "[]", "bf16", "fp16", "fp32", "bfloat16", "float16", "float32"}
)
"""Values of such keys, in lower case, that say that nothing is quantized."""

_CODES: Mapping[str, str] = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".weight_packed": "compressed-tensors",
    ".weight.absmax": "bitsandbytes",
    ".weight.quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".W_q": "HQQ",
    ".weight._data": "optimum-quanto",
    "._weight_qdata": "torchao",
    ".weight_s_rel": "ComfyUI's W4A8",
    ".comfy_quant": "ComfyUI",
    ".q_weight": "ExLlamaV2",
    ".trellis": "ExLlamaV3",
    ".Qidxs": "QuIP#",
    "scaled_fp8": "ComfyUI's scaled F8",
}
"""Endings of tensors that only a quantized checkpoint has."""

_SCALES: Mapping[str, str] = {
    ".scales": "MLX",
    ".weight_scale": "compressed-tensors, ModelOpt or scaled F8",
    ".weight_scale_inv": "block-scaled F8",
    ".scale_weight": "ComfyUI's scaled F8",
}
"""Endings of scales that stand beside a ``.weight`` of narrow codes."""

_F8 = frozenset({"F8_E4M3", "F8_E5M2"})
_WIDE_FLOATS = FLOAT_DTYPES - _F8
_BYTES = frozenset({"I8", "U8"})
_INTEGERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"})

_SCALE_WORD = re.compile(
    r"(?<![a-z])(?:scales?|scaling|zeros?|zero_?points?|qzeros|absmax|amax|codebooks?|centroids|lut|quant_map|scb|suh"
    r"|svh|su|sv|wscale|s_rel|s_channel)(?![a-z])",
    re.IGNORECASE,
)
_NO_SCALE = re.compile(r"logit_scale|scale_shift|scale_factor|implicit_codebook", re.IGNORECASE)
"""Parameters of models that are not quantized, though their names speak of a scale."""

_BUFFER = re.compile(
    r"(?:position|token_type|relative|window|input|img|txt|image|text|pixel)\w*?(?:ids?|idx|index|indices)$"
    r"|mask|coords|^bias$|num_batches_tracked",
    re.IGNORECASE,
)
"""Integer tables that models carry which are not quantized: positions, masks, token types."""

_TORCHAO = re.compile(r'\s*\{\s*"_type"\s*:\s*"(?!Tensor"|Parameter")(\w+)"')
"""How torchao describes a quantized tensor in the header's metadata."""

MUCH = 0.25
"""The share of a file's bytes from which on unknown integer tensors are taken for codes."""


def refuse_quantized(
    path: Path,
    config: Mapping[str, object],
    tensors: Mapping[str, TensorInfo],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Raise when a checkpoint is already quantized, in whole or in part.

    Weights in F8 without scales are fine: they are plain numbers. So are integers that are no weights: positions, token
    types, masks, counters.

    Parameters
    ----------
    path : Path
        The checkpoint, for the message.
    config : mapping
        Its config.json.
    tensors : mapping of str to TensorInfo
        Its tensors.
    metadata : mapping of str to str, optional
        ``__metadata__`` of its files.

    Raises
    ------
    ValidationError
        With the evidence.
    """
    evidence = (
        _known_names(tensors) or _structure(tensors) or _in_metadata(metadata or {}) or _in_config(config)
    )
    if evidence is not None:
        raise ValidationError(
            f"{path}: this checkpoint is already quantized: {evidence}. "
            "Open the original, in BF16, F16 or F32, instead.",
            path=path,
            evidence=evidence,
        )


def _known_names(tensors: Mapping[str, TensorInfo]) -> str | None:
    for name in tensors:
        scheme = next((scheme for ending, scheme in _CODES.items() if name.endswith(ending)), None)
        if scheme is not None:
            return f"there is a tensor {quote(name)}, as in {scheme}"
        for ending, scheme in _SCALES.items():
            weight = tensors.get(f"{name.removesuffix(ending)}.weight") if name.endswith(ending) else None
            if weight is not None and weight.dtype not in _WIDE_FLOATS:
                codes = f"the {weight.dtype} codes of {quote(weight.name)}"
                return f"tensor {quote(name)} scales {codes}, as in {scheme}"
    return None


def _structure(tensors: Mapping[str, TensorInfo]) -> str | None:
    """Evidence in dtypes and shapes: codes with a scale beside them, integer weights, or a file full of integers."""
    scales: dict[str, list[TensorInfo]] = {}
    for info in tensors.values():
        module, _, leaf = info.name.rpartition(".")
        if _SCALE_WORD.search(leaf) and not _NO_SCALE.search(leaf):
            scales.setdefault(module, []).append(info)
    unknown: list[TensorInfo] = []
    for info in tensors.values():
        module, _, leaf = info.name.rpartition(".")
        beside = [scale for scale in (*scales.get(module, ()), *scales.get(info.name, ())) if scale != info]
        is_matrix = sum(size > 1 for size in info.shape) >= 2
        if info.dtype in _F8 and is_matrix:
            scale = next((s for s in beside if s.dtype not in _F8 and _is_of(s, info)), None)
            if scale is not None:
                return f"tensor {quote(scale.name)} scales the {info.dtype} codes of {quote(info.name)}"
        if info.dtype not in _INTEGERS or _BUFFER.search(leaf):
            continue
        is_flat = info.dtype in _BYTES and len(info.shape) == 1 and info.shape[0] > 1
        if not is_matrix and not is_flat:
            continue
        if beside:
            return f"tensor {quote(beside[0].name)} scales the {info.dtype} codes of {quote(info.name)}"
        if is_matrix and "weight" in leaf:
            return f"the weight {quote(info.name)} is {info.dtype} {list(info.shape)}, which are codes"
        unknown.append(info)
    total = sum(info.nbytes for info in tensors.values())
    held = sum(info.nbytes for info in unknown)
    if held > MUCH * total:
        largest = max(unknown, key=lambda info: info.nbytes)
        return (
            f"integers hold {held / total:.0%} of its bytes, such as {quote(largest.name)}, {largest.dtype} "
            f"{list(largest.shape)}"
        )
    return None


def _is_of(scale: TensorInfo, codes: TensorInfo) -> bool:
    """Whether a scale in the same module is that of these codes, and not another parameter's."""
    leaf = codes.name.rpartition(".")[2]
    return scale.name.startswith(codes.name) or "weight" in leaf or "data" in leaf


def _in_metadata(metadata: Mapping[str, str]) -> str | None:
    for key in _METADATA_KEYS:
        value = metadata.get(key)
        if value is not None and not _says_nothing(value):
            return f"the header's metadata has {key}"
    for key, value in metadata.items():
        if found := _TORCHAO.match(value[:200]):
            return f"the header's metadata calls {quote(key)} a {found[1]}, as torchao does"
    return None


def _says_nothing(value: str) -> bool:
    if value.strip().lower() in _PLAIN:
        return True
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("layers") == {}


def _in_config(config: Mapping[str, object]) -> str | None:
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in _CONFIG_KEYS if part is config else _CONFIG_KEYS[:1]:
            if value := part.get(key):
                method = value.get("quant_method") if isinstance(value, dict) else None
                return f"config.json has {key}" + (
                    f" with quant_method {quote(str(method))}" if method else ""
                )
    return None
