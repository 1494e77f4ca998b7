"""Rules that are part of a config.json: MLX's ``quantization`` and compressed-tensors' ``quantization_config``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.errors import ConfigurationError, setting
from workbench.formats.compressed_tensors import target as compressed_tensors
from workbench.formats.mlx import target as mlx
from workbench.formats.safetensors.scheme import module_of
from workbench.formats.target import Target
from workbench.formats.wishes import KEEP_WISH, Naming, Wish
from workbench.plan import Layer, Plan

AFFINE = ("affine", "asymmetric")
"""What targets call a scale and an offset a group."""

_MLX_SETTINGS = {"group_size", "bits", "mode"}

_CLASSES: Mapping[str, str] = {"Linear": "linear", "Embedding": "embedding"}
"""Kinds of layers by the classes that compressed-tensors' targets may name."""


def mlx_wishes(text: str, layers: Sequence[Layer], naming: Naming, where: str) -> Mapping[str, Wish]:
    """What MLX's ``quantization`` wishes of each layer; convolutions and rows that do not divide are kept.

    Raises
    ------
    ConfigurationError
        If it is malformed, or names a module that is no layer.
    """
    config = _section(text, ("quantization", "quantization_config"), "bits", where)
    default = {key: value for key, value in config.items() if key in _MLX_SETTINGS}
    modules = {key: value for key, value in config.items() if key not in _MLX_SETTINGS}
    wishes = {}
    for layer in layers:
        own = modules.pop(module_of(naming(layer.name)), None)
        if own is None:
            fits = layer.kind != "conv" and layer.cols % _number(default, "group_size", where) == 0
            own = True if fits else False  # noqa: SIM210 - what config.json would say
        if own is False:
            wishes[layer.name] = KEEP_WISH
            continue
        settings = {**default, **(_mapping(own, f"{where}: {layer.name}") if own is not True else {})}
        if settings.get("mode", "affine") != "affine":
            raise _error(
                f"{where}: the mode {settings['mode']!r} of {layer.name!r} is not affine, the only one here."
            )
        bits, group = _number(settings, "bits", where), _number(settings, "group_size", where)
        wishes[layer.name] = Wish(f"affine {bits} bits in groups of {group}", AFFINE, bits, group)
    named = [key for key, value in modules.items() if isinstance(value, dict | bool)]
    if named:
        raise _names_nothing(named[0], layers, naming, where)
    return wishes


def write_mlx(plan: Plan, layers: Sequence[Layer], target: Target, naming: Naming) -> dict[str, Any]:
    """MLX's ``quantization`` of a plan for it."""
    _require_target(plan, mlx.MlxTarget.name)
    return mlx.quantization_config(layers, plan)


def compressed_tensors_wishes(
    text: str, layers: Sequence[Layer], naming: Naming, where: str
) -> Mapping[str, Wish]:
    """What compressed-tensors' ``quantization_config`` wishes of each layer; what no group targets is kept.

    As the package does: a module's own name counts before a regular expression, that before its class, and what is
    ignored counts first.

    Raises
    ------
    ConfigurationError
        If it is malformed, quantizes more than weights, or names modules that are no layers.
    """
    config = _section(text, ("quantization_config", "compression_config"), "config_groups", where)
    groups = _mapping(config.get("config_groups"), f"{where}: config_groups")
    targets: dict[str, Mapping[str, Any]] = {}
    for name, group in groups.items():
        settings = _group_settings(group, f"{where}: {name}")
        targets |= dict.fromkeys(_names(group.get("targets"), f"{where}: targets of {name}"), settings)
    ignored = _names(config.get("ignore") or [], f"{where}: ignore")
    wishes, used = {}, set()
    for layer in layers:
        matching = [target for target in sorted(targets, key=_rank) if _matches(target, layer, naming)]
        used |= set(matching)
        if not matching or any(_matches(one, layer, naming) for one in ignored):
            wishes[layer.name] = KEEP_WISH
        else:
            wishes[layer.name] = _wish_of(targets[matching[0]])
    unused = [target for target in targets if target not in used]
    if unused:
        raise _names_nothing(unused[0], layers, naming, where)
    return wishes


