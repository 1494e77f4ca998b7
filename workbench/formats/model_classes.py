"""Which library loads a checkpoint, by what its config.json says, and lines that do."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from workbench.architectures import Reader, architecture_of_config
from workbench.checkpoint import Checkpoint


def transformers_class(checkpoint: Checkpoint) -> str | None:
    """The class by which transformers loads the source; None where it is not one of its models."""
    config, kind = checkpoint.config, checkpoint.architecture
    if "_class_name" in config or kind is None or not isinstance(config.get("model_type"), str):
        return None
    own_code = config.get("auto_map")
    if isinstance(own_code, dict):
        autos = [auto for auto, name in own_code.items() if str(name).endswith(f".{kind}")]
        return autos[0] if autos else None
    # A family that comes with its own code is no part of transformers, which does not load it without that.
    family = architecture_of_config(config)
    return kind if family is None or family.library == "transformers" else None


def is_causal(checkpoint: Checkpoint) -> bool:
    """Whether it is one of transformers' causal language models."""
    return transformers_class(checkpoint) is not None and str(checkpoint.architecture).endswith("ForCausalLM")


def has_diffusers_class(checkpoint: Checkpoint) -> bool:
    """Whether config.json, which travels along into the export, names a class of diffusers."""
    return isinstance(checkpoint.config.get("_class_name"), str)


def transformers_lines(checkpoint: Checkpoint, folder: Path, *, dequantize: bool = False) -> list[str]:
    """The lines by which transformers loads a folder; with `dequantize` it decodes compressed-tensors first."""
    kind = transformers_class(checkpoint)
    imported = [str(kind), *(["CompressedTensorsConfig"] if dequantize else [])]
    remote = ", trust_remote_code=True" if checkpoint.config.get("auto_map") else ""
    decoded = ", quantization_config=CompressedTensorsConfig(dequantize=True)" if dequantize else ""
    return [
        f"from transformers import {', '.join(sorted(imported))}",
        "",
        f'model = {kind}.from_pretrained({quoted(folder)}, dtype="auto"{decoded}{remote})',
    ]


def workbench_lines(folder: Path) -> list[str]:
    """The lines by which this workbench reads an export."""
    return [
        "import workbench as wb",
        "",
        f"weights = wb.load({quoted(folder)})  # a mapping from tensor names to arrays, decoded when asked for",
    ]


def reader_lines(reader: Reader, place: Path) -> list[str]:
    """The lines that an architecture knows for a program, with the export in its place."""
    shown = shlex.quote(str(place)) if reader.language == "sh" else quoted(place)
    return [line.replace("{export}", shown) for line in reader.lines]


def quoted(path: Path | str) -> str:
    """A path as it stands in Python."""
    return json.dumps(str(path), ensure_ascii=False)
