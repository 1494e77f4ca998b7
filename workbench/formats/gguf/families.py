"""What a GGUF file must say and call its tensors for each runtime that reads it.

Architectures of images and videos are those of ComfyUI-GGUF (https://github.com/city96/ComfyUI-GGUF), told by tensors
that only they have; those of language models are llama.cpp's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import gguf

from workbench.checkpoint import Checkpoint, originally_named
from workbench.errors import ValidationError

PREFIX = "model.diffusion_model."
"""Before the names of a denoiser within a single-file checkpoint of a whole pipeline."""

_SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("flux", ("double_blocks.0.img_attn.proj.weight",)),
    ("sd3", ("joint_blocks.0.x_block.attn.qkv.weight",)),
    ("aura", ("double_layers.3.modX.1.weight",)),
    (
        "hidream",
        ("caption_projection.0.linear.weight", "double_stream_blocks.0.block.ff_i.shared_experts.w3.weight"),
    ),
    ("cosmos", ("blocks.0.mlp.layer1.weight", "blocks.0.adaln_modulation_cross_attn.1.weight")),
    (
        "ltxv",
        (
            "adaln_single.emb.timestep_embedder.linear_2.weight",
            "transformer_blocks.27.scale_shift_table",
            "caption_projection.linear_2.weight",
        ),
    ),
    (
        "hyvid",
        (
            "double_blocks.0.img_attn_proj.weight",
            "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.weight",
        ),
    ),
    ("wan", ("blocks.0.self_attn.norm_q.weight", "text_embedding.2.weight", "head.modulation")),
    (
        "qwen_image",
        (
            "time_text_embed.timestep_embedder.linear_2.weight",
            "transformer_blocks.0.img_mlp.net.0.proj.weight",
        ),
    ),
    (
        "sdxl",
        (
            "input_blocks.3.0.op.weight",
            "input_blocks.6.0.op.weight",
            "output_blocks.2.2.conv.weight",
            "output_blocks.5.2.conv.weight",
        ),
    ),
    ("sdxl", ("label_emb.0.0.weight",)),
    ("sd1", ("input_blocks.3.0.op.weight", "input_blocks.9.0.op.weight", "output_blocks.8.2.conv.weight")),
    ("lumina2", ("cap_embedder.1.weight", "context_refiner.0.attention.qkv.weight")),
)
"""Tensors by which an architecture is known, in the original checkpoints' names."""

_CLASSES: Mapping[str, str] = {
    "FluxTransformer2DModel": "flux",
    "SD3Transformer2DModel": "sd3",
    "AuraFlowTransformer2DModel": "aura",
    "HiDreamImageTransformer2DModel": "hidream",
    "CosmosTransformer3DModel": "cosmos",
    "HunyuanVideoTransformer3DModel": "hyvid",
    "WanTransformer3DModel": "wan",
    "Lumina2Transformer2DModel": "lumina2",
}
"""Diffusers' class of each architecture whose tensors it names differently."""

_LANGUAGE_MODELS: Mapping[str, gguf.MODEL_ARCH] = {
    "dreammodel": gguf.MODEL_ARCH.DREAM,
    "dream": gguf.MODEL_ARCH.DREAM,
    "lladamodellm": gguf.MODEL_ARCH.LLADA,
    "lladamodel": gguf.MODEL_ARCH.LLADA,
    "llada": gguf.MODEL_ARCH.LLADA,
}
"""llama.cpp's architecture by class or model_type, in lower case."""

_DIFFUSERS_READS = frozenset(
    {"flux", "sd3", "aura", "hidream", "cosmos", "ltxv", "hyvid", "wan", "lumina2", "qwen_image"}
)
_STABLE_DIFFUSION_CPP_READS = frozenset({"sd1", "sdxl", "sd3", "flux", "wan", "qwen_image"})
_CONVERTED_AT_ONE_WIDTH, _CONVERTED_WIDTH = frozenset({"flux", "hyvid"}), 3072
"""Architectures whose original names diffusers converts to its own only at the width of the published models."""

_HIGH_PRECISION = re.compile(
    r"\.ff_i\.gate\.weight$|(^|\.)img_emb\.emb_pos$|pos_embedder|\.modulation$|scale_shift_table"
)
"""Parameters that ComfyUI reads as float32 only: tables and gates that are no module's weight."""

MAX_DIMS = 4
"""Dimensions that a GGUF tensor may have for ggml."""

LLAMA_NAME_BYTES = 63
"""Longest name of a tensor that llama.cpp reads."""

COMFYUI_NAME_BYTES = 127
"""Longest name of a tensor that ComfyUI-GGUF reads."""


