"""Folds as values: the factors are SmoothQuant's, a record gives the same fold again, and a damaged one is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workbench.errors import MetadataError
from workbench.folds.fold import Divided, Fold, Site, balance, read_folds

SITE = Site("block: norm → q", "norm", 4, (Divided("norm.weight"),), ("q.weight",))

_positive = arrays(np.float32, 6, elements=st.floats(2.0**-10, 2.0**10, width=32))


@given(_positive, _positive, st.floats(0, 1))
def test_factors_are_the_formula_up_to_one_scale(
    activations: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], alpha: float
) -> None:
    formula = activations.astype(float) ** alpha / weights.astype(float) ** (1 - alpha)
    ratio = balance(activations, weights, alpha) / formula
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    assert np.log(balance(activations, weights, alpha)).mean() == pytest.approx(0, abs=1e-5)


def test_the_ends_of_alpha_make_weights_or_channels_equal() -> None:
    activations, weights = np.array([1, 4, 16], np.float32), np.array([3, 0.5, 7], np.float32)
    even = weights * balance(activations, weights, 0.0)
    np.testing.assert_allclose(even, even[0], rtol=1e-6)
    even = activations / balance(activations, weights, 1.0)
    np.testing.assert_allclose(even, even[0], rtol=1e-6)


def test_a_channel_that_nobody_sees_or_reads_is_left_alone() -> None:
    factors = balance(np.array([0, 2, 8, 5], np.float32), np.array([3, 1, 1, 0], np.float32), 0.5)
    assert factors.tolist()[::3] == [1.0, 1.0]
    assert factors[1] * factors[2] == pytest.approx(1.0)
    assert balance(np.zeros(2, np.float32), np.ones(2, np.float32), 0.5).tolist() == [1.0, 1.0]


def test_repeated_heads_share_their_factors() -> None:
    site = Site("v → o", "linear", 4, (), ("o.weight",), heads=2, repeats=3)
    assert site.spread.tolist() == [0, 1] * 3 + [2, 3] * 3
    assert site.gather(np.arange(12.0)).tolist() == [4, 5, 10, 11]


@given(arrays(np.float32, 4, elements=st.floats(float(np.float32(1e-30)), float(np.float32(1e30)), width=32)))
def test_a_record_gives_the_same_factors_bit_for_bit(factors: np.ndarray[Any, Any]) -> None:
    document = json.loads(json.dumps([Fold(SITE, 0.3, factors).to_dict()]))
    [fold] = read_folds(document, [SITE], "file")
    assert (fold.site, fold.alpha) == (SITE, 0.3)
    assert fold.factors.dtype == np.float32
    assert fold.factors.tobytes() == factors.tobytes()


SOUND = {"site": SITE.name, "alpha": 0.5, "factors": [1.0, 2.0, 0.5, 1.0]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"site": "elsewhere"}, "no exact fold at 'elsewhere'"),
        ({"site": None}, "an object with a site"),
        ({"alpha": "0.5"}, "an alpha and 4 factors above 0"),
        ({"alpha": True}, "an alpha and 4 factors above 0"),
        ({"factors": [1.0, 2.0, 0.5]}, "an alpha and 4 factors above 0"),
        ({"factors": [1.0, 2.0, 0.5, 0.0]}, "an alpha and 4 factors above 0"),
        ({"factors": [1.0, 2.0, 0.5, -1.0]}, "an alpha and 4 factors above 0"),
        ({"factors": [1.0, 2.0, 0.5, 1e300]}, "an alpha and 4 factors above 0"),
        ({"factors": [1.0, 2.0, 0.5, float("nan")]}, "an alpha and 4 factors above 0"),
        ({"factors": [1.0, 2.0, 0.5, "1"]}, "an alpha and 4 factors above 0"),
        ({"factors": None}, "an alpha and 4 factors above 0"),
    ],
)
def test_a_damaged_record_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(MetadataError, match=message) as caught:
        read_folds([{**SOUND, **wrong}], [SITE], "out/workbench.json: folds")
    assert str(caught.value).startswith("out/workbench.json: folds: ")


@pytest.mark.parametrize("document", [None, {}, ["a"], [SOUND, SOUND]])
def test_what_is_no_list_of_folds_is_refused(document: object) -> None:
    with pytest.raises(MetadataError, match="file: "):
        read_folds(document, [SITE], "file")
