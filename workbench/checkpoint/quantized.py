"""Recognising weights that are already quantized: quantizing them again would only add error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from workbench.checkpoint.header import FLOAT_DTYPES, TensorInfo
from workbench.checkpoint.strict_json import quote
from workbench.errors import ValidationError

_CONFIG_KEYS = ("quantization_config", "quantization", "compression_config")

_CODES: Mapping[str, str] = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".weight_packed": "compressed-tensors",
    ".weight.absmax": "bitsandbytes",
    ".weight.quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".W_q": "HQQ",
    ".weight._data": "optimum-quanto",
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

_WIDE_FLOATS = FLOAT_DTYPES - {"F8_E4M3", "F8_E5M2"}


def refuse_quantized(path: Path, config: Mapping[str, object], tensors: Mapping[str, TensorInfo]) -> None:
    """Raise when a checkpoint is already quantized.

    Weights in F8 without scales are fine: they are plain numbers.

    Parameters
    ----------
    path : Path
        The checkpoint, for the message.
    config : mapping
        Its config.json.
    tensors : mapping of str to TensorInfo
        Its tensors.

    Raises
    ------
    ValidationError
        With the evidence.
    """
    evidence = _evidence(config, tensors)
    if evidence is not None:
        raise ValidationError(
            f"{path}: this checkpoint is already quantized: {evidence}. "
            "Open the original, in BF16, F16 or F32, instead.",
            path=path,
            evidence=evidence,
        )


def _evidence(config: Mapping[str, object], tensors: Mapping[str, TensorInfo]) -> str | None:
    for key in _CONFIG_KEYS:
        if value := config.get(key):
            method = value.get("quant_method") if isinstance(value, dict) else None
            return f"config.json has {key}" + (f" with quant_method {quote(str(method))}" if method else "")
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
