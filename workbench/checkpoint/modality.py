"""What a model generates, text, code, images or sound, and how that is known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workbench.architectures import DENOISER_PREFIX, Medium, architecture_named, architecture_of_tensors
from workbench.checkpoint.strict_json import quote


@dataclass(frozen=True)
class Modality:
    """What a model generates, with the evidence."""

    value: Medium
    """Video counts as image."""
    evidence: str
    """A sentence that says how this is known."""


# The generic rules. Sound comes first: AudioLDM's denoiser is a UNet, Stable Audio's a DiT.
_CLASSES: tuple[tuple[Medium, str], ...] = (
    ("audio", r"audio|music|speech|sound|voice|waveform|vocoder|tts|riffusion|ace_?step"),
    ("text", r"llada|^dream(model|for\w+)?$|mdlm|sedd|CausalLM|MaskedLM|LMHead|llama|mistral|bert|gpt"),
    ("text", r"^(qwen|gemma|phi)[\d_.]*(moe)?$|t5encoder"),
    ("image", r"unet|dit(?![a-z])|transformer[23]d|pixart|stable-?_?diffusion|sd3|sdxl|flux|wan(?![a-z])"),
    ("image", r"hunyuan|video|image|lumina|sana|chroma|kandinsky|ltx|mochi|cosmos|aura|ddpm|ddim|latent|vae"),
    ("image", r"autoencoder"),
)

_NAMES: tuple[tuple[Medium, str], ...] = (
    ("audio", r"to_waveform|audio|\bmel_|vocoder"),
    ("image", r"diffusion_model\.|(double|single|down|up|input|output|transformer)_blocks\.|pos_embed\.proj"),
    ("image", r"x_embedder|patch_embed|final_layer\.|scale_shift_table|conv_in\."),
    ("text", r"embed_tokens|lm_head|\bwte\b|word_embeddings|tok_embeddings"),
)

_CODE = re.compile(r"(?<!de)(?<!en)coder|(?<![a-z])code(?![a-z])", re.IGNORECASE)


def detect_modality(
    *,
    pipeline: Mapping[str, object],
    config: Mapping[str, object],
    metadata: Mapping[str, str],
    names: Iterable[str],
    title: str = "",
) -> Modality:
    """Tell what a model generates, from the strongest evidence there is.

    Parameters
    ----------
    pipeline : mapping
        model_index.json of a diffusers folder, or empty.
    config : mapping
        config.json of the component, or empty.
    metadata : mapping of str to str
        ``__metadata__`` of the safetensors files.
    names : iterable of str
        The tensors' names.
    title : str, optional
        What the model is called, such as its folder's name; tells code from text.

    Returns
    -------
    Modality
        From model_index.json, else config.json (``architectures``, ``_class_name``, ``model_type``), else the
        metadata (``modelspec.architecture``), else the tensors' names, else ``"unknown"``.
    """
    for source, field, value in _statements(pipeline, config, metadata):
        medium = _medium_of_class(value)
        if medium != "unknown":
            evidence = f"{source} has {field} = {quote(value)}"
            return _tell_code(medium, evidence, (value, config.get("_name_or_path"), title))
    found = list(names)
    family = architecture_of_tensors({name.removeprefix(DENOISER_PREFIX) for name in found})
    if family is not None and family.medium != "unknown":
        evidence = f"its tensors are those of {family.name}"
        return _tell_code(family.medium, evidence, (config.get("_name_or_path"), title))
    for medium, pattern in _NAMES:
        name = next((name for name in found if re.search(pattern, name, re.IGNORECASE)), None)
        if name is not None:
            evidence = f"there is a tensor named {quote(name)}"
            return _tell_code(medium, evidence, (config.get("_name_or_path"), title))
    return Modality(
        "unknown", "neither configuration, metadata nor tensor names tell what the model generates"
    )


def _statements(
    pipeline: Mapping[str, object], config: Mapping[str, object], metadata: Mapping[str, str]
) -> Iterable[tuple[str, str, str]]:
    architectures = config.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else None
    for source, field, value in (
        ("model_index.json", "_class_name", pipeline.get("_class_name")),
        ("config.json", "architectures", first),
        ("config.json", "_class_name", config.get("_class_name")),
        ("config.json", "model_type", config.get("model_type")),
        ("the safetensors metadata", "modelspec.architecture", metadata.get("modelspec.architecture")),
    ):
        if isinstance(value, str):
            yield source, field, value


def _medium_of_class(name: str) -> Medium:
    family = architecture_named(name)
    if family is not None and family.medium != "unknown":
        return family.medium
    return next(
        (medium for medium, pattern in _CLASSES if re.search(pattern, name, re.IGNORECASE)), "unknown"
    )


def _tell_code(medium: Medium, evidence: str, titles: Iterable[object]) -> Modality:
    if medium == "text":
        for title in titles:
            if isinstance(title, str) and _CODE.search(title):
                return Modality("code", f"{evidence}, and the model is called {quote(title)}")
    return Modality(medium, evidence)
