"""Plans as the ``quantization`` of an MLX config.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.formats.json_rules import (
    AFFINE,
    malformed,
    mapping_of,
    names_nothing,
    number_of,
    section,
    syntax_of,
)
from workbench.formats.mlx.codec import quantization_config
from workbench.formats.requests import KEPT, Naming, Request
from workbench.formats.safetensors.codec import module_of
from workbench.plan import Layer

_MLX_SETTINGS = {"group_size", "bits", "mode"}


def requests_of(text: str, layers: Sequence[Layer], naming: Naming, where: str) -> Mapping[str, Request]:
    """What MLX's ``quantization`` requests for each layer; convolutions and rows that do not divide are kept.

    Raises
    ------
    PlanError
        If it is malformed, or names a module that is no layer.
    """
    config = section(text, ("quantization", "quantization_config"), "bits", where)
    default = {key: value for key, value in config.items() if key in _MLX_SETTINGS}
    modules = {key: value for key, value in config.items() if key not in _MLX_SETTINGS}
    requests = {}
    for layer in layers:
        own = modules.pop(module_of(naming(layer.name)), None)
        if own is None:
            fits = layer.kind != "conv" and layer.cols % number_of(default, "group_size", where) == 0
            own = True if fits else False  # noqa: SIM210 - what config.json would say
        if own is False:
            requests[layer.name] = KEPT
            continue
        settings = {**default, **(mapping_of(own, f"{where}: {layer.name}") if own is not True else {})}
        if settings.get("mode", "affine") != "affine":
            raise malformed(
                f"{where}: the mode {settings['mode']!r} of {layer.name!r} is not affine, the only one here."
            )
        bits, group = number_of(settings, "bits", where), number_of(settings, "group_size", where)
        requests[layer.name] = Request(f"affine {bits} bits in groups of {group}", AFFINE, bits, group)
    named = [key for key, value in modules.items() if isinstance(value, dict | bool)]
    if named:
        raise names_nothing(named[0], layers, naming, where)
    return requests


def _is_nothing_else(values: Any) -> bool:
    return {"group_size", "bits"} <= set(values) and all(
        name in _MLX_SETTINGS or value is False or set(value) <= _MLX_SETTINGS
        for name, value in values.items()
    )


RULES = syntax_of(
    "mlx", requests_of, lambda plan, layers: quantization_config(layers, plan), _is_nothing_else
)
"""The rules."""
