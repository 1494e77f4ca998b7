"""Plans as the ``quantization_config`` of a compressed-tensors config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.formats.compressed_tensors.codec import quantization_config
from workbench.formats.json_rules import (
    AFFINE,
    malformed,
    mapping_of,
    names_nothing,
    names_of,
    number_of,
    section,
    syntax_of,
)
from workbench.formats.requests import KEPT, Naming, Request
from workbench.formats.safetensors.codec import module_of
from workbench.plan import Layer

_CLASSES: Mapping[str, str] = {"Linear": "linear", "Embedding": "embedding"}
"""Kinds of layers by the classes that the targets of a group may name."""


def requests_of(text: str, layers: Sequence[Layer], naming: Naming, where: str) -> Mapping[str, Request]:
    """What compressed-tensors' ``quantization_config`` requests for each layer; what no group targets is kept.

    As the package does: a module's own name counts before a regular expression, that before its class, and what is
    ignored counts first.

    Raises
    ------
    PlanError
        If it is malformed, quantizes more than weights, or names modules that are no layers.
    """
    config = section(text, ("quantization_config", "compression_config"), "config_groups", where)
    groups = mapping_of(config.get("config_groups"), f"{where}: config_groups")
    targets: dict[str, Mapping[str, Any]] = {}
    for name, group in groups.items():
        settings = _group_settings(group, f"{where}: {name}")
        targets |= dict.fromkeys(names_of(group.get("targets"), f"{where}: targets of {name}"), settings)
    ignored = names_of(config.get("ignore") or [], f"{where}: ignore")
    requests, used = {}, set()
    for layer in layers:
        matching = [target for target in sorted(targets, key=_rank) if _matches(target, layer, naming)]
        used |= set(matching)
        if not matching or any(_matches(one, layer, naming) for one in ignored):
            requests[layer.name] = KEPT
        else:
            requests[layer.name] = _request_of(targets[matching[0]])
    unused = [target for target in targets if target not in used]
    if unused:
        raise names_nothing(unused[0], layers, naming, where)
    return requests


def _group_settings(group: Any, where: str) -> Mapping[str, Any]:
    """The settings of a group's weights, checked."""
    group = mapping_of(group, where)
    for key in ("input_activations", "output_activations"):
        if group.get(key) is not None:
            raise malformed(f"{where} quantizes {key.replace('_', ' ')}; a plan speaks of weights only.")
    weights = mapping_of(group.get("weights"), f"{where}: weights")
    if weights.get("type", "int") != "int":
        raise malformed(f"{where}: weights of type {weights['type']!r} are not integers.")
    number_of(weights, "num_bits", where)
    strategy = weights.get("strategy") or ("group" if weights.get("group_size") else "channel")
    if strategy not in ("group", "channel"):
        raise malformed(f"{where}: the strategy {strategy!r} is neither group nor channel.")
    if strategy == "group":
        number_of(weights, "group_size", where)
    return {**weights, "strategy": strategy}


def _request_of(weights: Mapping[str, Any]) -> Request:
    bits, is_symmetric = weights["num_bits"], weights.get("symmetric", True)
    group = weights["group_size"] if weights["strategy"] == "group" else 0
    scheme = "symmetric" if is_symmetric else "asymmetric"
    where = f"groups of {group}" if group else "rows"
    return Request(f"{scheme} {bits} bits in {where}", (scheme,) if is_symmetric else AFFINE, bits, group)


def _rank(target: str) -> tuple[int, str]:
    return (2 if target in _CLASSES else 1 if target.startswith("re:") else 0, target)


def _matches(target: str, layer: Layer, naming: Naming) -> bool:
    module = module_of(naming(layer.name))
    if target.startswith("re:"):
        try:
            return re.match(target.removeprefix("re:"), module) is not None
        except re.error as error:
            raise malformed(f"{target!r} is not a regular expression: {error}.") from error
    return target == module or _CLASSES.get(target) == layer.kind


def _is_nothing_else(values: Any) -> bool:
    return {"quant_method", "config_groups"} <= set(values) and "model_type" not in values


RULES = syntax_of(
    "compressed-tensors",
    requests_of,
    lambda plan, layers: quantization_config(layers, plan),
    _is_nothing_else,
)
"""The rules."""
