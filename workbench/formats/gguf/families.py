"""What a GGUF file must say and call its tensors for each runtime that reads it.

What is known of a family stands in `workbench.architectures`. Architectures of images and videos are those of
ComfyUI-GGUF (https://github.com/city96/ComfyUI-GGUF), recognised by tensors that only they have; those of language
models are llama.cpp's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import gguf

from workbench.architectures import (
    DENOISER_PREFIX,
    Architecture,
    LlamaCpp,
    Reader,
    architecture_of_config,
    architecture_of_tensors,
    known_architectures,
)
from workbench.checkpoint import Checkpoint, originally_named
from workbench.errors import ValidationError

MAX_DIMS = 4
"""Dimensions that a GGUF tensor may have for ggml."""

LLAMA_NAME_BYTES = 63
"""Longest name of a tensor that llama.cpp reads."""

COMFYUI_NAME_BYTES = 127
"""Longest name of a tensor that ComfyUI-GGUF reads."""

PROGRAMS: Mapping[str, str] = {
    "comfyui": "ComfyUI-GGUF",
    "stable-diffusion.cpp": "stable-diffusion.cpp",
    "diffusers": "diffusers by from_single_file with GGUFQuantizationConfig and config=",
    "llama.cpp": "llama.cpp",
}
"""What each program is called; any other goes by its own name."""


@dataclass(frozen=True)
class Family:
    """How a checkpoint is written for its runtimes."""

    architecture: str
    """``general.architecture``."""
    names: Mapping[str, str]
    """The name in the file of each tensor of the checkpoint."""
    readers: tuple[Reader, ...] = ()
    """Programs that read such files; whether they load this one depends on what is in it."""
    remark: str = ""
    """A sentence on how another program could load it."""
    language_model: LlamaCpp | None = None
    """What llama.cpp needs, of a language model."""
    heads: Mapping[str, int] | None = None
    """Tensors whose rows llama.cpp has interleaved within each head, with the number of heads."""

    @property
    def loaders(self) -> tuple[str, ...]:
        """The programs."""
        return tuple(reader.program for reader in self.readers)


def title_of(program: str) -> str:
    """What a program is called."""
    return PROGRAMS.get(program, program)


def family_of(checkpoint: Checkpoint) -> Family:
    """Recognise a checkpoint, and name its tensors.

    Raises
    ------
    ValidationError
        If two tensors would have one name, or a language model has a tensor that llama.cpp does not know.
    """
    if checkpoint.gguf is not None:
        found = checkpoint.gguf.keys.get("general.architecture")
        architecture = str(found.value) if found is not None else "unknown"
        same = {name: name for name in checkpoint.tensors}
        remark = "What loads the GGUF file that this was made from may load it too."
        return Family(architecture, same, _readers_of_file(checkpoint, architecture), remark)
    known = architecture_of_config(checkpoint.config)
    if known is not None and known.llama_cpp is not None:
        return _language_model(checkpoint, known, known.llama_cpp)
    names = _without_prefix(checkpoint)
    signed = architecture_of_tensors(set(names.values()))
    # Some signs are in a late block, which a small model has not; one that was renamed needs none.
    original = signed or (known if checkpoint.parts is not None else None)
    if original is not None and original.gguf:
        return Family(original.gguf, names, _readers(checkpoint, original))
    # Where diffusers' names are the original ones, only signs tell a model that is whole.
    if known is not None and known.gguf and (known.original_names or known.readers_of("gguf", "diffusers")):
        other = (
            "use the original names, the default of this target"
            if _can_have_original_names(checkpoint)
            else "export the original single-file checkpoint"
        )
        program = next(
            (title_of(reader.program) for reader in known.readers_of("gguf", "original")), "others"
        )
        remark = f"The tensors have diffusers' names; for {program} {other}."
        return Family(known.gguf, names, known.readers_of("gguf", "diffusers"), remark)
    architecture = re.sub(r"[^a-z0-9_-]+", "_", (checkpoint.architecture or "unknown").lower())
    return Family(architecture, names)


def _can_have_original_names(checkpoint: Checkpoint) -> bool:
    try:
        return originally_named(checkpoint) is not None
    except ValidationError:  # a tensor has no place in the original checkpoint
        return False


def _readers_of_file(checkpoint: Checkpoint, architecture: str) -> tuple[Reader, ...]:
    """What loads a GGUF file of an architecture that was made from another."""
    if architecture in gguf.MODEL_ARCH_NAMES.values():
        return (Reader("llama.cpp", names="llama.cpp"),)
    found = next((one for one in known_architectures() if one.gguf == architecture), None)
    return () if found is None else _readers(checkpoint, found)


def _readers(checkpoint: Checkpoint, architecture: Architecture) -> tuple[Reader, ...]:
    """What loads a file of an architecture under its original names."""
    heads, size = (checkpoint.config.get(key) for key in ("num_attention_heads", "attention_head_dim"))
    width = heads * size if isinstance(heads, int) and isinstance(size, int) else None
    return tuple(
        reader
        for reader in architecture.readers_of("gguf", "original")
        if reader.width is None or width in (None, reader.width)
    )


def _without_prefix(checkpoint: Checkpoint) -> dict[str, str]:
    prefix = checkpoint.denoiser_prefix or DENOISER_PREFIX
    return _distinct(checkpoint, {name: name.removeprefix(prefix) for name in checkpoint.tensors})


def _language_model(checkpoint: Checkpoint, architecture: Architecture, needs: LlamaCpp) -> Family:
    config = checkpoint.config
    blocks = config.get("num_hidden_layers", config.get("n_layers"))
    heads = config.get("num_attention_heads", config.get("n_heads"))
    kv_heads = config.get("num_key_value_heads", config.get("n_kv_heads")) or heads
    if not all(isinstance(count, int) and 0 < count < 10_000 for count in (blocks, heads, kv_heads)):
        raise ValidationError(
            f"{checkpoint.path}: config.json does not say how many layers and heads the model has, which its GGUF "
            "file must.",
            path=checkpoint.path,
        )
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.gguf)
    table = gguf.get_tensor_name_map(kind, blocks)
    names, interleaved = {}, {}
    for name, tensor in checkpoint.tensors.items():
        found = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ValidationError(
                f"{checkpoint.path}: tensor {name!r} has no place in llama.cpp's "
                f"{architecture.gguf}. Leave it out of the checkpoint, or choose another target.",
                path=checkpoint.path,
                tensor=name,
            )
        names[name] = found
        count = {"attn_q": heads, "attn_k": kv_heads}.get(found.split(".")[-2])
        if needs.is_interleaved and count is not None:
            if tensor.shape[0] % (2 * count):
                raise ValidationError(
                    f"{checkpoint.path}: the {tensor.shape[0]} rows of {name!r} are not {count} heads.",
                    path=checkpoint.path,
                    tensor=name,
                )
            interleaved[name] = count
    return Family(
        architecture.gguf,
        _distinct(checkpoint, names),
        architecture.readers_of("gguf", "llama.cpp"),
        language_model=needs,
        heads=interleaved,
    )


def _distinct(checkpoint: Checkpoint, names: dict[str, str]) -> dict[str, str]:
    owners: dict[str, str] = {}
    for name, stored in names.items():
        if stored in owners:
            raise ValidationError(
                f"{checkpoint.path}: tensors {owners[stored]!r} and {name!r} would both be called {stored!r}.",
                path=checkpoint.path,
                tensor=name,
            )
        owners[stored] = name
    return names
