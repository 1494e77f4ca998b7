"""The models in an all-in-one file, recognised by prefixes: denoiser, autoencoder, text encoders, running averages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.architectures import is_denoiser_name, known_architectures
from workbench.checkpoint.tensors import TensorInfo

DENOISER = "denoiser"
EMA = "EMA copy of the denoiser"
REST = "constants and the rest"

_DENOISERS = ("model.diffusion_model.", "diffusion_model.", "transformer.", "unet.")
"""Before the names of the denoiser; the first that is there counts."""

_OTHERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (EMA, ("model_ema.", "ema_model.", "ema.")),
    ("autoencoder (VAE)", ("first_stage_model.", "vae.", "autoencoder.", "pretransform.")),
    (
        "text encoders",
        (
            "conditioner.", "cond_stage_model.", "text_encoders.", "text_encoder.", "text_encoder_2.",
            "text_encoder_3.", "clip_l.", "clip_g.", "t5xxl.",
        ),
    ),
    ("image encoder", ("clip_vision.", "image_encoder.", "embedder.model.")),
    ("ControlNet", ("control_model.",)),
)  # fmt: skip
"""What else such a file holds, by the prefixes of training code and of ComfyUI."""


@dataclass(frozen=True)
class BundlePart:
    """A model in an all-in-one file, or what else is in it."""

    name: str
    """What it is, such as ``"denoiser"`` or ``"text encoders"``."""
    prefix: str
    """What stands before the names of its tensors; of several, the first one's. Empty where nothing does."""
    tensors: tuple[str, ...]
    """Names of its tensors, in the order of the file."""
    nbytes: int
    """Bytes of them."""

    def __str__(self) -> str:
        count = f"{len(self.tensors)} tensor{'s' if len(self.tensors) > 1 else ''}"
        return f"{self.name} ({count}, {self.nbytes / 1e6:,.3f} MB)"


def find_bundle(tensors: Mapping[str, TensorInfo], config: Mapping[str, object]) -> tuple[BundlePart, ...]:
    """What an all-in-one file is made of, the denoiser first.

    Parameters
    ----------
    tensors : mapping of str to TensorInfo
        All tensors.
    config : mapping
        config.json. One that names a class describes all tensors: then they are one model.

    Returns
    -------
    tuple of BundlePart
        Empty where the tensors are one model, or none of them is a denoiser's.
    """
    if "_class_name" in config or "architectures" in config or "model_type" in config:
        return ()
    groups = {name: found for name in tensors if (found := _other(name)) is not None}
    if not groups:
        return ()
    rest = [name for name in tensors if name not in groups]
    own = [one.bundle_prefix for one in known_architectures() if one.bundle_prefix is not None]
    candidates = (*_DENOISERS, *(found.prefix for found in own if _has(groups, found.beside)))
    prefix = next((prefix for prefix in candidates if any(name.startswith(prefix) for name in rest)), None)
    if prefix is None:
        if not any(is_denoiser_name(name) for name in rest):
            return ()
        prefix = ""
    for name in rest:
        is_denoiser = name.startswith(prefix) if prefix else len(tensors[name].shape) > 1 or "." in name
        groups[name] = (DENOISER, prefix) if is_denoiser else (REST, "")
    order = (DENOISER, *(name for name, _ in _OTHERS), REST)
    return tuple(_part(part, groups, tensors) for part in order if any(g[0] == part for g in groups.values()))


def _other(name: str) -> tuple[str, str] | None:
    for part, prefixes in _OTHERS:
        for prefix in prefixes:
            if name.startswith(prefix):
                return part, prefix
    return None


def _has(groups: Mapping[str, tuple[str, str]], prefix: str) -> bool:
    return any(found == prefix for _, found in groups.values())


def _part(part: str, groups: Mapping[str, tuple[str, str]], tensors: Mapping[str, TensorInfo]) -> BundlePart:
    names = tuple(name for name in tensors if groups[name][0] == part)
    return BundlePart(part, groups[names[0]][1], names, sum(tensors[name].nbytes for name in names))
