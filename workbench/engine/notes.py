"""The notes of a run: what its user should know besides figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint
from workbench.config import DiffusionQuantConfig
from workbench.engine.resolution.survey import Survey
from workbench.engine.resolution.widths import at_width, settled_option
from workbench.formats import Format, kept_as
from workbench.layer_names import matching
from workbench.plan import Layer, Plan

NAMED = 3
"""How many layers a note names."""

WIDTHS = range(2, 9)
"""Bits that a solver or a person may give a layer."""

HEADER = 0.02
"""Share of a small file that is its header."""


@dataclass(frozen=True)
class Note:
    """A sentence for the report."""

    text: str
    """The sentence; of many layers it names a few."""
    layers: tuple[str, ...] = ()
    """All the layers that it speaks of, where it does not name them all."""

    @classmethod
    def on(cls, layers: Sequence[str], says: str) -> Self:
        """A note whose sentence begins with the names of layers, or of a few of them."""
        if len(layers) <= NAMED:
            return cls(f"{', '.join(layers)}: {says}")
        return cls(f"{', '.join(layers[:NAMED])} and {len(layers) - NAMED} more: {says}", tuple(layers))


def notes_on(
    config: DiffusionQuantConfig,
    checkpoint: Checkpoint,
    target: Format,
    is_time_aware: bool,
    is_planned: bool,
) -> tuple[Note, ...]:
    """Notes on settings that change nothing in this run, names that match no layer, layers that gain nothing.

    What nobody set comes last, in one line.

    A run may be time-aware without the configuration's own calibration: by that of a session, and then of a plan.
    Under a plan no width of the configuration was asked for, so that none was missed.
    """
    names = [layer.name for layer in checkpoint.layers]
    about = [*checkpoint.notes, checkpoint.besides_layers]
    inactive = dict(config.inactive)
    if is_time_aware:
        for key in ("enable_time_aware", "enable_spatial"):
            inactive.pop(key, None)
    set_by_user = {key: reason for key, reason in inactive.items() if key in config.model_fields_set}
    notes = [Note(text) for text in (*about, *_off(set_by_user))]

    def unmatched(key: str, asked: list[str], matches: Callable[[str, str], bool]) -> None:
        notes.extend(
            Note(f"{key}: {pattern!r} matches no layer.")
            for pattern in asked
            if not any(matches(name, pattern) for name in names)
        )

    unmatched("layer_bit_widths", list(config.layer_bit_widths), fnmatchcase)
    roles = [layer.role for layer in checkpoint.layers]
    notes.extend(
        Note(f"keep: {pattern!r} matches no layer.")
        for pattern in config.keep
        if not matching(pattern, names, roles)
    )
    unmatched("sensitive_layer_names", list(config.sensitive_layer_names), lambda name, asked: name == asked)
    unmatched(
        "sensitive_layer_patterns",
        list(config.sensitive_layer_patterns),
        lambda name, pattern: re.search(pattern, name) is not None,
    )
    notes.extend(_kept_whole(config, checkpoint, target, is_planned))
    if not is_planned:
        notes.extend(_other_widths(config, checkpoint, target))
    rest = {key: reason for key, reason in inactive.items() if key not in set_by_user}
    return (*notes, *map(Note, _off(rest)))


def _kept_whole(
    config: DiffusionQuantConfig, checkpoint: Checkpoint, target: Format, is_planned: bool
) -> list[Note]:
    """Notes on layers that no width asked for makes smaller: for their shape, or for their dtype."""
    found: dict[str, list[str]] = {}
    for layer in checkpoint.layers:
        widths = WIDTHS if is_planned else _widths(layer, config)
        if all(at_width(layer, bits, config, target).is_kept for bits in widths):
            if all(option.is_kept for option in target.options(layer)):
                reason = f"{target.name} has nothing smaller for such a shape"
            else:
                reason = f"codes and scales would take no fewer bytes in {target.name} than {layer.dtype}"
            found.setdefault(reason, []).append(layer.name)
    return [Note.on(names, f"kept in the source's dtype, as {reason}.") for reason, names in found.items()]


def note_on_size(source_bytes: int, payload_bytes: int, target: Format) -> tuple[str, ...]:
    """A sentence on an export that is larger than its source, by more than a header."""
    if payload_bytes <= (1 + HEADER) * source_bytes or target.keeps_size:
        return ()
    return (
        f"The export is larger than its source, by {payload_bytes / source_bytes - 1:.1%}: {target.name} stores its "
        "tensors in more bytes than they have there. Fewer bits, or keeping the source, take less.",
    )


def note_on_fallbacks(surveys: Sequence[Survey], min_accuracy: float) -> tuple[Note, ...]:
    """A note on the layers that were less accurate than asked and got more bits, or were kept."""
    fell = [survey for survey in surveys if survey.fallback]
    if not fell:
        return ()
    kept = sum(survey.option.is_kept for survey in fell)
    return (
        Note.on(
            [survey.layer for survey in fell],
            f"{len(fell)} layers are under min_accuracy {min_accuracy:g} at the width asked for: {kept} of them are "
            f"kept, {len(fell) - kept} have more bits.",
        ),
    )


def _off(inactive: Mapping[str, str]) -> list[str]:
    """A sentence for each reason why settings change nothing."""
    keys: dict[str, list[str]] = {}
    for key, reason in inactive.items():
        keys.setdefault(reason, []).append(key)
    return [
        f"{' and '.join(found)} {'is' if len(found) == 1 else 'are'} off: {reason}."
        for reason, found in keys.items()
    ]


def _other_widths(config: DiffusionQuantConfig, checkpoint: Checkpoint, target: Format) -> list[Note]:
    """Notes on widths that the target lacks for a layer, and what it stores instead."""
    found: dict[tuple[int, str], list[str]] = {}
    for layer in checkpoint.layers:
        widths = _widths(layer, config)
        if len(widths) == 1 and settled_option(layer, config, target) != kept_as(layer, target):
            option = at_width(layer, widths[0], config, target)
            if not option.is_kept and option.bits != widths[0]:
                found.setdefault((widths[0], option.scheme), []).append(layer.name)
    return [
        Note.on(
            names, f"{scheme} instead of {bits} bits, the nearest that {target.name} has for such a shape."
        )
        for (bits, scheme), names in found.items()
    ]


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
    what = "is judged by its weights" if len(missing) == 1 else "are judged by their weights"
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
    return WIDTHS if is_chosen and named is None else [config.bits_for(layer.name)]
