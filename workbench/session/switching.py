"""Going on with a plan under another target, or other names of the layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from workbench.checkpoint import Checkpoint
from workbench.config import Scheme
from workbench.session.history import State
from workbench.session.study import Study
from workbench.session.tuning import Tuning
from workbench.thermo import Constraints


def carried_over(before: State, study: Study) -> tuple[State, tuple[str, ...]]:
    """A state as nearly as another study of the same checkpoint has it, and what is not the same, in sentences.

    Locks, what was learnt, and which layers were set by hand go along. A layer that is stored as one of several of
    before gets the widest of their widths.
    """
    old, tuning = before.study, before.tuning
    origins = _origins(study, old)
    if old.learnt:
        study = study.learn(_learnt(study, old, origins))
    choice, wider, newly_kept, joined = [], 0, 0, 0
    for row, (layer, rows) in enumerate(zip(study.layers, origins, strict=True)):
        options = [old.options[origin][tuning.choice[origin]] for origin in rows]
        if not options:
            choice.append(study.place(row, 4))
            continue
        wanted = max(options, key=lambda option: option.bits)
        joined += len({option.bits for option in options}) > 1
        if wanted.is_kept:
            choice.append(study.place_kept(row))
            continue
        # A format's own name for its scheme means nothing to another, and what it has by default is not asked for.
        is_asked = wanted.scheme in get_args(Scheme) and wanted.scheme != old.scheme
        scheme = wanted.scheme if is_asked else study.scheme
        found = wanted
        if found not in study.options[row]:
            found = study.target.quantized(layer, wanted.bits, scheme, wanted.group_size or study.group_size)
        wider += found.bits != wanted.bits and not found.is_kept
        newly_kept += found.is_kept
        choice.append(study.place_of(row, found))
    notes = [*_what_changed(old, study)]
    if wider:
        notes.append(f"{wider} layers got the next wider width, for {study.target.name} lacks theirs.")
    if newly_kept:
        notes.append(
            f"{newly_kept} layers keep their dtype, for {study.target.name} has nothing smaller for them."
        )
    if joined:
        notes.append(f"{joined} layers that are stored as one got the widest of their widths.")
    after = Tuning(
        tuple(choice),
        locks=_rows_of(origins, tuning.locks),
        made_by={"method": f"from {old.target.name}", "before": dict(tuning.made_by)},
        limits=Constraints(),
        by_hand=_rows_of(origins, tuning.by_hand),
    )
    same = study.layers == old.layers and study.target.name == old.target.name
    return State(study, replace(after, made_by=tuning.made_by) if same else after), (*notes, *study.notes)


def _what_changed(old: Study, study: Study) -> list[str]:
    now, before = study.target.name, old.target.name
    if now != before:
        return [f"The plan is now for {now}. Undo goes back to {before}."]
    names = {"original": "as in the original checkpoint", "checkpoint": "as in the checkpoint's files"}
    return [f"Layers are now called {names[study.names]}. Undo goes back."]


def _origins(study: Study, old: Study) -> list[list[int]]:
    """The layers of the old study, by index, that hold weights of each layer of the new."""
    owners = defaultdict(list)
    for row, layer in enumerate(old.layers):
        for tensor in tensors_of(old.checkpoint, layer.name):
            owners[tensor].append(row)
    return [
        sorted({row for tensor in tensors_of(study.checkpoint, layer.name) for row in owners[tensor]})
        for layer in study.layers
    ]


def tensors_of(checkpoint: Checkpoint, layer: str) -> set[str]:
    """The tensors of the files that a layer is made of."""
    return {layer} if checkpoint.parts is None else {part.tensor for part in checkpoint.parts[layer]}


def _rows_of(origins: Sequence[Sequence[int]], wanted: frozenset[int]) -> frozenset[int]:
    return frozenset(row for row, rows in enumerate(origins) if not wanted.isdisjoint(rows))


def _learnt(study: Study, old: Study, origins: Sequence[Sequence[int]]) -> dict[str, float]:
    """What was learnt of layers, under the new names; the mean where several become one."""
    return {
        layer.name: float(np.mean([old.learnt[old.layers[row].name] for row in rows]))
        for layer, rows in zip(study.layers, origins, strict=True)
        if rows
    }
