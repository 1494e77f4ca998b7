"""What rules have in common that are part of a config.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.errors import PlanError, setting
from workbench.formats.requests import Naming, Offer, Request, RulesSyntax
from workbench.formats.safetensors.codec import module_of
from workbench.plan import Layer, Plan

AFFINE = ("affine", "asymmetric")
"""What formats call a scale and an offset a group."""

Write = Callable[[Plan, Sequence[Layer]], dict[str, Any]]
"""Makes the part of config.json that holds the rules."""


def syntax_of(
    target: str,
    read: Callable[[str, Sequence[Layer], Naming, str], Mapping[str, Request]],
    write: Write,
    is_nothing_else: Callable[[Any], bool],
) -> RulesSyntax:
    """The syntax of rules in JSON.

    Parameters
    ----------
    target : str
        The format whose plans they can say.
    read, write : callable
    is_nothing_else : callable
        Whether a parsed text is such rules alone.
    """

    def text_of(plan: Plan, layers: Sequence[Layer], offer: Offer, naming: Naming) -> str:
        require_target(plan, target)
        return json.dumps(write(plan, layers), indent=2, ensure_ascii=False) + "\n"

    return RulesSyntax(read, text_of, lambda text: is_nothing_else(json.loads(text)))


def section(text: str, keys: Sequence[str], mark: str, where: str) -> Mapping[str, Any]:
    """The part of a JSON text that holds the rules: a key of the whole, or the whole."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed(f"{where}: this is not JSON: {error}.") from error
    document = mapping_of(document, where)
    for key in keys:
        if key in document:
            return mapping_of(document[key], f"{where}: {key}")
    if mark not in document:
        raise malformed(f"{where}: there is neither {keys[0]!r} nor {mark!r} in it.")
    return document


def mapping_of(value: Any, where: str) -> Mapping[str, Any]:
    """A value that must be a mapping."""
    if not isinstance(value, dict):
        raise malformed(f"{where} must be a mapping, not {value!r}.")
    return value


def names_of(value: Any, where: str) -> list[str]:
    """A value that must be a list of names."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise malformed(f"{where} must be a list of names, not {value!r}.")
    return value


def number_of(settings: Mapping[str, Any], key: str, where: str) -> int:
    """A whole number above 0 that must be there."""
    value = settings.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise malformed(f"{where}: {key} must be a whole number above 0, not {value!r}.")
    return value


def require_target(plan: Plan, target: str) -> None:
    """Make sure that a plan is for the format whose rules are asked for."""
    if plan.target != target:
        raise malformed(
            f"These are rules for {target}, and the plan is for {plan.target}. Make one for {target}: "
            f"{setting('target', target)}."
        )


def names_nothing(name: str, layers: Sequence[Layer], naming: Naming, where: str) -> PlanError:
    """The error that a rule names no layer."""
    example = module_of(naming(layers[0].name)) if layers else ""
    return malformed(
        f"{where}: {name!r} names no layer; modules are called like {example!r}. Correct the rule, or take it out."
    )


def malformed(message: str) -> PlanError:
    """The error that rules are not what they must be."""
    return PlanError(message, key="rules")
