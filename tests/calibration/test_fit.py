"""Guards the match of records and checkpoint: those of other weights, layers or shapes are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.errors import ShapeMismatchError, ValidationError

Build = Callable[..., Any]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Any:
    rng = np.random.default_rng(0)
    shapes = {
        "block.to_q.weight": (6, 4),
        "block.conv.weight": (6, 2, 3, 3),
        "embed_tokens.weight": (8, 5),
    }
    path = tmp_path / "model.safetensors"
    save_file({name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}, path)
    with open_checkpoint(path) as opened:
        yield opened


def given(build: Build, checkpoint: Checkpoint, **layers: int) -> CalibrationRecords:
    names = {
        "to_q": "block.to_q.weight",
        "conv": "block.conv.weight",
        "tokens": "embed_tokens.weight",
        "nobody": "nobody.weight",
    }
    values: dict[str, Any] = {
        names[key]: np.ones((2, channels), np.float32) for key, channels in layers.items()
    }
    if "tokens" in layers:
        values[names["tokens"]] = np.arange(8)
    records: CalibrationRecords = build([(1.0, values)], fingerprint=checkpoint.fingerprint)
    if "conv" in layers:
        conv = replace(records.layers[names["conv"]], kind="conv")
        records = replace(records, layers={**records.layers, names["conv"]: conv})
    return records


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_records_of_the_checkpoint_fit(build: Build, checkpoint: Checkpoint, channels: int) -> None:
    """A convolution [6, 2, 3, 3] has 2 input channels, or 4 or 6 in groups of 2."""
    given(build, checkpoint, to_q=4, conv=channels, tokens=8).check_fit(checkpoint)


def test_another_checkpoint_is_refused(build: Build, checkpoint: Checkpoint) -> None:
    records = replace(given(build, checkpoint, to_q=4), fingerprint="0" * 64)
    with pytest.raises(
        ValidationError, match=r"made with other weights \(fingerprint 000000000000"
    ) as raised:
        records.check_fit(checkpoint)
    assert checkpoint.fingerprint[:12] in str(raised.value)
    assert raised.value.path == checkpoint.path


def test_an_unknown_layer_is_refused_by_name(build: Build, checkpoint: Checkpoint) -> None:
    with pytest.raises(
        ValidationError, match=r"a layer 'nobody\.weight' that the checkpoint has not"
    ) as raised:
        given(build, checkpoint, nobody=4).check_fit(checkpoint)
    assert raised.value.tensor == "nobody.weight"


@pytest.mark.parametrize(
    ("layer", "channels"), [("to_q", 5), ("to_q", 1), ("conv", 3), ("conv", 8), ("conv", 1)]
)
def test_other_channels_are_refused_by_name(
    build: Build, checkpoint: Checkpoint, layer: str, channels: int
) -> None:
    with pytest.raises(
        ShapeMismatchError, match=rf"has {channels} input channels for 'block\.{layer}"
    ) as raised:
        given(build, checkpoint, **{layer: channels}).check_fit(checkpoint)
    assert raised.value.tensor == f"block.{layer}.weight"


def test_the_digest_knows_all_that_decides_a_price(records: CalibrationRecords) -> None:
    seen = {records.digest}
    steady = records.layers["steady.weight"]
    changes: list[dict[str, Any]] = [
        {"mean": steady.mean + 1},
        {"second_moment": steady.second_moment * 2},
        {"output_energy": steady.output_energy * 2},
        {"count": steady.count + 1},
        {"sensitivity": {}},
        {"sensitivity": {**steady.sensitivity, "white:step": np.ones(5)}},
    ]
    for change in changes:
        layers = {**records.layers, "steady.weight": replace(steady, **change)}
        seen.add(replace(records, layers=layers).digest)
    seen.add(replace(records, bucket_calls=records.bucket_calls * 2).digest)
    seen.add(replace(records, fingerprint="x").digest)
    assert len(seen) == len(changes) + 3
    assert replace(records, made_by={}).digest == records.digest