def write_compressed_tensors(
    plan: Plan, layers: Sequence[Layer], target: Target, naming: Naming
) -> dict[str, Any]:
    """compressed-tensors' ``quantization_config`` of a plan for it."""
    _require_target(plan, compressed_tensors.CompressedTensorsTarget.name)
    return compressed_tensors.quantization_config(layers, plan)


def _group_settings(group: Any, where: str) -> Mapping[str, Any]:
    """The settings of a group's weights, checked."""
    group = _mapping(group, where)
    for key in ("input_activations", "output_activations"):
        if group.get(key) is not None:
            raise _error(f"{where} quantizes {key.replace('_', ' ')}; a plan speaks of weights only.")
    weights = _mapping(group.get("weights"), f"{where}: weights")
    if weights.get("type", "int") != "int":
        raise _error(f"{where}: weights of type {weights['type']!r} are not integers.")
    _number(weights, "num_bits", where)
    strategy = weights.get("strategy") or ("group" if weights.get("group_size") else "channel")
    if strategy not in ("group", "channel"):
        raise _error(f"{where}: the strategy {strategy!r} is neither group nor channel.")
    if strategy == "group":
        _number(weights, "group_size", where)
    return {**weights, "strategy": strategy}


def _wish_of(weights: Mapping[str, Any]) -> Wish:
    bits, is_symmetric = weights["num_bits"], weights.get("symmetric", True)
    group = weights["group_size"] if weights["strategy"] == "group" else 0
    scheme = "symmetric" if is_symmetric else "asymmetric"
    where = f"groups of {group}" if group else "rows"
    return Wish(f"{scheme} {bits} bits in {where}", (scheme,) if is_symmetric else AFFINE, bits, group)


def _rank(target: str) -> tuple[int, str]:
    return (2 if target in _CLASSES else 1 if target.startswith("re:") else 0, target)


def _matches(target: str, layer: Layer, naming: Naming) -> bool:
    module = module_of(naming(layer.name))
    if target.startswith("re:"):
        try:
            return re.match(target.removeprefix("re:"), module) is not None
        except re.error as error:
            raise _error(f"{target!r} is not a regular expression: {error}.") from error
    return target == module or _CLASSES.get(target) == layer.kind


def _section(text: str, keys: Sequence[str], mark: str, where: str) -> Mapping[str, Any]:
    """The part of a JSON text that holds the rules: a key of the whole, or the whole."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _error(f"{where}: this is not JSON: {error}.") from error
    document = _mapping(document, where)
    for key in keys:
        if key in document:
            return _mapping(document[key], f"{where}: {key}")
    if mark not in document:
        raise _error(f"{where}: there is neither {keys[0]!r} nor {mark!r} in it.")
    return document


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _error(f"{where} must be a mapping, not {value!r}.")
    return value


def _names(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _error(f"{where} must be a list of names, not {value!r}.")
    return value


def _number(settings: Mapping[str, Any], key: str, where: str) -> int:
    value = settings.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _error(f"{where}: {key} must be a whole number above 0, not {value!r}.")
    return value


def _require_target(plan: Plan, target: str) -> None:
    if plan.target != target:
        raise _error(
            f"These are rules for {target}, and the plan is for {plan.target}. Make one for {target}: "
            f"{setting('target', target)}."
        )


def _names_nothing(name: str, layers: Sequence[Layer], naming: Naming, where: str) -> ConfigurationError:
    example = module_of(naming(layers[0].name)) if layers else ""
    return _error(
        f"{where}: {name!r} names no layer; modules are called like {example!r}. Correct the rule, or take it out."
    )


def _error(message: str) -> ConfigurationError:
    return ConfigurationError(message, key="rules")
