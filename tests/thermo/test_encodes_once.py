"""Pricing, writing and checking encode no row twice: a codec that counts is put in the place of each format's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.checkpoint import Checkpoint, open_checkpoint
from workbench.formats import Format, plan_for, target_named, target_names
from workbench.quantize import Encoded, Encodings, Rows
from workbench.thermo import DamageModel, measure_options


@pytest.fixture
def digits() -> Iterator[Checkpoint]:
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        yield checkpoint


class Counting:
    """A codec that counts how often rows are encoded as an option, by layer, first row and option."""

    def __init__(self, codec: Any) -> None:
        self.codec = codec
        self.encodes: Counter[Any] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.codec, name)

    def encode(self, rows: Rows, option: wb.Option) -> Encoded:
        self.encodes[rows.tensor, rows.row_start, option] += 1
        found: Encoded = self.codec.encode(rows, option)
        return found


def counted(name: str) -> tuple[Format, Counting]:
    counting = Counting(target_named(name).codec)
    codec: Any = counting
    return replace(target_named(name), codec=codec), counting


@pytest.mark.parametrize("calibration", [None, "zoo:digits-dit"])
@pytest.mark.parametrize("name", target_names())
def test_pricing_encodes_each_block_once_an_option(
    name: str, calibration: str | None, digits: Checkpoint, tmp_path: Path
) -> None:
    target, counting = counted(name)
    damage_model = None if calibration is None else DamageModel.read(calibration, digits)
    encodings = None if damage_model is None else Encodings("normal", damage_model.time_aware.records)
    measure_options(
        digits, target, sample_rows=64, group_sizes=[0, 16, 32, 64], damage_model=damage_model, encodings=encodings,
        cache=tmp_path,
    )  # fmt: skip
    assert counting.encodes
    assert set(counting.encodes.values()) == {1}


@pytest.mark.parametrize("name", target_names())
def test_what_a_dequantized_export_holds_is_encoded_once_by_the_format_it_is_of(
    name: str, digits: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_named(name)
    layer = max(digits.layers, key=lambda one: one.params)
    option = target.quantized(layer, 4, target.scheme, 64)
    plan = wb.Plan(name, {layer.name: option}, digits.fingerprint)
    owner = target_named("parquet" if name == "safetensors" else name).codec
    encodes: list[str] = []
    original = type(owner).encode
    monkeypatch.setattr(
        type(owner), "encode", lambda self, *of: encodes.append(of[0].tensor) or original(self, *of)
    )

    plain = plan_for("safetensors", plan, digits.layers).choices[layer.name]
    encoded = (
        target_named("safetensors")
        .encoder(digits)
        .encode(layer, plain, digits.read_rows(layer.name, 0, layer.rows))
    )
    assert encoded.error.nsr > 0
    assert encoded.code_counts.sum() == layer.params
    assert encoded.decoded.shape == (layer.rows, layer.cols)
    assert encodes == [layer.name]
