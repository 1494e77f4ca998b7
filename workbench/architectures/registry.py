"""The families that are known, and which of them a checkpoint is."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from workbench.architectures.aura_flow import AURA_FLOW
from workbench.architectures.cosmos import COSMOS
from workbench.architectures.dit import DIT
from workbench.architectures.dream import DREAM
from workbench.architectures.flux import FLUX
from workbench.architectures.hidream import HIDREAM
from workbench.architectures.hunyuan_video import HUNYUAN_VIDEO
from workbench.architectures.llada import LLADA
from workbench.architectures.llama import LLAMA
from workbench.architectures.ltx_video import LTX_VIDEO
from workbench.architectures.lumina import LUMINA
from workbench.architectures.pixart import PIXART
from workbench.architectures.qwen_image import QWEN_IMAGE
from workbench.architectures.record import Architecture
from workbench.architectures.sd3 import SD3
from workbench.architectures.stable_audio import STABLE_AUDIO
from workbench.architectures.stable_diffusion import SD1, SDXL, UNET
from workbench.architectures.wan import WAN
from workbench.errors import ValidationError

ARCHITECTURES: tuple[Architecture, ...] = (
    FLUX,
    SD3,
    AURA_FLOW,
    HIDREAM,
    COSMOS,
    LTX_VIDEO,
    HUNYUAN_VIDEO,
    WAN,
    QWEN_IMAGE,
    SDXL,
    SD1,
    LUMINA,
    UNET,
    DIT,
    PIXART,
    STABLE_AUDIO,
    LLAMA,
    DREAM,
    LLADA,
)
"""The families that this package comes with. The first whose signs are all there counts, as in ComfyUI-GGUF."""

DENOISER_PREFIX = "model.diffusion_model."
"""Before the names of a denoiser within a single-file checkpoint of a whole pipeline."""

_DENOISER_NAMES = re.compile(
    r"(?:\w*double_(?:stream_)?(?:blocks|layers)|\w*single_(?:stream_|transformer_)?(?:blocks|layers)|joint_blocks"
    r"|\w*transformer_blocks|down_blocks|up_blocks|mid_block|input_blocks|middle_block|output_blocks|blocks"
    r"|\w+_refiner|x_embedder|img_in|patch_embed\w*|pos_embed)\."
)
"""How the names of a denoiser begin, in diffusers and in the original checkpoints: the generic rule."""

_registered: list[Architecture] = []


def known_architectures() -> tuple[Architecture, ...]:
    """All families: those that were registered, then those of this package."""
    return (*_registered, *ARCHITECTURES)


def register(architecture: Architecture) -> None:
    """Add a family, for the rest of this process.

    Parameters
    ----------
    architecture : Architecture

    Raises
    ------
    ValidationError
        If a known family has its name, or one of its classes.
    """
    for other in known_architectures():
        taken = {other.name.lower(), *_words(other)} & {architecture.name.lower(), *_words(architecture)}
        if taken:
            raise ValidationError(
                f"The architecture {architecture.name!r} cannot be registered: {other.name!r} is known already by "
                f"{', '.join(sorted(taken))}. Give it a name, classes and model_types of its own."
            )
    _registered.insert(0, architecture)


def unregister(architecture: Architecture) -> None:
    """Take back a family that was registered."""
    _registered.remove(architecture)


def _words(architecture: Architecture) -> set[str]:
    return {name.lower() for name in (*architecture.classes, *architecture.model_types)}


def class_of(config: Mapping[str, Any]) -> str | None:
    """The model's class by its config.json, such as ``"DiTTransformer2DModel"``; None where it names none."""
    architectures = config.get("architectures")
    name = config.get("_class_name") or (
        architectures[0] if isinstance(architectures, list) and architectures else None
    )
    return name if isinstance(name, str) else None


def architecture_named(word: str) -> Architecture | None:
    """The family of a class or a ``model_type``; case does not count."""
    return next((one for one in known_architectures() if word.lower() in _words(one)), None)


def architecture_of_config(config: Mapping[str, Any]) -> Architecture | None:
    """The family of a config.json, by its class, else by its ``model_type``."""
    for word in (class_of(config), config.get("model_type")):
        found = architecture_named(word) if isinstance(word, str) else None
        if found is not None:
            return found
    return None


def architecture_of_tensors(names: Collection[str]) -> Architecture | None:
    """The family of tensors, by names that only it has."""
    found = names if isinstance(names, (set, frozenset, Mapping)) else set(names)
    return next(
        (
            one
            for one in known_architectures()
            if any(all(sign in found for sign in signs) for signs in one.signs)
        ),
        None,
    )


def recognise(config: Mapping[str, Any], tensors: Collection[str]) -> Architecture | None:
    """The family of a checkpoint.

    Parameters
    ----------
    config : mapping
        Its config.json, or empty.
    tensors : collection of str
        The names of its tensors, as in a file of this model alone.

    Returns
    -------
    Architecture or None
        By the configuration, else by the tensors; None for a family that is not known.
    """
    return architecture_of_config(config) or architecture_of_tensors(tensors)


def is_denoiser_name(tensor: str) -> bool:
    """Whether a tensor's name begins as those of a denoiser do, of any family."""
    own = tuple(f"{name}." for one in known_architectures() for name in one.lists)
    return _DENOISER_NAMES.match(tensor) is not None or tensor.startswith(own)


def is_high_precision(tensor: str) -> bool:
    """Whether a tensor stays float32 in a GGUF file whatever its shape, by its name in any family."""
    patterns = tuple(one.high_precision for one in known_architectures() if one.high_precision)
    return _any_of(patterns).search(tensor) is not None


@lru_cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
