"""Who loads compressed-tensors: transformers, and vLLM."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from workbench.checkpoint import Checkpoint
from workbench.errors import MetadataError
from workbench.formats.compressed_tensors.codec import quantization_config
from workbench.formats.format import Language, Loading
from workbench.formats.model_classes import (
    is_causal,
    quoted,
    transformers_class,
    transformers_lines,
    workbench_lines,
)
from workbench.plan import Plan

DECODED = (
    "transformers ({}) loads it where all layers have one width and group size, decoded: with "
    "quantization_config=CompressedTensorsConfig(dequantize=True), and compressed-tensors installed."
)
"""How it loads asymmetric codes (5.24): it makes no room for zero points, unless it decodes them while loading."""

NOT_READ = "transformers reads asymmetric codes right only where all layers have one width and group size."

_VLLM_BITS = (4, 8)
"""Widths of compressed-tensors that every version of vLLM loads."""

How = Literal["as it is", "decoded", "not"]
"""How transformers loads compressed-tensors: computing with the codes, decoding them first, or not at all."""


def _readers(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    found = transformers_class(checkpoint)
    if found is None:
        return ("No runtime is known to load compressed-tensors of this architecture; workbench.load does.",)
    groups = _groups_of(checkpoint, plan)
    first: Mapping[How, str] = {
        "as it is": f"Known to load it: transformers ({found}), with compressed-tensors installed.",
        "decoded": DECODED.format(found),
        "not": NOT_READ,
    }
    sentences = [first[_how([bool(group["symmetric"]) for group in groups])]]
    if is_causal(checkpoint):
        others = sorted({group["num_bits"] for group in groups} - set(_VLLM_BITS))
        newer = f"; {_list(others)} bits need a version that has the Humming kernels" if others else ""
        sentences.append(
            f"vLLM loads it where query, key and value have one width and group size, and gate and up have{newer}."
        )
    return tuple(sentences)


def _lines(checkpoint: Checkpoint, folder: Path, plan: Plan) -> tuple[Language, list[str]]:
    if transformers_class(checkpoint) is None:
        return "python", workbench_lines(folder)
    how = _how_written(checkpoint, folder, plan)
    if how != "not":
        return "python", transformers_lines(checkpoint, folder, dequantize=how == "decoded")
    if is_causal(checkpoint):
        return "python", [f"# {NOT_READ}", "from vllm import LLM", "", f"model = LLM({quoted(folder)})"]
    return "python", [f"# {NOT_READ}", *workbench_lines(folder)]


def _groups_of(checkpoint: Checkpoint, plan: Plan) -> list[dict[str, Any]]:
    """The settings of the groups of layers that config.json will have."""
    layers = [layer for layer in checkpoint.layers if layer.params]
    return [group["weights"] for group in quantization_config(layers, plan)["config_groups"].values()]


def _how(are_symmetric: Sequence[bool]) -> How:
    """How transformers loads groups of layers."""
    return "as it is" if all(are_symmetric) else "decoded" if len(are_symmetric) == 1 else "not"


def _how_written(checkpoint: Checkpoint, folder: Path, plan: Plan) -> How:
    """How transformers loads an export: the one in the folder, or that of a plan where it is not there yet."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        groups = config["quantization_config"]["config_groups"].values()
        return _how([bool(group["weights"]["symmetric"]) for group in groups])
    except FileNotFoundError:
        return _how([bool(group["symmetric"]) for group in _groups_of(checkpoint, plan)])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MetadataError(f"{folder / 'config.json'} is malformed: {error!r}.", path=folder) from error


def _list(numbers: Sequence[int]) -> str:
    *before, last = map(str, numbers)
    return f"{', '.join(before)} and {last}" if before else last


def _suits(checkpoint: Checkpoint) -> bool:
    return transformers_class(checkpoint) is not None


LOADING = Loading(_readers, _lines, _suits)
"""Who loads it."""
