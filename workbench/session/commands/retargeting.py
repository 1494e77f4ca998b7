"""Taking a plan to another target, or to other names of the layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from workbench.checkpoint import Checkpoint
from workbench.config import Scheme
from workbench.session.commands.command import Edit
from workbench.session.measurements import Measurements
from workbench.session.script import call
from workbench.session.state import State
from workbench.thermo import Constraints


@dataclass(frozen=True)
class Retarget(Edit):
    """Go on for another export format, or with other names, see `Session.retarget`."""

    target: str
    names: str | None
    """What was asked for; None leaves it as it was."""
    measurements: Measurements = field(repr=False)
    """Of the same checkpoint, for that target and those names."""

    def apply(self, state: State) -> State:
        known = state.measurements.checkpoint.notes
        after = carried_over(state, self.measurements)
        more = (note for note in self.measurements.checkpoint.notes if note not in known)
        return replace(after, notes=(*after.notes, *more))

    def to_python(self) -> str:
        return call("retarget", self.target, names=self.names)


def carried_over(before: State, measured: Measurements) -> State:
    """A state as nearly as other measurements of the same checkpoint have it; its notes say what is not the same.

    Locks, what was learnt, and which layers were set by hand go along. A layer that is stored as one of several of
    before gets the widest of their widths.
    """
    old = before.measurements
    origins = _origins(measured, old)
    if old.learnt:
        measured = measured.learn(_learnt(measured, old, origins))
    choice, wider, newly_kept, joined = [], 0, 0, 0
    for row, (layer, rows) in enumerate(zip(measured.layers, origins, strict=True)):
        options = [before.option(origin) for origin in rows]
        if not options:
            choice.append(measured.place(row, 4))
            continue
        wanted = max(options, key=lambda option: option.bits)
        joined += len({option.bits for option in options}) > 1
        if wanted.is_kept:
            choice.append(measured.place_kept(row))
            continue
        # A format's own name for its scheme means nothing to another, and what it has by default is not asked for.
        is_asked = wanted.scheme in get_args(Scheme) and wanted.scheme != old.scheme
        scheme = wanted.scheme if is_asked else measured.scheme
        found = wanted
        if found not in measured.options[row]:
            found = measured.target.quantized(
                layer, wanted.bits, scheme, wanted.group_size or measured.group_size
            )
        wider += found.bits != wanted.bits and not found.is_kept
        newly_kept += found.is_kept
        choice.append(measured.place_of(row, found))
    notes = _what_changed(old, measured)
    if wider:
        notes.append(f"{wider} layers got the next wider width, for {measured.target.name} lacks theirs.")
    if newly_kept:
        notes.append(
            f"{newly_kept} layers keep their dtype, for {measured.target.name} has nothing smaller for them."
        )
    if joined:
        notes.append(f"{joined} layers that are stored as one got the widest of their widths.")
    is_same = measured.layers == old.layers and measured.target.name == old.target.name
    return State(
        measured,
        tuple(choice),
        locks=_rows_of(origins, before.locks),
        made_by=before.made_by
        if is_same
        else {"method": f"from {old.target.name}", "before": dict(before.made_by)},
        limits=Constraints(),
        by_hand=_rows_of(origins, before.by_hand),
        notes=(*notes, *measured.notes),
    )


def _what_changed(old: Measurements, measured: Measurements) -> list[str]:
    now, before = measured.target.name, old.target.name
    if now != before:
        return [f"The plan is now for {now}. Undo goes back to {before}."]
    names = {"original": "as in the original checkpoint", "checkpoint": "as in the checkpoint's files"}
    return [f"Layers are now called {names[measured.names]}. Undo goes back."]


def _origins(measured: Measurements, old: Measurements) -> list[list[int]]:
    """The layers of the old measurements, by index, that hold weights of each layer of the new."""
    owners = defaultdict(list)
    for row, layer in enumerate(old.layers):
        for tensor in tensors_of(old.checkpoint, layer.name):
            owners[tensor].append(row)
    return [
        sorted({row for tensor in tensors_of(measured.checkpoint, layer.name) for row in owners[tensor]})
        for layer in measured.layers
    ]


def tensors_of(checkpoint: Checkpoint, layer: str) -> set[str]:
    """The tensors of the files that a layer is made of."""
    return {layer} if checkpoint.parts is None else {part.tensor for part in checkpoint.parts[layer]}


def _rows_of(origins: Sequence[Sequence[int]], wanted: frozenset[int]) -> frozenset[int]:
    return frozenset(row for row, rows in enumerate(origins) if not wanted.isdisjoint(rows))


def _learnt(measured: Measurements, old: Measurements, origins: Sequence[Sequence[int]]) -> dict[str, float]:
    """What was learnt of layers, under the new names; the mean where several become one."""
    return {
        layer.name: float(np.mean([old.learnt[old.layers[row].name] for row in rows]))
        for layer, rows in zip(measured.layers, origins, strict=True)
        if rows
    }
