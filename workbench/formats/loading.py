"""What loads an export: the target for a checkpoint's family, who reads it, and the lines that load it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from workbench.architectures import Reader, architecture_of_config
from workbench.checkpoint import Checkpoint, exported, named
from workbench.config import default_scheme
from workbench.errors import ArrowQuantError, MetadataError
from workbench.formats import TargetSettings, target_named
from workbench.formats.compressed_tensors.target import quantization_config
from workbench.formats.gguf.families import family_of
from workbench.formats.gguf.payload import file_name
from workbench.formats.gguf.target import GgufTarget
from workbench.formats.target import Target
from workbench.plan import Plan

ARCHIVE = "parquet"
"""The target of a checkpoint that no runtime is known for: an archive that any Parquet reader opens."""

DECODED = (
    "transformers ({}) loads it where all layers have one width and group size, decoded: with "
    "quantization_config=CompressedTensorsConfig(dequantize=True), and compressed-tensors installed."
)
"""How it loads asymmetric codes (5.24): it makes no room for zero points, unless it decodes them while loading."""

NOT_READ = "transformers reads asymmetric codes right only where all layers have one width and group size."

_VLLM_BITS = (4, 8)
"""Widths of compressed-tensors that every version of vLLM loads."""

Language = Literal["python", "sh"]
"""What lines are written in."""

How = Literal["as it is", "decoded", "not"]
"""How transformers loads compressed-tensors: computing with the codes, decoding them first, or not at all."""


def best_target(checkpoint: Checkpoint) -> str:
    """The target whose files the usual runtime of a checkpoint's family loads; ``"parquet"`` where none is known.

    GGUF for what ComfyUI-GGUF, diffusers or llama.cpp load of it, tokenizer included; else the format of a program that
    its architecture names; compressed-tensors for the other models of transformers.

    Parameters
    ----------
    checkpoint : Checkpoint
        Under the names of its files or under the original ones.
    """
    if _gguf_loads(checkpoint):
        return "gguf"
    for name in _READERS:
        if _own_readers(checkpoint, name):
            return name
    return "compressed-tensors" if _transformers_class(checkpoint) is not None else ARCHIVE


def readers(
    checkpoint: Checkpoint, target_name: str, plan: Plan | None = None, scheme: str | None = None
) -> tuple[str, ...]:
    """Sentences on what is known to load an export of a checkpoint, or that nothing is.

    Parameters
    ----------
    checkpoint : Checkpoint
        Under the names that the export will have, see `workbench.checkpoint.named`.
    target_name : str
    plan : Plan, optional
        What will be exported; by default 4 bits for every layer.
    scheme : str, optional
        The scheme of these 4 bits; by default the target's own, see `workbench.config.default_scheme`.

    Raises
    ------
    ArrowQuantError
        If the target cannot hold the checkpoint, or there is no such target.
    """
    target = target_named(target_name, TargetSettings(scheme=scheme))
    plan = plan or _draft(checkpoint, target, scheme)
    own = tuple(f"Known to load it: {reader.program}." for reader in _own_readers(checkpoint, target_name))
    return (*(own or _READERS[target_name](checkpoint, plan)), *target.writer(checkpoint, plan).notes)


def loading_lines(
    checkpoint: Checkpoint, target_name: str, folder: str | os.PathLike[str], plan: Plan | None = None
) -> str:
    """The lines that load an export in the runtime it is for, see `loading_language`.

    Parameters
    ----------
    checkpoint : Checkpoint
        Under the names that the export has.
    target_name : str
    folder : path-like
        The export; where it is there already, its own config.json is heeded.
    plan : Plan, optional
        What will be exported, where it is not there yet; by default 4 bits for every layer.
    """
    target_named(target_name)
    return "\n".join(_lines(checkpoint, target_name, Path(folder), plan)[1])


def loading_language(checkpoint: Checkpoint, target_name: str) -> Language:
    """Whether `loading_lines` are Python or for a shell."""
    return _lines(checkpoint, target_name, Path())[0]


# ---- who reads it ------------------------------------------------------------------------------------------------


def _read_parquet(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    return (
        "Parquet is an archive: workbench.load and any Parquet reader open it, no runtime runs the model from it.",
    )


def _read_gguf(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    return ()  # its writer says it


def _read_mlx(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    if _is_causal(checkpoint):
        kind = checkpoint.config["model_type"]
        return (f"Known to load it: mlx-lm, where it has the model type {kind!r}.",)
    return (
        "mlx.core.load reads the arrays and mlx.core.dequantize decodes them; no program is known that runs this "
        "architecture from such a file.",
    )


def _read_compressed_tensors(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    found = _transformers_class(checkpoint)
    if found is None:
        return ("No runtime is known to load compressed-tensors of this architecture; workbench.load does.",)
    groups = _groups_of(checkpoint, plan)
    first: Mapping[How, str] = {
        "as it is": f"Known to load it: transformers ({found}), with compressed-tensors installed.",
        "decoded": DECODED.format(found),
        "not": NOT_READ,
    }
    sentences = [first[_how([bool(group["symmetric"]) for group in groups])]]
    if _is_causal(checkpoint):
        others = sorted({group["num_bits"] for group in groups} - set(_VLLM_BITS))
        newer = f"; {_list(others)} bits need a version that has the Humming kernels" if others else ""
        sentences.append(
            f"vLLM loads it where query, key and value have one width and group size, and gate and up have{newer}."
        )
    return tuple(sentences)


def _read_safetensors(checkpoint: Checkpoint, plan: Plan) -> tuple[str, ...]:
    return ("Whatever loads the source loads it, at the source's size: it is for trying a plan.",)


_READERS: Mapping[str, Callable[[Checkpoint, Plan], tuple[str, ...]]] = {
    "parquet": _read_parquet,
    "gguf": _read_gguf,
    "mlx": _read_mlx,
    "compressed-tensors": _read_compressed_tensors,
    "safetensors": _read_safetensors,
}


# ---- the lines that load it --------------------------------------------------------------------------------------


def _lines(
    checkpoint: Checkpoint, target_name: str, folder: Path, plan: Plan | None = None
) -> tuple[Language, list[str]]:
    if target_name == "gguf":
        return _gguf_lines(checkpoint, folder)
    for reader in _own_readers(checkpoint, target_name):
        if reader.lines:
            return reader.language, _own_lines(reader, folder)
    if target_name == "mlx":
        return "python", _mlx_lines(checkpoint, folder)
    kind = _transformers_class(checkpoint)
    if target_name == "compressed-tensors" and kind is not None:
        return "python", _transformers_lines(
            checkpoint, kind, folder, _how_compressed(checkpoint, folder, plan)
        )
    if target_name == "safetensors":
        if kind is not None:
            return "python", _transformers_lines(checkpoint, kind, folder / (checkpoint.component or ""))
        if _has_diffusers_class(checkpoint):
            subfolder = f", subfolder={_text(checkpoint.component)}" if checkpoint.component else ""
            return "python", [
                f"from diffusers import {checkpoint.architecture}",
                "",
                f"model = {checkpoint.architecture}.from_pretrained({_text(folder)}{subfolder})",
            ]
    return "python", _workbench_lines(folder)


def _gguf_lines(checkpoint: Checkpoint, folder: Path) -> tuple[Language, list[str]]:
    checkpoint = exported(checkpoint, "gguf")
    family = family_of(checkpoint)
    file = folder / file_name(checkpoint)
    loaders = _gguf_loaders(checkpoint)
    for reader in family.readers:
        if reader.lines and reader.program in loaders:
            return reader.language, _own_lines(reader, file)
    if "llama.cpp" in loaders:
        return "sh", [f"llama-cli -m {_shell(file)} -p 'Hello'"]
    comfyui = []
    if "comfyui" in loaders:
        name = _shell(Path(f"{folder.name or 'model'}.gguf"))
        comfyui = [
            "# ComfyUI with ComfyUI-GGUF: copy the file, and choose it in the node Unet Loader (GGUF):",
            f"cp {_shell(file)} ComfyUI/models/diffusion_models/{name}",
        ]
    if "diffusers" in loaders and _has_diffusers_class(checkpoint):
        kind = checkpoint.architecture
        return "python", [
            *([comfyui[0], f"#   {comfyui[1]}"] if comfyui else []),
            "import torch",
            f"from diffusers import {kind}, GGUFQuantizationConfig",
            "",
            f"model = {kind}.from_single_file(",
            f"    {_text(file)},",
            "    quantization_config=GGUFQuantizationConfig(compute_dtype=torch.bfloat16),",
            f"    config={_text(folder)},",
            *([f"    subfolder={_text(checkpoint.component)},"] if checkpoint.component else []),
            "    torch_dtype=torch.bfloat16,",
            ")",
        ]
    return ("sh", comfyui) if comfyui else ("python", _workbench_lines(folder))


def _own_lines(reader: Reader, place: Path) -> list[str]:
    """The lines that an architecture knows for a program, with the export in its place."""
    shown = _shell(place) if reader.language == "sh" else _text(place)
    return [line.replace("{export}", shown) for line in reader.lines]


def _mlx_lines(checkpoint: Checkpoint, folder: Path) -> list[str]:
    if _is_causal(checkpoint):
        return ["from mlx_lm import load", "", f"model, tokenizer = load({_text(folder)})"]
    return [
        "from pathlib import Path",
        "",
        "import mlx.core as mx",
        "",
        "arrays = {}",
        f"for file in sorted(Path({_text(folder)}).glob('*.safetensors')):",
        "    arrays.update(mx.load(str(file)))",
    ]


def _transformers_lines(checkpoint: Checkpoint, kind: str, folder: Path, how: How = "as it is") -> list[str]:
    if how == "not":
        if _is_causal(checkpoint):
            return [f"# {NOT_READ}", "from vllm import LLM", "", f"model = LLM({_text(folder)})"]
        return [f"# {NOT_READ}", *_workbench_lines(folder)]
    imported = [kind, *(["CompressedTensorsConfig"] if how == "decoded" else [])]
    remote = ", trust_remote_code=True" if checkpoint.config.get("auto_map") else ""
    decoded = ", quantization_config=CompressedTensorsConfig(dequantize=True)" if how == "decoded" else ""
    return [
        f"from transformers import {', '.join(sorted(imported))}",
        "",
        f'model = {kind}.from_pretrained({_text(folder)}, dtype="auto"{decoded}{remote})',
    ]


def _workbench_lines(folder: Path) -> list[str]:
    return [
        "import workbench as wb",
        "",
        f"weights = wb.load({_text(folder)})  # a mapping from tensor names to arrays, decoded when asked for",
    ]


# ---- what a checkpoint is ----------------------------------------------------------------------------------------


def _own_readers(checkpoint: Checkpoint, target_name: str) -> tuple[Reader, ...]:
    """The programs that its architecture names for a format; those of GGUF depend on what is in the file."""
    if checkpoint.family is None or target_name == "gguf":
        return ()
    return checkpoint.family.readers_of(target_name)


def _gguf_loads(checkpoint: Checkpoint) -> bool:
    """Whether a program is known that loads a GGUF file of the checkpoint, and it can be written."""
    try:
        written, _ = named(exported(checkpoint, "gguf"), None, "gguf")
        return bool(_gguf_loaders(written))
    except ArrowQuantError:
        return False


def _gguf_loaders(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The programs known to load a GGUF file of the checkpoint at 4 bits."""
    target = GgufTarget()
    return target.writer(checkpoint, _draft(checkpoint, target)).runtimes.loaders


