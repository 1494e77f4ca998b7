"""The export formats there are, by name: whatever asks for one asks here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from workbench.checkpoint import Checkpoint, denoiser_of, under_names
from workbench.config import DiffusionQuantConfig
from workbench.config_sources import did_you_mean
from workbench.errors import ArgumentError, ValidationError
from workbench.formats.format import DEFAULTS, Format, TargetSettings, kept_as
from workbench.plan import Layer, Plan

_FORMATS: dict[str, Format] = {}


def register(record: Format) -> None:
    """Add a format: it is then offered wherever a target can be chosen.

    Raises
    ------
    ArgumentError
        If there is another of its name.
    """
    if _FORMATS.setdefault(record.name, record) is not record:
        raise ArgumentError(
            f"There is an export target {record.name!r} already; a format needs a name of its own.",
            key="target",
            value=record.name,
        )


def formats() -> Mapping[str, Format]:
    """The formats by name, in the order in which they are offered."""
    return MappingProxyType(_FORMATS)


def target_names() -> tuple[str, ...]:
    """Names of the formats there are."""
    return tuple(_FORMATS)


def target_named(name: str, settings: TargetSettings = DEFAULTS) -> Format:
    """The format that users mean by a ``target``.

    Parameters
    ----------
    name : str
    settings : TargetSettings, optional
        What the user asks of it; it matters for what is offered and written, not for reading.

    Raises
    ------
    ArgumentError
        If there is none; the message lists those there are.
    """
    if name not in _FORMATS:
        near = did_you_mean(name, _FORMATS)
        raise ArgumentError(
            f"There is no export target {name!r}; there are: {', '.join(sorted(_FORMATS))}"
            f"{'; ' if near else '.'}{near}",
            key="target",
            value=name,
            allowed=tuple(sorted(_FORMATS)),
        )
    found = _FORMATS[name]
    return found if settings == found.settings else replace(found, settings=settings)


def check_target(config: DiffusionQuantConfig) -> None:
    """Make sure that there is the target that a configuration names, if it names one.

    Raises
    ------
    ArgumentError
        If there is none; the message says where the name was given, and lists those there are.
    """
    name = config.target
    if name is not None and name not in _FORMATS:
        allowed = ", ".join((*_FORMATS, "none"))
        near = did_you_mean(name, (*_FORMATS, "none"))
        raise config.given("target").error(
            f"allowed: {allowed}{'; ' if near else ''}{near}", name, allowed=allowed
        )


def settings_of(config: DiffusionQuantConfig) -> TargetSettings:
    """What a configuration asks of its target."""
    return TargetSettings(int(config.shard_size_mb * 1e6), config.all_widths, config.scheme)


def exported(checkpoint: Checkpoint, target: str) -> Checkpoint:
    """The part of a checkpoint that an export holds: the whole, or of an all-in-one file the denoiser alone."""
    return denoiser_of(checkpoint) if target_named(target).holds_denoiser_only else checkpoint


def named(checkpoint: Checkpoint, names: str | None, target: str) -> tuple[Checkpoint, tuple[str, ...]]:
    """A checkpoint under the names that a user asks for, by default those of a target; and sentences on it.

    See `workbench.checkpoint.under_names`.
    """
    return under_names(checkpoint, names, target_named(target).names)


def plan_for(target: str, plan: Plan, layers: Sequence[Layer]) -> Plan:
    """A plan, or where the target can store what another target's plan decodes to, its own plan for that."""
    plan_of = target_named(target).plan_of
    return plan if plan_of is None or plan.target == target else plan_of(plan, layers)


def require_storable(checkpoint: Checkpoint, target: Format) -> None:
    """Make sure that there is something to quantize, and that a format can hold it; to be asked before measuring.

    Raises
    ------
    ValidationError
        If the checkpoint has no layers.
    ArrowQuantError
        What the format's layout has against a plan that keeps every layer.
    """
    if not any(layer.params for layer in checkpoint.layers):
        raise ValidationError(
            f"{checkpoint.path}: there is nothing to quantize here: none of its {len(checkpoint.tensors)} tensors is a "
            "layer, that is the weight of a linear, convolution or embedding, of two or more axes and in a "
            "floating-point dtype. Open the model that it belongs to.",
            path=checkpoint.path,
        )
    choices = {layer.name: kept_as(layer, target) for layer in checkpoint.layers if layer.params}
    target.layout(checkpoint, Plan(target.name, choices, checkpoint.fingerprint))
