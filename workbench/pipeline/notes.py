"""What a run should tell its user besides figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.formats import Target
from workbench.pipeline.survey import at_width
from workbench.plan import Layer, Plan

NAMED = 3
"""How many layers a note names."""


def notes_on(
    config: DiffusionQuantConfig, checkpoint: Checkpoint, target: Target, is_time_aware: bool
) -> tuple[str, ...]:
    """Sentences on settings that change nothing in this run, names that match no layer, layers that gain nothing.

    A run may be time-aware without the configuration's own calibration: by that of a session, and then of a plan.
    """
    names = [layer.name for layer in checkpoint.layers]
    about = [*checkpoint.notes, checkpoint.besides_layers]
    inactive = dict(config.inactive)
    if is_time_aware:
        for key in ("enable_time_aware", "enable_spatial"):
            inactive.pop(key, None)
    notes = [*about, *(f"{key} is off: {reason}." for key, reason in inactive.items())]

    def unmatched(key: str, asked: list[str], matches: Callable[[str, str], bool]) -> None:
        notes.extend(
            f"{key}: {pattern!r} matches no layer."
            for pattern in asked
            if not any(matches(name, pattern) for name in names)
        )

    unmatched("layer_bit_widths", list(config.layer_bit_widths), fnmatchcase)
    unmatched("sensitive_layer_names", list(config.sensitive_layer_names), lambda name, asked: name == asked)
    unmatched(
        "sensitive_layer_patterns",
        list(config.sensitive_layer_patterns),
        lambda name, pattern: re.search(pattern, name) is not None,
    )
    whole = [
        layer.name
        for layer in checkpoint.layers
        if all(at_width(layer, bits, config, target).is_kept for bits in _widths(layer, config))
    ]
    if whole:
        more = f" and {len(whole) - NAMED} more" if len(whole) > NAMED else ""
        notes.append(
            f"{', '.join(whole[:NAMED])}{more}: kept in the source's dtype, as {target.name} has nothing smaller for "
            "such a shape."
        )
    notes.extend(_other_widths(config, checkpoint, target))
    return tuple(notes)


def _other_widths(config: DiffusionQuantConfig, checkpoint: Checkpoint, target: Target) -> list[str]:
    """Sentences on widths that the target lacks for a layer, and what it stores instead."""
    found: dict[tuple[int, str], list[str]] = {}
    for layer in checkpoint.layers:
        widths = _widths(layer, config)
        if len(widths) == 1:
            option = at_width(layer, widths[0], config, target)
            if not option.is_kept and option.bits != widths[0]:
                found.setdefault((widths[0], option.scheme), []).append(layer.name)
    sentences = []
    for (bits, scheme), names in found.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        sentences.append(
            f"{', '.join(names[:NAMED])}{more}: {scheme} instead of {bits} bits, the nearest that {target.name} has "
            "for such a shape."
        )
    return sentences


def notes_on_plan(config: DiffusionQuantConfig, plan: Plan, is_calibrated: bool) -> tuple[str, ...]:
    """Sentences on settings that would choose widths or codes or change weights, in a run that was given a plan."""
    effort = (
        (f"effort {config.effort} is off: the plan says {plan.effort}.",)
        if config.effort not in (None, plan.effort)
        else ()
    )
    keys = [
        "enable_mixed_precision",
        "enable_entropy_adaptation",
        *(["enable_spatial"] if is_calibrated else []),
    ]
    return effort + tuple(
        f"{key} is off: a plan is executed as it is." for key in keys if getattr(config, key)
    )


def note_on_unrecorded(records: CalibrationRecords | None, layers: Sequence[Layer]) -> tuple[str, ...]:
    """A sentence on the layers that a calibration has no record of, as when they were never called."""
    if records is None:
        return ()
    missing = [layer.name for layer in layers if layer.name not in records.layers]
    if not missing:
        return ()
    what = "is priced by its weights" if len(missing) == 1 else "are priced by their weights"
    return (
        f"The calibration has no record of {len(missing)} of {len(layers)} layers, which {what} alone: "
        f"{', '.join(missing)}.",
    )


def note_on_kept(plan: Plan) -> tuple[str, ...]:
    """A sentence where a run quantizes nothing at all."""
    if any(not option.is_kept for option in plan.choices.values()):
        return ()
    return (
        f"Nothing was quantized: all {len(plan.choices)} layers keep the source's dtype, and the export holds the same "
        "numbers as the source.",
    )


def note_on_solved(plan: Plan) -> str:
    """A sentence on the plan that the solver made: its size and its certificate."""
    nbytes, gap = plan.predicted["nbytes"], plan.predicted["gap"]
    margin = "not known how far" if gap is None else f"at most {gap:.3%}"
    return (
        f"enable_mixed_precision: a payload of {nbytes:,} bytes, {margin} from the best plan of these bytes under the "
        "same limits."
    )


def _widths(layer: Layer, config: DiffusionQuantConfig) -> Sequence[int]:
    """The widths that the layer may be given before any fallback."""
    named = config.bits_named(layer.name)
    is_chosen = config.enable_mixed_precision or config.enable_entropy_adaptation
    return range(2, 9) if is_chosen and named is None else [config.bits_for(layer.name)]
