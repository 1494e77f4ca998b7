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

from workbench.checkpoint import TensorInfo, open_checkpoint
from workbench.formats import target_named
from workbench.formats.parquet import ParquetTarget
from workbench.pipeline.survey import entropy_of, survey_layer
from workbench.plan import Layer, Option
from workbench.quantize import FAST, encode_affine

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
            found.append(entropy_of(checkpoint.layers[0], checkpoint, lambda _: None))
    counts, _ = np.histogram(values.astype(np.float64), 256)
    share = counts[counts > 0] / values.size
    assert found[0] == found[1] == pytest.approx(-(share * np.log2(share)).sum() / 8, abs=2e-3)


def surveyed(source: Path, min_accuracy: float) -> Any:
    target = target_named("parquet")
    with open_checkpoint(source) as checkpoint:
        layer = checkpoint.layers[0]
        wishes = [target.quantized(layer, bits, "asymmetric", 64) for bits in (4, 8)]
        return survey_layer(layer, checkpoint, target, wishes, FAST, min_accuracy, False, lambda _: None)


def test_a_layer_whose_accuracy_is_certain_is_not_encoded(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    original = ParquetTarget.error
    monkeypatch.setattr(ParquetTarget, "error", lambda *args: encoded.append(args[3]) or original(*args))
    even, spread = (
        make_checkpoint({NAME: weights(0.0)}, "even"),
        make_checkpoint({NAME: weights(1.5)}, "spread"),
    )
    assert surveyed(even, 0.85).option.bits == 4
    assert encoded == []
    assert surveyed(spread, 0.85).option.bits == 4, "outliers hide from the extremes how good it is"
    assert encoded == [NAME]
    missed = surveyed(spread, 0.9999)
    assert missed.option.bits == 8
    assert len(missed.fallback) == 1


@given(st.floats(0, 2), st.integers(0, 1000), st.sampled_from([2, 3, 4, 6, 8]), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_certain_is_certain(tail: float, seed: int, bits: int, min_accuracy: float) -> None:
    """What is let through without being encoded has the cosine."""
    values = weights(tail, seed, 16)
    layer = Layer(NAME, "attention.q", "linear", 0, values.shape, "BF16")
    target = target_named("parquet")
    option = target.quantized(layer, bits, "asymmetric", 64)
    checkpoint: Any = SimpleNamespace(
        tensors={NAME: TensorInfo(NAME, "BF16", values.shape, Path("w"), 0, values.nbytes)},
        read_rows=lambda name, start, stop: values[start:stop],
    )
    found = survey_layer(
        layer, checkpoint, target, [option, Option(16, "none", 0, values.nbytes)], FAST, min_accuracy, False,
        lambda _: None,
    )  # fmt: skip
    cosine = encode_affine(values, bits, 64, False).error.cosine
    assert (found.option == option) == (cosine >= min_accuracy)
