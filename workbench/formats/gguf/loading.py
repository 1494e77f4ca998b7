"""Who loads GGUF files: ComfyUI-GGUF, diffusers and llama.cpp."""

from __future__ import annotations

import shlex
from pathlib import Path

from workbench.checkpoint import Checkpoint, denoiser_of, under_names
from workbench.errors import ArrowQuantError
from workbench.formats.format import DEFAULTS, Language, Loading
from workbench.formats.gguf.export import file_name, layout_of
from workbench.formats.gguf.families import family_of
from workbench.formats.gguf.options import nearest
from workbench.formats.model_classes import has_diffusers_class, quoted, reader_lines, workbench_lines
from workbench.plan import Plan


def _readers(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    return ()  # the notes of its layout say it


def _lines(checkpoint: Checkpoint, folder: Path, plan: Plan) -> tuple[Language, list[str]]:
    checkpoint = denoiser_of(checkpoint)
    family = family_of(checkpoint)
    file = folder / file_name(checkpoint)
    loaders = _loaders(checkpoint)
    for reader in family.readers:
        if reader.lines and reader.program in loaders:
            return reader.language, reader_lines(reader, file)
    if "llama.cpp" in loaders:
        return "sh", [f"llama-cli -m {_shell(file)} -p 'Hello'"]
    comfyui = []
    if "comfyui" in loaders:
        name = _shell(Path(f"{folder.name or 'model'}.gguf"))
        comfyui = [
            "# ComfyUI with ComfyUI-GGUF: copy the file, and choose it in the node Unet Loader (GGUF):",
            f"cp {_shell(file)} ComfyUI/models/diffusion_models/{name}",
        ]
    if "diffusers" in loaders and has_diffusers_class(checkpoint):
        kind = checkpoint.architecture
        return "python", [
            *([comfyui[0], f"#   {comfyui[1]}"] if comfyui else []),
            "import torch",
            f"from diffusers import {kind}, GGUFQuantizationConfig",
            "",
            f"model = {kind}.from_single_file(",
            f"    {quoted(file)},",
            "    quantization_config=GGUFQuantizationConfig(compute_dtype=torch.bfloat16),",
            f"    config={quoted(folder)},",
            *([f"    subfolder={quoted(checkpoint.component)},"] if checkpoint.component else []),
            "    torch_dtype=torch.bfloat16,",
            ")",
        ]
    return ("sh", comfyui) if comfyui else ("python", workbench_lines(folder))


def _suits(checkpoint: Checkpoint) -> bool:
    """Whether a program is known that loads a GGUF file of the checkpoint, and it can be written."""
    try:
        return bool(_loaders(under_names(denoiser_of(checkpoint), None, "original")[0]))
    except ArrowQuantError:
        return False


def _loaders(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The programs known to load a GGUF file of the checkpoint at 4 bits."""
    choices = {
        layer.name: nearest(layer, 4, "asymmetric", 32, DEFAULTS)
        for layer in checkpoint.layers
        if layer.params
    }
    plan = Plan("gguf", choices, checkpoint.fingerprint)
    return layout_of(checkpoint, plan, DEFAULTS).runtimes.loaders


def _shell(path: Path) -> str:
    return shlex.quote(str(path))


LOADING = Loading(_readers, _lines, _suits, depends_on_file=True)
"""Who loads it."""
