"""Who loads dequantized safetensors: whatever loads the source."""

from __future__ import annotations

from pathlib import Path

from workbench.checkpoint import Checkpoint
from workbench.formats.format import Language, Loading
from workbench.formats.model_classes import (
    has_diffusers_class,
    quoted,
    transformers_class,
    transformers_lines,
    workbench_lines,
)
from workbench.plan import Plan


def _readers(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    return ("Whatever loads the source loads it, at the source's size: it is for trying a plan.",)


def _lines(checkpoint: Checkpoint, folder: Path, plan: Plan) -> tuple[Language, list[str]]:
    if transformers_class(checkpoint) is not None:
        return "python", transformers_lines(checkpoint, folder / (checkpoint.component or ""))
    if has_diffusers_class(checkpoint):
        subfolder = f", subfolder={quoted(checkpoint.component)}" if checkpoint.component else ""
        return "python", [
            f"from diffusers import {checkpoint.architecture}",
            "",
            f"model = {checkpoint.architecture}.from_pretrained({quoted(folder)}{subfolder})",
        ]
    return "python", workbench_lines(folder)


LOADING = Loading(_readers, _lines)
"""Who loads it."""