@dataclass(frozen=True)
class Family:
    """How a checkpoint is written for its runtimes."""

    architecture: str
    """``general.architecture``."""
    names: Mapping[str, str]
    """The name in the file of each tensor of the checkpoint."""
    loaders: tuple[str, ...] = ()
    """Programs that read such files, keys of `workbench.formats.gguf.runtimes.PROGRAMS`; whether they load this one
    depends on what is in it."""
    remark: str = ""
    """A sentence on how another program could load it."""
    language_model: gguf.MODEL_ARCH | None = None
    """llama.cpp's architecture, of a language model."""
    heads: Mapping[str, int] | None = None
    """Tensors whose rows llama.cpp has interleaved within each head, with the number of heads."""


def is_high_precision(name: str) -> bool:
    """Whether a tensor stays float32 whatever its shape."""
    return _HIGH_PRECISION.search(name) is not None


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
        return Family(architecture, same, _loaders_of(checkpoint, architecture), remark)
    for word in (checkpoint.architecture, checkpoint.config.get("model_type")):
        if isinstance(word, str) and word.lower() in _LANGUAGE_MODELS:
            return _language_model(checkpoint, _LANGUAGE_MODELS[word.lower()])
    names = _without_prefix(checkpoint)
    known = set(names.values())
    by_class = _CLASSES.get(checkpoint.architecture or "")
    signed = next((name for name, signs in _SIGNS if all(sign in known for sign in signs)), None)
    # Some signs are in a late block, which a small model has not; one that was renamed needs none.
    original = signed or (by_class if checkpoint.parts is not None else None)
    if original is not None:
        return Family(original, names, _loaders_of(checkpoint, original))
    if by_class is not None:
        other = (
            "use the original names, the default of this target"
            if _can_have_original_names(checkpoint)
            else "export the original single-file checkpoint"
        )
        remark = f"The tensors have diffusers' names; for ComfyUI-GGUF {other}."
        return Family(by_class, names, ("diffusers",), remark)
    architecture = re.sub(r"[^a-z0-9_-]+", "_", (checkpoint.architecture or "unknown").lower())
    return Family(architecture, names)


def _can_have_original_names(checkpoint: Checkpoint) -> bool:
    try:
        return originally_named(checkpoint) is not None
    except ValidationError:  # a tensor has no place in the original checkpoint
        return False


def _loaders_of(checkpoint: Checkpoint, architecture: str) -> tuple[str, ...]:
    """What loads a file of an architecture under its original names."""
    if architecture in gguf.MODEL_ARCH_NAMES.values():
        return ("llama.cpp",)
    heads, size = (checkpoint.config.get(key) for key in ("num_attention_heads", "attention_head_dim"))
    width = heads * size if isinstance(heads, int) and isinstance(size, int) else None
    is_converted = architecture not in _CONVERTED_AT_ONE_WIDTH or width in (None, _CONVERTED_WIDTH)
    readers = {
        "comfyui": architecture in {name for name, _ in _SIGNS},
        "stable-diffusion.cpp": architecture in _STABLE_DIFFUSION_CPP_READS,
        "diffusers": architecture in _DIFFUSERS_READS and is_converted,
    }
    return tuple(name for name, reads in readers.items() if reads)


def _without_prefix(checkpoint: Checkpoint) -> dict[str, str]:
    prefix = checkpoint.denoiser_prefix or PREFIX
    return _distinct(checkpoint, {name: name.removeprefix(prefix) for name in checkpoint.tensors})


def _language_model(checkpoint: Checkpoint, architecture: gguf.MODEL_ARCH) -> Family:
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
    table = gguf.get_tensor_name_map(architecture, blocks)
    names, interleaved = {}, {}
    for name, tensor in checkpoint.tensors.items():
        found = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ValidationError(
                f"{checkpoint.path}: tensor {name!r} has no place in llama.cpp's "
                f"{gguf.MODEL_ARCH_NAMES[architecture]}. Leave it out of the checkpoint, or choose another target.",
                path=checkpoint.path,
                tensor=name,
            )
        names[name] = found
        count = {"attn_q": heads, "attn_k": kv_heads}.get(found.split(".")[-2])
        if architecture is gguf.MODEL_ARCH.LLADA and count is not None:
            if tensor.shape[0] % (2 * count):
                raise ValidationError(
                    f"{checkpoint.path}: the {tensor.shape[0]} rows of {name!r} are not {count} heads.",
                    path=checkpoint.path,
                    tensor=name,
                )
            interleaved[name] = count
    return Family(
        gguf.MODEL_ARCH_NAMES[architecture],
        _distinct(checkpoint, names),
        ("llama.cpp",),
        language_model=architecture,
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
