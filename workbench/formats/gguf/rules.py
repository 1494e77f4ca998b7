"""Rules that give tensors GGML types: those of llama-quantize and stable-diffusion.cpp."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from workbench.errors import PlanError
from workbench.formats.requests import Naming, Offer, Request, RulesSyntax, type_name
from workbench.plan import Layer, Plan

OPTION = "--tensor-type"
"""Before each rule on a command line of llama-quantize; it may stand in the text."""

Rule = tuple[str, str]
"""A regular expression and a type."""

GGML_TYPE = re.compile(r"(i?q\d\w*|b?f16|f32|f64)", re.IGNORECASE)
"""What GGML calls a type."""


def parse_llama(text: str, where: str) -> list[Rule]:
    """The rules of llama-quantize: ``name=type``, parted by white space. It takes names in lower case."""
    words = [word.removeprefix(f"{OPTION}=") for word in text.split() if word != OPTION]
    return [(pattern.lower(), kind) for pattern, kind in _pairs(words, where)]


def parse_stable_diffusion(text: str, where: str) -> list[Rule]:
    """The rules of stable-diffusion.cpp: ``pattern=type``, parted by commas."""
    return _pairs([word.strip() for word in re.split(r"[,\n]", text) if word.strip()], where)


def requests_of(
    rules: Sequence[Rule], layers: Sequence[Layer], naming: Naming, where: str
) -> Mapping[str, Request]:
    """What the rules request for each layer that one of them matches; the first counts.

    Raises
    ------
    PlanError
        If a pattern does not compile or matches no layer.
    """
    requests: dict[str, Request] = {}
    for pattern, kind in rules:
        try:
            matching = re.compile(pattern)
        except re.error as error:
            raise PlanError(
                f"{where}: the pattern {pattern!r} is not a regular expression: {error}.",
                key="rules",
                value=pattern,
            ) from error
        matched = [layer for layer in layers if matching.search(naming(layer.name))]
        if not matched:
            raise PlanError(
                f"{where}: {pattern!r} matches no layer; layers are called like {_example(layers, naming)!r}. Correct "
                "the rule, or take it out.",
                key="rules",
                value=pattern,
            )
        for layer in matched:
            requests.setdefault(layer.name, Request(kind, (kind.lower(),)))
    return requests


def write_types(plan: Plan, layers: Sequence[Layer], target: Offer, naming: Naming) -> Iterable[str]:
    """``pattern=type`` for each layer.

    Raises
    ------
    PlanError
        If the target's schemes are no types.
    """
    rules = []
    for layer in layers:
        option = plan.choices[layer.name]
        alike = [one for one in target.options(layer) if one.scheme == option.scheme]
        if len(alike) > 1:
            raise PlanError(
                f"A plan for {plan.target} cannot be written as types of tensors: {option.scheme} of {layer.name!r} is "
                "none by itself. Make the plan for a target whose schemes are types, such as gguf, or write the rules "
                "of its own format.",
                key="rules_format",
                tensor=layer.name,
            )
        # llama-quantize makes patterns lower case, which does not change the number of a capital letter.
        pattern = re.sub("[A-Z]", lambda letter: f"\\x{ord(letter[0]):x}", re.escape(naming(layer.name)))
        rules.append(f"^{pattern}$={type_name(option, layer)}")
    return rules


def _pairs(words: Iterable[str], where: str) -> list[Rule]:
    rules = []
    for word in words:
        pattern, _, kind = word.rpartition("=")
        if not pattern or not kind:
            raise PlanError(
                f"{where}: {word!r} is not NAME=TYPE, such as 'attn_q=q4_K'.", key="rules", value=word
            )
        rules.append((pattern, kind))
    return rules


def _example(layers: Sequence[Layer], naming: Naming) -> str:
    return naming(layers[0].name) if layers else ""


def _types_only(rules: Sequence[Rule]) -> bool:
    return bool(rules) and all(GGML_TYPE.fullmatch(kind) for _, kind in rules)


LLAMA = RulesSyntax(
    lambda text, layers, naming, where: requests_of(parse_llama(text, where), layers, naming, where),
    lambda *of: "\n".join(write_types(*of)) + "\n",
    lambda text: _types_only(parse_llama(text, "")),
)
"""The rules of llama-quantize."""

STABLE_DIFFUSION = RulesSyntax(
    lambda text, layers, naming, where: requests_of(
        parse_stable_diffusion(text, where), layers, naming, where
    ),
    lambda *of: ",".join(write_types(*of)) + "\n",
    lambda text: _types_only(parse_stable_diffusion(text, "")),
)
"""The rules of stable-diffusion.cpp."""
