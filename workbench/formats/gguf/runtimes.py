"""What loads a GGUF file, judged by what is in it: names, types, shapes and keys of its tensors."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from workbench.architectures import DENOISER_PREFIX
from workbench.checkpoint.readers.gguf_file import GgufKey
from workbench.formats.gguf.families import COMFYUI_NAME_BYTES, LLAMA_NAME_BYTES, Family, title_of
from workbench.formats.gguf.tensors import Stored
from workbench.formats.gguf.tokenizer import has_tokenizer
from workbench.quantize.ggml import FORMATS

_TYPES = frozenset({"F32", "F16", "BF16", *FORMATS})
"""The types that loaders of images' models decode."""

_OF_OTHER_MODELS = re.compile(
    r"^(first_stage_model|cond_stage_model|conditioner|text_encoders?|text_model|vae|model_ema|denoiser)\."
)
"""Names within an all-in-one file of what is not the denoiser's."""


@dataclass(frozen=True)
class Runtimes:
    """The programs that load a file, and what is to be said of it."""

    loaders: tuple[str, ...]
    """Those known to load it, see `title_of`."""
    notes: tuple[str, ...]
    """Sentences: who loads it, and why another of its family's programs does not."""


def runtimes_of(family: Family, tensors: Collection[Stored], keys: Mapping[str, GgufKey]) -> Runtimes:
    """What loads a file of a family, by what it will contain.

    Parameters
    ----------
    family : Family
    tensors : collection of Stored
        All that is in the file.
    keys : mapping of str to GgufKey
        Its keys.
    """
    obstacles = {name: _obstacle(name, tensors, keys) for name in family.loaders}
    loaders = tuple(name for name, obstacle in obstacles.items() if obstacle is None)
    return Runtimes(loaders, tuple(_sentences(family, tensors, loaders, obstacles)))


def _sentences(
    family: Family,
    tensors: Collection[Stored],
    loaders: tuple[str, ...],
    obstacles: Mapping[str, str | None],
) -> Iterator[str]:
    if loaders:
        found = ", ".join(title_of(name) for name in loaders)
        if family.language_model is not None:
            found += " (llama-diffusion-cli)"
        yield f"Known to load {family.architecture} files: {found}."
    elif not family.loaders:
        yield "No runtime is known to load GGUF files of this architecture; workbench.load does."
    else:
        yield "No runtime is known to load this file; workbench.load does."
    by_reason: dict[str, list[str]] = {}
    for name, obstacle in obstacles.items():
        if obstacle is not None:
            by_reason.setdefault(obstacle, []).append(title_of(name).partition(" ")[0])
    for reason, programs in by_reason.items():
        yield f"Not known to load it: {', '.join(programs)}, for {reason}."
    if family.remark:
        yield family.remark
    longest, size = _longest_name(tensors)
    is_named = bool(family.loaders) and (size > COMFYUI_NAME_BYTES or "llama.cpp" in family.loaders)
    if size > LLAMA_NAME_BYTES and not is_named:
        yield (
            f"The name {longest!r} has {size} bytes, more than {LLAMA_NAME_BYTES}: tools that are built on llama.cpp "
            "cannot load the file."
        )


def _longest_name(tensors: Collection[Stored]) -> tuple[str, int]:
    """The longest name in bytes, and how many it has."""
    longest = max((stored.name for stored in tensors), key=lambda name: len(name.encode()), default="")
    return longest, len(longest.encode())


def _obstacle(program: str, tensors: Collection[Stored], keys: Mapping[str, GgufKey]) -> str | None:
    """Why a program does not load a file of a family that it reads; None where it does."""
    most = LLAMA_NAME_BYTES if program == "llama.cpp" else COMFYUI_NAME_BYTES
    longest, size = _longest_name(tensors)
    if size > most:
        return f"the name {longest!r} has {size} bytes, and no more than {most} are read"
    if program == "llama.cpp":
        if not has_tokenizer(keys):
            return (
                "it requires tokenizer.ggml.model, and no tokenizer was found; put tokenizer.json, or vocab.json and "
                "merges.txt, beside the weights, or start from an F16 GGUF that has one"
            )
        return None
    others = [stored.name for stored in tensors if _OF_OTHER_MODELS.match(stored.name)]
    if others and not any(stored.name.startswith(DENOISER_PREFIX) for stored in tensors):
        return f"{len(others)} tensors are not the denoiser's, such as {others[0]!r}"
    unread = next((stored for stored in tensors if stored.kind not in _TYPES), None)
    if unread is not None:
        return f"the type {unread.kind} of {unread.name!r} is not one that is decoded"
    reshaped = next((stored for stored in tensors if stored.shape != (stored.source.shape or (1,))), None)
    if reshaped is not None and program != "comfyui":
        return f"{reshaped.name!r} is stored with fewer axes, and only ComfyUI-GGUF restores its shape"
    return None
