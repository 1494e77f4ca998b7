"""Calibration records under the names by which a checkpoint is worked on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workbench.calibration.layer_record import LayerRecord
from workbench.calibration.records import CalibrationRecords
from workbench.checkpoint import Checkpoint


def records_for(records: CalibrationRecords, checkpoint: Checkpoint) -> CalibrationRecords:
    """The records that a capture of a renamed checkpoint would have made, from those of its files' names.

    Layers that become one have the same input; the energies of their outputs, and the output's errors by unit noise in
    their weights, add up. Records that are under the checkpoint's names already stay as they are.

    Parameters
    ----------
    records : CalibrationRecords
    checkpoint : Checkpoint
    """
    parts = checkpoint.parts
    if parts is None or records.fingerprint != checkpoint.files_fingerprint:
        return records
    layers = {}
    missing = {}
    reasons = records.not_recorded
    for name, made_of in parts.items():
        sources = dict.fromkeys(part.tensor for part in made_of)
        found = [records.layers[source] for source in sources if source in records.layers]
        if len(found) == len(sources):
            layers[name] = _joined(found)
        elif lacking := {source: reasons[source] for source in sources if source in reasons}:
            missing[name] = "; ".join(f"{source}: {why}" for source, why in lacking.items())
    return replace(
        records,
        fingerprint=checkpoint.fingerprint,
        layers=layers,
        made_by={**records.made_by, "missing": missing, "renamed from": records.fingerprint},
    )


def _joined(found: Sequence[LayerRecord]) -> LayerRecord:
    if len(found) == 1:
        return found[0]
    estimators = set.intersection(*(set(record.sensitivity) for record in found))
    return replace(
        found[0],
        output_energy=np.sum([record.output_energy for record in found], axis=0),
        sensitivity={
            name: np.sum([record.sensitivity[name] for record in found], axis=0)
            for name in sorted(estimators)
        },
    )
