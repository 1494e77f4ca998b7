"""What a tensor is for, by its name: by the rules of its family, then by generic ones.

The generic rules know the words that modelling code has for its modules: diffusers' and transformers', those of the
original repositories of single-file checkpoints (DiT, Stable Diffusion, Flux, Wan, HunyuanVideo), and llama.cpp's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from workbench.architectures.record import Architecture
from workbench.architectures.registry import ARCHITECTURES
from workbench.plan import Role

_FEED_FORWARD = r"\b((\w+_)?ff[nd]?(_\w+)?|\w*mlp|feed_?forward\w*)\.(net\.)?"

_RULES: tuple[tuple[Role, str], ...] = (
    # The first pattern found in the module's name decides, so the specific stand before the general.
    ("embedding", r"\bclass_embedding$"),
    # Modulation: linears, and PixArt's and Wan's tables, that turn conditioning into shifts and scales.
    ("modulation", r"\b\w*norm\w*\.linear(_\d+)?$"),  # diffusers' adaLN: norm1.linear, norm_out.linear
    ("modulation", r"\badaln\w*\.(linear|\d+)$"),  # PixArt: adaln_single.linear; DiT: adaLN_modulation.1
    ("modulation", r"\b\w*mod\.(lin|linear|\d+)$|modulation"),  # Flux, HunyuanVideo and Wan; Qwen-Image
    ("modulation", r"scale_shift(_table|\.linear)$"),
    # Embedders of time, guidance, size and pooled text: small MLPs of one vector per sample.
    ("time_embed", r"\b(t|\w*time\w*|guidance|resolution|aspect_ratio)_embed\w*\b"),
    ("time_embed", r"\btime_emb_proj$|\btime_?step_proj\b|\bemb_layers\.\d+$"),
    ("time_embed", r"\b(time|vector|guidance)_in\b"),  # Flux as published
    ("time_embed", r"\b(add|class|label|cond|augment|pooled\w*)_(emb|embed\w*|proj\w*)\b"),  # SDXL
    # The last projection of the whole model.
    ("head", r"^(proj_out|conv_out|head(\.head)?|out\.\d+|output_proj\w*)$|\b(lm_head|embed_out)$"),
    ("head", r"\bfinal_layer\.(linear|proj\w*)$"),
    # Attention, before embeddings: a text refiner's attention sits inside the context embedder.
    ("attention.q", r"\b(\w*qkv(_proj)?|to_q(_\w+)?|add_q_proj|q|q_proj|(to_)?query|wq)$"),
    ("attention.q", r"\b(att_proj|c_attn|in_proj|query_key_value)$"),
    ("attention.k", r"\b(to_k(_\w+)?|add_k_proj|k|k_proj|(to_)?key|wk|(to_)?kv(_proj)?)$"),
    ("attention.v", r"\b(to_v(_\w+)?|add_v_proj|v|v_proj|(to_)?value|wv)$"),
    ("attention.out", r"\b(to_out(\.\d+)?|to_add_out|o|o_proj|out_proj|wo|attn_out|\w*attn_proj)$"),
    ("attention.out", r"\b\w*att(n|ention)\w*\.(proj(_out)?|c_proj|out_layer|output\.dense)$|\bproj_attn$"),
    # MLPs. Flux's single-stream blocks fuse: linear1 is qkv and MLP in, linear2 attention out and MLP out.
    ("mlp.in", r"\b(gate_proj|up_proj|gate_up_proj|ff_proj|w1|w3|fc1|c_fc|wi(_\d)?|proj_mlp|linear1)$"),
    ("mlp.in", r"\b(conv_inverted|intermediate\.dense)$"),
    ("mlp.out", r"\b(down_proj|ff_out|w2|fc2|linear2|conv_point|mlp\.c_proj|output\.dense)$"),
    # Projections of the model's inputs (tokens, patches, captions, images), their small MLPs included, but
    # not the blocks that an embedder may hold (HunyuanVideo's token refiner).
    ("embedding", r"\b(embed_tokens|wte|wpe|word_embeddings?|\w*position_embeddings?|shared|embed_in)$"),
    ("embedding", r"\brelative_attention_bias$"),
    (
        "embedding",
        r"\b(tok\w*|pos(ition)?|patch|text|context|cap(tion)?|image|img|x|y)_emb(?!.*_blocks\.)",
    ),
    ("embedding", r"\b(caption_projection|encoder_hid_proj|img_in|txt_in|conv_in|input_blocks\.0\.0)\b"),
    ("embedding", r"\b(cls|class|mask|register)_tokens?$|\bpositional_embedding$"),
    # Pointwise projections around a UNet's transformers: 1x1 convolutions, or the same as linears (SDXL).
    ("conv", r"\b(\w*attentions|motion_modules)\.\d+\.proj_(in|out)$"),
    ("conv", r"\b(input_blocks\.\d+|middle_block|output_blocks\.\d+)\.\d+\.proj_(in|out)$"),
    ("embedding", r"\bproj_in$"),
    ("mlp.in", _FEED_FORWARD + r"(0(\.proj)?|linear_[13]|linear_in|in_layer|gate\w*|up|proj)$"),
    ("mlp.out", _FEED_FORWARD + r"([1-9]|linear_2|linear_out|out\w*|down|proj_out)$"),
    # llama.cpp's names, which it writes to a GGUF file.
    ("attention.q", r"\battn_q$"),
    ("attention.k", r"\battn_k$"),
    ("attention.v", r"\battn_v$"),
    ("attention.out", r"\battn_output$"),
    ("mlp.in", r"\bffn_(gate|up)$"),
    ("mlp.out", r"\bffn_down$"),
    ("head", r"^output$"),
)

Rules = tuple[tuple[Role, re.Pattern[str]], ...]


def _compiled(rules: Iterable[tuple[Role, str]]) -> Rules:
    return tuple((role, re.compile(pattern, re.IGNORECASE)) for role, pattern in rules)


_GENERIC = _compiled((*(rule for one in ARCHITECTURES for rule in one.roles), *_RULES))
"""The rules for any checkpoint. Those of a family go first: its own words have one meaning wherever they stand, such as
in a file without a configuration."""


@lru_cache
def _rules_of(architecture: Architecture | None) -> Rules:
    return _GENERIC if architecture is None else (*_compiled(architecture.roles), *_GENERIC)


_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.|model\.diffusion_model\.|diffusion_model\.|model\.)+")

_NORM = re.compile(
    r"(?:^|_)(?:ada|layer|group|batch|rms|instance|q|k)?_?norm\d*(?:_|$)|layernorm|^ln(?:_|\d|$)|_ln\d*$",
    re.IGNORECASE,
)
_NOT_NORM = re.compile(r"lin(?:ear)?(?:$|_|\d)|proj|conv(?!_norm)|(?:^|_)(?:fc|mlp)|embed", re.IGNORECASE)

_TABLE = re.compile(
    r"\b(?:embed_tokens|wte|wpe|(?!\w*proj)(?:\w+_)?embeddings?|token_embedding|shared|embed_in|embedding_table"
    r"|relative_attention_bias|cond_type_embed|(?:label|class|tok|token)_emb)$",
    re.IGNORECASE,
)


def module_of(tensor: str) -> str:
    """The name of the module that owns a tensor, without wrappers such as ``model.diffusion_model``.

    Parameters
    ----------
    tensor : str
        The tensor's name.

    Returns
    -------
    str
        The name without ``.weight``, ``.bias`` and the like; the name of a bare parameter is kept whole.
    """
    return re.sub(r"\.(?:weight|bias|scale|gamma|beta)$", "", _WRAPPERS.sub("", tensor))


def role_of(tensor: str, architecture: Architecture | None = None) -> Role:
    """The role of a tensor, by its name.

    Parameters
    ----------
    tensor : str
        The tensor's name; a bias has the role of its weight.
    architecture : Architecture, optional
        Its family.

    Returns
    -------
    Role
        ``"norm"`` for the gain and bias of a norm, ``"other"`` when no rule knows the name.
    """
    if is_norm(tensor):
        return "norm"
    module = module_of(tensor)
    return next((role for role, pattern in _rules_of(architecture) if pattern.search(module)), "other")


def is_norm(tensor: str) -> bool:
    """Whether a tensor belongs to a norm itself, by the last part of its module's name.

    ``norm1.weight`` does; ``norm1.linear.weight`` does not: it is the linear of an adaLN.

    Parameters
    ----------
    tensor : str
        The tensor's name.

    Returns
    -------
    bool
    """
    owner = module_of(tensor).rpartition(".")[2]
    return _NORM.search(owner) is not None and _NOT_NORM.search(owner) is None


def is_table(tensor: str) -> bool:
    """Whether a 2-D weight is an embedding's table rather than a linear's matrix, which shapes cannot tell.

    Parameters
    ----------
    tensor : str
        The tensor's name.

    Returns
    -------
    bool
    """
    return _TABLE.search(module_of(tensor)) is not None
