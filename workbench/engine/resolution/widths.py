"""The option of a layer that a configuration asks for, and those to fall back to."""

from __future__ import annotations

from workbench.config import DiffusionQuantConfig
from workbench.formats import Format, kept_as
from workbench.plan import Layer, Option

SENSITIVE_ROLES = frozenset({"embedding", "norm", "head", "time_embed", "modulation"})
"""Roles that count as sensitive besides the layers that the user names."""


def settled_option(layer: Layer, config: DiffusionQuantConfig, target: Format) -> Option | None:
    """The option of a layer that the configuration keeps or gives a width; None of any other."""
    if config.keeps(layer.name, layer.role) or is_sensitive(layer, config):
        return kept_as(layer, target)
    bits = config.bits_named(layer.name)
    return None if bits is None else at_width(layer, bits, config, target)


def at_width(layer: Layer, bits: int, config: DiffusionQuantConfig, target: Format) -> Option:
    """The option of a width in the configured scheme and group size."""
    scheme = config.scheme or target.scheme
    return target.quantized(layer, bits, scheme, config.group_size)


def is_sensitive(layer: Layer, config: DiffusionQuantConfig) -> bool:
    """Whether the configuration keeps a layer in source precision."""
    return config.skip_sensitive_layers and (
        layer.role in SENSITIVE_ROLES or config.names_sensitive(layer.name)
    )


def fallbacks(layer: Layer, asked: Option, config: DiffusionQuantConfig, target: Format) -> list[Option]:
    """The option asked for and those to fall back to: the next of 4 bits, 8 bits, the source dtype."""
    if asked.is_kept or config.min_accuracy <= 0.0:
        return [asked]
    wider = [at_width(layer, bits, config, target) for bits in (4, 8) if bits > asked.bits]
    return [
        asked,
        *(option for option in wider if asked.bits < option.bits and not option.is_kept),
        kept_as(layer, target),
    ]
