"""Names without the wrappers that training code left in them, such as ``_orig_mod.`` of torch.compile.

A model that is saved from inside a wrapper has the wrapper's attribute before every name, or in the middle where only
blocks were wrapped. No runtime knows such names. Prefixes that runtimes do expect are none:
``model.diffusion_model.`` of single-file checkpoints, ``model.layers.`` and ``transformer.h.`` of language models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from workbench.architectures import is_denoiser_name
from workbench.errors import ValidationError

_ANYWHERE: Mapping[str, str] = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_fpw_module": "fairscale",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
}
"""Parts of a name that only a wrapper has, and whose it is."""

_FIRST: Mapping[str, str] = {
    "module": "DataParallel",
    "model": "",
    "net": "",
    "network": "",
    "ema": "",
    "ema_model": "",
    "online_model": "",
    "student": "",
    "generator": "",
    "denoiser": "",
    "dit": "",
    "unet": "",
    "transformer": "",
    "diffusion_model": "",
    "base_model": "PEFT",
}
"""First parts that all names may have in common: the attributes under which training code keeps its model."""

_LANGUAGE = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|wpe|word_embeddings?|tok_embeddings|lm_head|ff_out)\.weight$"
)
"""Tensors of a language model, whose first parts are transformers' own."""

_EXPECTED = ("model.diffusion_model.", "model.model.")
"""Prefixes that begin like a wrapper and are expected by runtimes."""


def unwrapped_names(names: Iterable[str], path: Path, *, is_language_model: bool = False) -> dict[str, str]:
    """The names without wrappers, by the names that the files have, in their order.

    Parameters
    ----------
    names : iterable of str
        All tensors' names.
    path : Path
        The checkpoint, for the message.
    is_language_model : bool, optional
        The configuration is transformers': ``model.`` and ``transformer.`` are no wrappers.

    Raises
    ------
    ValidationError
        If two tensors would have one name; names both.
    """
    found = {name: _without_inner(name) for name in names}
    while first := _common_first(found.values(), is_language_model):
        found = {name: _without_inner(clean.removeprefix(first)) for name, clean in found.items()}
    owners: dict[str, str] = {}
    for name, clean in found.items():
        if clean in owners:
            raise ValidationError(
                f"{path}: tensors {owners[clean]!r} and {name!r} are both {clean!r} without the wrapper in their "
                "names. Keep one of the two: save the model again without its wrapper.",
                path=path,
                tensor=name,
            )
        owners[clean] = name
    return found


def describe_wrappers(names: Mapping[str, str]) -> str | None:
    """A sentence on the wrappers in names, None where there are none; `names` are those of `unwrapped_names`."""
    changed = [(name, clean) for name, clean in names.items() if name != clean]
    if not changed:
        return None
    parts: dict[str, str] = {}
    for name, clean in changed:
        rest = clean.split(".")
        for part in name.split("."):
            if rest and part == rest[0]:
                rest.pop(0)
            else:
                parts.setdefault(part, _ANYWHERE.get(part) or _FIRST.get(part) or "")
    listed = ", ".join(f"{part}. of {whose}" if whose else f"{part}." for part, whose in parts.items())
    name, clean = changed[0]
    base = (
        " The adapter that base_layer. speaks of is not in the file: these are the weights without it."
        if "base_layer" in parts
        else ""
    )
    return (
        f"{len(changed)} of {len(names)} names of tensors carry a wrapper that no runtime knows ({listed}). Layers and "
        f"exports go by the names without it: {clean} for {name}.{base}"
    )


def _without_inner(name: str) -> str:
    if not any(wrapper in name for wrapper in (*_ANYWHERE, "base_layer")):
        return name
    parts = name.split(".")
    kept = []
    for place, part in enumerate(parts):
        beside = parts[max(place - 1, 0) : place + 2]
        # DataParallel around or inside another wrapper, anywhere; alone, "module" may be the model's own.
        is_wrapper = part in _ANYWHERE or (part == "module" and any(other in _ANYWHERE for other in beside))
        if not is_wrapper and part != "base_layer":
            kept.append(part)
    return ".".join(kept)


def _common_first(names: Iterable[str], is_language_model: bool) -> str | None:
    """The first part that all names have in common, with its dot, where it is a wrapper's."""
    names = list(names)
    if not names:
        return None
    first, dot, _ = names[0].partition(".")
    prefix = first + dot
    if not dot or first not in _FIRST or not all(name.startswith(prefix) for name in names):
        return None
    if first in ("module", "base_model"):
        return prefix
    if is_language_model or any(name.startswith(_EXPECTED) for name in names):
        return None
    inner = [name.removeprefix(prefix) for name in names]
    if any(_LANGUAGE.search(name) for name in inner):
        return None
    # Several wrappers may stand one in another.
    is_denoiser = any(is_denoiser_name(name) for name in inner) or _common_first(inner, False) is not None
    return prefix if is_denoiser else None
