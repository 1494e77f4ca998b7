"""The look at every layer: from counts of bit patterns where weights have 16 bits, and encoded only where in doubt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.checkpoint import TensorInfo, open_checkpoint
from workbench.engine.execution import execute
from workbench.engine.execution.units import write_units
from workbench.engine.resolution.survey import survey_layer
from workbench.formats import target_named
from workbench.formats.parquet.codec import ParquetCodec
from workbench.plan import Layer, Option
from workbench.quantize import encode_affine
from workbench.thermo.measurement.profile import layer_entropy

Make = Callable[..., Path]
NAME = "blocks.0.attn.to_q.weight"


def weights(tail: float, seed: int = 0, rows: int = 64) -> np.ndarray[Any, Any]:
    chance = np.random.default_rng(seed)
    return (chance.standard_normal((rows, 256)) * np.exp(tail * chance.standard_normal((rows, 256)))).astype(
        ml_dtypes.bfloat16
    )


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_the_entropy_is_that_of_the_same_weights_in_float32(make_checkpoint: Make, dtype: Any) -> None:
    values = weights(1.0).astype(np.float32).astype(dtype)
    found = []
    for name, tensor in (("narrow", values), ("wide", values.astype(np.float32))):
        with open_checkpoint(make_checkpoint({NAME: tensor}, name)) as checkpoint:
            found.append(layer_entropy(checkpoint, checkpoint.layers[0], lambda _: None))
    counts, _ = np.histogram(values.astype(np.float64), 256)
    share = counts[counts > 0] / values.size
    assert found[0] == found[1] == pytest.approx(-(share * np.log2(share)).sum() / 8, abs=2e-3)


def deceptive(seed: int = 0) -> np.ndarray[Any, Any]:
    """A large layer whose first rows two bits hold, and the others not: at 4 bits all is well."""
    values = weights(0.8, seed, 2048).astype(np.float32)
    values[:128] = np.sign(values[:128])
    return values.astype(ml_dtypes.bfloat16)


def surveyed(source: Path, min_accuracy: float) -> Any:
    target = target_named("parquet")
    config = wb.DiffusionQuantConfig(min_accuracy=min_accuracy)
    with open_checkpoint(source) as checkpoint:
        layer = checkpoint.layers[0]
        wishes = [target.quantized(layer, bits, "asymmetric", 64) for bits in (4, 8)]
        return survey_layer(
            layer, checkpoint, target.encoder(checkpoint), wishes, lambda: 0.5, config, lambda _: None
        )


def test_a_large_layer_whose_accuracy_is_clear_is_not_encoded_whole(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    original = ParquetCodec.encode
    monkeypatch.setattr(
        ParquetCodec, "encode", lambda *args: encoded.append(len(args[1].weights)) or original(*args)
    )
    small, large = (make_checkpoint({NAME: weights(0.0, rows=rows)}, str(rows)) for rows in (64, 2048))
    found = surveyed(large, 0.85)
    assert (found.option.bits, found.is_sampled, encoded) == (4, True, [128])
    encoded.clear()
    found = surveyed(large, 0.995)  # it has .9954
    assert (found.option.bits, found.is_sampled, encoded) == (4, False, [128, 2048]), "too near to be sure"
    encoded.clear()
    found = surveyed(large, 0.9999)
    assert (found.option.bits, found.is_sampled, encoded) == (8, False, [128, 2048])
    assert [miss.split()[0] for miss in found.fallback] == ["int4"]
    encoded.clear()
    found = surveyed(small, 0.85)
    assert (found.option.bits, found.is_sampled, encoded) == (4, False, [64])


@given(st.floats(0, 2), st.integers(0, 1000), st.sampled_from([2, 3, 4, 6, 8]), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_without_a_clear_sample_a_layer_is_settled_by_its_own_cosine(
    tail: float, seed: int, bits: int, min_accuracy: float
) -> None:
    values = weights(tail, seed, 1024)
    layer = Layer(NAME, "attention.q", "linear", 0, values.shape, "BF16")
    target = target_named("parquet")
    option = target.quantized(layer, bits, "asymmetric", 64)
    checkpoint: Any = SimpleNamespace(
        tensors={NAME: TensorInfo(NAME, "BF16", values.shape, Path("w"), 0, values.nbytes)},
        read_rows=lambda name, start, stop: values[start:stop],
        keeps_rows=True,
    )
    found = survey_layer(
        layer, checkpoint, target.encoder(checkpoint), [option, Option(16, "keep", 0, values.nbytes)], lambda: 0.5,
        wb.DiffusionQuantConfig(min_accuracy=min_accuracy), lambda _: None,
    )  # fmt: skip
    cosine = encode_affine(values, bits, 64, False).error.cosine
    assert found.is_sampled or (found.option == option) == (cosine >= min_accuracy)
    assert not found.is_sampled or found.option == option


# ---- what a sample promised and the layer does not keep ---------------------------------------------------------

TARGETS = ["parquet", "mlx", "compressed-tensors"]

SHARD_MB = 0.4
"""So that two bits fit one safetensors file, and what comes of them in the end does not."""


def misled(make_checkpoint: Make) -> Path:
    return make_checkpoint(
        {
            NAME: deceptive(),
            "blocks.0.fc.weight": weights(0.0, 1, 2048),
            "blocks.1.fc.weight": weights(0.0, 2),
        }
    )


def two_bits(target: str, **more: Any) -> wb.DiffusionOrchestrator:
    given = {"target": target, "bit_width": 2, "min_accuracy": 0.85, "shard_size_mb": SHARD_MB, **more}
    return wb.DiffusionOrchestrator(wb.DiffusionQuantConfig.model_validate(given))


def payload(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "workbench.json"}


@pytest.mark.parametrize("target", TARGETS)
def test_it_falls_back_when_it_is_read_back(make_checkpoint: Make, tmp_path: Path, target: str) -> None:
    source, out = misled(make_checkpoint), tmp_path / "out"
    heard: list[tuple[float, str]] = []
    report = two_bits(target).run(source, out, callback=lambda *said: heard.append(said))
    found = {layer.name: layer for layer in report.layers}[NAME]
    assert (found.bits, [miss.split()[0] for miss in found.fallback]) == (4, ["int2"])
    assert report.met
    assert wb.verify(out, source).ok
    # As if the layer had been given its 4 bits beforehand: nothing of the first attempt is left.
    two_bits(target, layer_bit_widths={NAME: 4}).run(source, tmp_path / "told")
    assert payload(out) == payload(tmp_path / "told")
    assert heard[-1][0] == 1.0


def test_the_two_attempts_differ_in_their_files(make_checkpoint: Make, tmp_path: Path) -> None:
    """Else the test above would not see what the first leaves behind."""
    source = misled(make_checkpoint)
    names = []
    for bits in (2, 4):
        told = two_bits("mlx", layer_bit_widths={NAME: bits}, min_accuracy=0.0)
        told.run(source, tmp_path / str(bits))
        names.append(set(payload(tmp_path / str(bits))))
    assert names[0] - names[1]


def test_with_fail_fast_it_is_an_error(make_checkpoint: Make, tmp_path: Path) -> None:
    with pytest.raises(wb.QuantizationError, match=f"{NAME}.* has a cosine of 0.7.* at 2 bits"):
        two_bits("parquet", fail_fast=True).run(misled(make_checkpoint), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_plan_is_executed_as_it_is(make_checkpoint: Make, tmp_path: Path) -> None:
    source = misled(make_checkpoint)
    with wb.open(source, cache=tmp_path / "cache") as session:
        session.set_bits("*", 2)
        config = wb.DiffusionQuantConfig(min_accuracy=0.85)
        report = session.export(tmp_path / "out", config=config).result(120)
    assert {layer.bits for layer in report.layers} == {2}
    assert not report.met


@pytest.mark.parametrize("target", TARGETS)
def test_an_interrupted_second_attempt_is_resumed(
    make_checkpoint: Make, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = misled(make_checkpoint), tmp_path / "out"
    two_bits(target).run(source, tmp_path / "whole")
    begun: list[Any] = []
    original = write_units

    def write(*args: Any) -> Any:
        begun.append(args)
        if len(begun) == 2:
            raise RuntimeError("enough")
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(execute, "write_units", write)
        with pytest.raises(RuntimeError, match="enough"):
            two_bits(target).run(source, out, resume=True)
    two_bits(target).run(source, out, resume=True)
    assert payload(out) == payload(tmp_path / "whole")
