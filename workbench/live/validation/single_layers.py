"""Trying one layer at a time: what the final output becomes when it alone is quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pyarrow as pa

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint
from workbench.live.importance.sensitivity import in_files
from workbench.live.importance.trials import changed
from workbench.live.model.weights import Slot
from workbench.live.validation.weight_errors import layer_errors
from workbench.plan import Option, Plan
from workbench.thermo.hull import hull

TRIALS_SCHEMA = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("bits", pa.int32(), nullable=False),
        pa.field("scheme", pa.string(), nullable=False),
        pa.field("group_size", pa.int32(), nullable=False),
        pa.field("is_present", pa.bool_(), nullable=False),
        pa.field("predicted", pa.float64(), nullable=False),
        pa.field("measured", pa.list_(pa.float64()), nullable=False),
    ]
)
"""Columns of `Comparison.trials`: an option of a layer, whether it is the plan's, and the error of the final output
with this layer alone quantized so: predicted, and measured in each run."""


Row = dict[str, Any]
"""A row of `Session.options`."""


def neighbour(present: Row, options: Sequence[Row]) -> Row | None:
    """The option that a solver gives a layer for a few bytes less, or, where it has the least, for a few more.

    Parameters
    ----------
    present : dict
        The layer's present option.
    options : sequence of dicts
        All of the layer's.

    Returns
    -------
    dict or None
        None where no other option changes the weights.
    """
    path = [options[place] for place in hull([o["nbytes"] for o in options], [o["damage"] for o in options])]
    lossy = [option for option in path if option["damage"] > 0]
    below = [option for option in lossy if option["nbytes"] < present["nbytes"]]
    above = [option for option in lossy if option["nbytes"] > present["nbytes"]]
    return below[-1] if below else above[0] if above else None


def with_options(plan: Plan, options: Mapping[str, Row]) -> Plan:
    """A plan with only these layers quantized, each by its row."""
    choices = {
        name: Option(row["bits"], row["scheme"], row["group_size"], row["nbytes"])
        for name, row in options.items()
    }
    return replace(plan, choices=choices)


def try_alone(
    plan: Plan,
    slots: Mapping[str, Slot],
    checkpoint: Checkpoint,
    records: CalibrationRecords | None,
    options: Mapping[str, Row],
    measure: Callable[[], list[float]],
    is_present: bool,
) -> Iterator[Row]:
    """Rows of `TRIALS_SCHEMA`: each layer in turn at an option of its, the others as they are.

    Parameters
    ----------
    plan : Plan
        For what does not depend on the layer.
    slots : mapping of str to Slot
        Where the model takes the weights from, by the names in the checkpoint's files.
    checkpoint, records
        What the weights are encoded from and weighed by.
    options : mapping of str to dict
        Rows of `Session.options`, by layer.
    measure : callable
        Gives the final output's error in each run.
    is_present : bool
        Whether the options are those of the plan.
    """
    for name, delta in layer_errors(checkpoint, with_options(plan, options), records):
        with ExitStack() as changes:
            for part, change in in_files(checkpoint, {name: delta}).items():
                changes.enter_context(changed(slots[part], change))
            found = measure()
        row = {key: options[name][key] for key in ("layer", "bits", "scheme", "group_size")}
        yield {**row, "is_present": is_present, "predicted": options[name]["damage"], "measured": found}
