"""Plans from and to the rules that other tools take: which tensor is stored as which type.

========================  =====================================================================================
``llama-quantize``        ``name=type`` lines, as its ``--tensor-type`` (and ``--tensor-type-file``) takes them
``stable-diffusion.cpp``  ``pattern=type,pattern=type``, as its ``--tensor-type-rules`` takes them
``mlx``                   the ``quantization`` of config.json, or a whole config.json
``compressed-tensors``    the ``quantization_config`` of config.json, or a whole config.json
========================  =====================================================================================

The first two name regular expressions, searched for in tensors' names, of which the first that matches counts, and
types by a target's own names of its schemes (https://github.com/ggml-org/llama.cpp, tools/quantize;
https://github.com/leejet/stable-diffusion.cpp, model.cpp). The others name modules, widths and group sizes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.checkpoint import Checkpoint
from workbench.config_sources import read_text
from workbench.errors import ConfigurationError
from workbench.formats.gguf.families import family_of
from workbench.formats.rules_of_configs import (
    compressed_tensors_wishes,
    mlx_wishes,
    write_compressed_tensors,
    write_mlx,
)
from workbench.formats.rules_of_types import parse_llama, parse_stable_diffusion, typed_wishes, write_types
from workbench.formats.target import Target
from workbench.formats.wishes import Naming, Wish
from workbench.plan import Layer, Option, Plan
from workbench.text_file import FileKind


@dataclass(frozen=True)
class RulesFormat:
    """A way in which another tool writes its rules."""

    target: str
    """The target whose plans it speaks of."""
    read: Callable[[str, Sequence[Layer], Naming, str], Mapping[str, Wish]]
    """What a text wishes for each layer that it names."""
    write: Callable[[Plan, Sequence[Layer], Target, Naming], str]
    """A plan as text."""
    holds: Callable[[str], bool]
    """Whether a text is such rules and nothing else, as a whole config.json would be."""


def _llama(text: str, layers: Sequence[Layer], naming: Naming, where: str) -> Mapping[str, Wish]:
    return typed_wishes(parse_llama(text, where), layers, naming, where)


def _stable_diffusion(text: str, layers: Sequence[Layer], naming: Naming, where: str) -> Mapping[str, Wish]:
    return typed_wishes(parse_stable_diffusion(text, where), layers, naming, where)


def _types_only(rules: Sequence[tuple[str, str]]) -> bool:
    return bool(rules) and all(GGML_TYPE.fullmatch(kind) for _, kind in rules)


def _mlx_only(values: Any) -> bool:
    return {"group_size", "bits"} <= set(values) and all(
        name in ("group_size", "bits", "mode")
        or value is False
        or set(value) <= {"group_size", "bits", "mode"}
        for name, value in values.items()
    )


def _compressed_tensors_only(values: Any) -> bool:
    return {"quant_method", "config_groups"} <= set(values) and "model_type" not in values


GGML_TYPE = re.compile(r"(i?q\d\w*|b?f16|f32|f64)", re.IGNORECASE)
"""What GGML calls a type."""

FORMATS: Mapping[str, RulesFormat] = {
    "llama-quantize": RulesFormat(
        "gguf",
        _llama,
        lambda *of: "\n".join(write_types(*of)) + "\n",
        lambda text: _types_only(parse_llama(text, "")),
    ),
    "stable-diffusion.cpp": RulesFormat(
        "gguf",
        _stable_diffusion,
        lambda *of: ",".join(write_types(*of)) + "\n",
        lambda text: _types_only(parse_stable_diffusion(text, "")),
    ),
    "mlx": RulesFormat(
        "mlx", mlx_wishes, lambda *of: _document(write_mlx(*of)), lambda text: _mlx_only(json.loads(text))
    ),
    "compressed-tensors": RulesFormat(
        "compressed-tensors",
        compressed_tensors_wishes,
        lambda *of: _document(write_compressed_tensors(*of)),
        lambda text: _compressed_tensors_only(json.loads(text)),
    ),
}
"""By name."""


def same_name(name: str) -> str:
    """The naming of rules that call tensors as the checkpoint does."""
    return name


RULES_NAMES = ("gguf", "checkpoint")
"""What rules can call tensors: as the GGUF file of an export does, or as the checkpoint."""


def naming_of(checkpoint: Checkpoint, format_name: str, names: str | None = None) -> Naming:
    """What the rules of a format call the tensors of a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
    format_name : str
        One of `FORMATS`.
    names : str, optional
        One of `RULES_NAMES`; by default GGUF's for the tools that work on such files, else the checkpoint's.

    Raises
    ------
    ConfigurationError
        If there are no such names.
    ValidationError
        If the checkpoint's tensors have no names in GGUF.
    """
    chosen = names or ("gguf" if rules_format(format_name).target == "gguf" else "checkpoint")
    if chosen not in RULES_NAMES:
        allowed = ", ".join(RULES_NAMES)
        raise ConfigurationError(
            f"Rules cannot go by the names {chosen!r}; allowed: {allowed}.",
            key="names",
            value=chosen,
            allowed=allowed,
        )
    return family_of(checkpoint).names.__getitem__ if chosen == "gguf" else same_name


def rules_format(name: str) -> RulesFormat:
    """The format of a name.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    if name not in FORMATS:
        allowed = ", ".join(FORMATS)
        raise ConfigurationError(
            f"There is no rules format {name!r}; allowed: {allowed}.",
            key="rules_format",
            value=name,
            allowed=allowed,
        )
    return FORMATS[name]


def rules_file(name: str) -> FileKind:
    """The kind of file that holds the rules of a format, one of `FORMATS`."""
    found = rules_format(name)

    def holds(path: Path) -> bool:
        try:
            return found.holds(read_text(path))
        except (ConfigurationError, ValueError, TypeError, RecursionError):
            return False

    return FileKind(f"a file of rules for {name}", holds)


def read_rules(
    text: str,
    format_name: str,
    layers: Sequence[Layer],
    target: Target,
    otherwise: Mapping[str, Option],
    *,
    where: str = "rules",
    naming: Naming = same_name,
) -> dict[str, Option]:
    """The option of every layer by some rules.

    Parameters
    ----------
    text : str
        The rules.
    format_name : str
        One of `FORMATS`.
    layers : sequence of Layer
        Those of the checkpoint.
    target : Target
        What the plan is for.
    otherwise : mapping of str to Option
        The option of each layer that no rule names.
    where : str
        Begins every message.
    naming : callable
        What the rules call a layer's tensor; by default as the checkpoint does.

    Raises
    ------
    ConfigurationError
        If the text is malformed, a rule names no layer, or a layer cannot be stored as its rule says: the message
        names the layer, what it can be stored as, and the way out.
    """
    wishes = rules_format(format_name).read(text, layers, naming, where)
    return {
        layer.name: wishes[layer.name].option(layer, target, where)
        if layer.name in wishes
        else otherwise[layer.name]
        for layer in layers
    }


def write_rules(
    plan: Plan, format_name: str, layers: Sequence[Layer], target: Target, *, naming: Naming = same_name
) -> str:
    """A plan as rules, one for each layer.

    Parameters
    ----------
    plan : Plan
    format_name : str
        One of `FORMATS`.
    layers : sequence of Layer
        Those of its checkpoint.
    target : Target
        The plan's.
    naming : callable
        What the rules are to call a layer's tensor; by default as the checkpoint does.

    Raises
    ------
    ConfigurationError
        If the rules cannot say what the plan does with a layer.
    """
    return rules_format(format_name).write(plan, layers, target, naming)


def _document(values: Mapping[str, object]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