def _draft(checkpoint: Checkpoint, target: Target, scheme: str | None = None) -> Plan:
    # In groups of 32: every row that divides by another group size divides by that too.
    choices = {
        layer.name: target.quantized(layer, 4, scheme or default_scheme(target.name), 32)
        for layer in checkpoint.layers
        if layer.params
    }
    return Plan(target.name, choices, checkpoint.fingerprint)


def _transformers_class(checkpoint: Checkpoint) -> str | None:
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


def _is_causal(checkpoint: Checkpoint) -> bool:
    return _transformers_class(checkpoint) is not None and str(checkpoint.architecture).endswith(
        "ForCausalLM"
    )


def _has_diffusers_class(checkpoint: Checkpoint) -> bool:
    """Whether config.json, which travels along into the export, names a class of diffusers."""
    return isinstance(checkpoint.config.get("_class_name"), str)


def _groups_of(checkpoint: Checkpoint, plan: Plan) -> list[dict[str, Any]]:
    """The settings of the groups of layers that config.json will have."""
    layers = [layer for layer in checkpoint.layers if layer.params]
    return [group["weights"] for group in quantization_config(layers, plan)["config_groups"].values()]


def _how(are_symmetric: Sequence[bool]) -> How:
    """How transformers loads groups of layers."""
    return "as it is" if all(are_symmetric) else "decoded" if len(are_symmetric) == 1 else "not"


def _how_compressed(checkpoint: Checkpoint, folder: Path, plan: Plan | None) -> How:
    """How transformers loads an export: the one in the folder, or that of a plan where it is not there yet."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        groups = config["quantization_config"]["config_groups"].values()
        return _how([bool(group["weights"]["symmetric"]) for group in groups])
    except FileNotFoundError:
        target = target_named("compressed-tensors")
        groups = _groups_of(checkpoint, plan or _draft(checkpoint, target))
        return _how([bool(group["symmetric"]) for group in groups])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MetadataError(f"{folder / 'config.json'} is malformed: {error!r}.", path=folder) from error


def _list(numbers: Sequence[int]) -> str:
    *before, last = map(str, numbers)
    return f"{', '.join(before)} and {last}" if before else last


def _text(path: Path | str) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def _shell(path: Path) -> str:
    return shlex.quote(str(path))
