"""Recognising files that belong to a model but are none: LoRAs and other adapters, textual inversions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from workbench.checkpoint.strict_json import quote
from workbench.checkpoint.tensors import TensorInfo
from workbench.errors import ValidationError

ADAPTER_CONFIG = "adapter_config.json"
"""What PEFT writes beside an adapter."""

_FACTORS: tuple[tuple[str, str], ...] = (
    ("DoRA", r"\.(dora_scale|lora_magnitude_vector)\b"),
    ("LoHa", r"\.hada_[wt]\d"),
    ("LoKr", r"\.lokr_[wt]\d"),
    ("LoRA", r"(^|[._])lora(_embedding)?[._]([ABab]|down|up|mid)\b"),
    ("OFT adapter", r"\.oft_(blocks|diag|R|r)\b"),
    ("BOFT adapter", r"\.boft_[RsA]\b"),
    ("IA3 adapter", r"\.ia3_l\b"),
    ("full-rank LoRA", r"\.(diff|diff_b)$"),
)
"""Names of factors and differences, by what kind of adapter has them; DoRA has LoRA's too, so it stands first."""
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _FACTORS)

_PEFT_TYPES: Mapping[str, str] = {"LORA": "LoRA", "LOHA": "LoHa", "LOKR": "LoKr", "ADALORA": "AdaLoRA"}

_IP_ADAPTER = re.compile(
    r"^(ip_adapter\w*|image_proj|encoder_hid_proj)\.|\.processor\.(ip_adapter_|to_[kv]_ip\b)"
)
_INVERSION = re.compile(r"^(emb_params|clip_[gl]|t5xxl|string_to_param\..*|<.*>)$")

_MERGE = "Merge it into its model first, or open the model it belongs to."


def refuse_adapter(
    path: Path, tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str], config: Mapping[str, object]
) -> None:
    """Raise when a file is an adapter, or a model with an adapter beside its weights.

    Parameters
    ----------
    path : Path
        The file or folder, for the message.
    tensors : mapping of str to TensorInfo
        Its tensors.
    metadata : mapping of str to str
        ``__metadata__`` of its files.
    config : mapping
        PEFT's adapter_config.json, empty where there is none.

    Raises
    ------
    ValidationError
        Says what it is, by which tensor that is known, and what to do.
    """
    factors = {name: kind for name in tensors if (kind := _kind_of(name)) is not None}
    if factors:
        kinds = set(factors.values())
        kind = next(kind for kind, _ in _FACTORS if kind in kinds)
        first = next(name for name, its in factors.items() if its == kind)
        beside = _weights_beside(tensors, factors)
        if beside is not None:
            raise ValidationError(
                f"{path}: this model has an unmerged {kind} in it: {quote(first)} beside {quote(beside)}. Merge it "
                "into the weights first (PEFT: merge_and_unload, diffusers: fuse_lora and unload_lora_weights) and "
                "save the model again, or open the model without it.",
                path=path,
                tensor=first,
                kind=kind,
            )
        _refuse(path, kind, f"it has a tensor {quote(first)}", first)
    first = next(iter(tensors), "")
    if config:
        peft = str(config.get("peft_type", ""))
        kind = _PEFT_TYPES.get(peft, f"{peft} adapter".strip())
        _refuse(path, kind, f"{ADAPTER_CONFIG} says so", first)
    if "lora_controlnet" in tensors:
        raise ValidationError(
            f"{path}: this is a ControlNet-LoRA, not a model: it has a tensor 'lora_controlnet'. Open the ControlNet "
            "or the model that it changes.",
            path=path,
            kind="ControlNet-LoRA",
        )
    if tensors and all(_IP_ADAPTER.search(name) for name in tensors):
        raise ValidationError(
            f"{path}: this is an IP adapter, not a model: it has a tensor {quote(first)}. Open the model that it is "
            "used with; an IP adapter is loaded beside it, as it is.",
            path=path,
            tensor=first,
            kind="IP adapter",
        )
    if tensors and all(_INVERSION.match(name) and len(info.shape) <= 2 for name, info in tensors.items()):
        raise ValidationError(
            f"{path}: this is a textual inversion, not a model: all it has are embeddings of a word, {quote(first)}. "
            "Open the model that it is used with.",
            path=path,
            tensor=first,
            kind="textual inversion",
        )
    if "ss_network_module" in metadata and any(name.endswith(".alpha") for name in tensors):
        module = quote(metadata["ss_network_module"])
        _refuse(path, "LoRA", f"its metadata has ss_network_module = {module}", first)


def _refuse(path: Path, kind: str, evidence: str, tensor: str) -> None:
    article = "an" if kind[0] in "AIEOUaeiou" else "a"
    raise ValidationError(
        f"{path}: this is {article} {kind}, not a model: {evidence}. {_MERGE}",
        path=path,
        tensor=tensor,
        kind=kind,
    )


def _kind_of(name: str) -> str | None:
    return next((kind for kind, pattern in _PATTERNS if pattern.search(name)), None)


def _weights_beside(tensors: Mapping[str, TensorInfo], factors: Iterable[str]) -> str | None:
    """A weight of the model itself, in a file that has factors too."""
    own = [info.name for info in tensors.values() if info.name not in factors and len(info.shape) >= 2]
    weights = [name for name in own if name.endswith(".weight")]
    return next((name for name in weights if ".base_layer." in name), next(iter(weights), None))
