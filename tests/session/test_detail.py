"""A layer from close by says what NumPy says of the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.session import Session

NAMES = ("transformer_blocks.0.attn1.to_q.weight", "pos_embed.proj.weight", "proj_out_2.weight")


@pytest.fixture(scope="module", params=["mlx", "parquet"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    cache = tmp_path_factory.mktemp("cache")
    with wb.open("zoo:digits-dit", target=request.param, group_size=64, cache=cache) as session:
        yield session


def weights(session: Session, name: str) -> np.ndarray:
    layer = next(layer for layer in session.checkpoint.layers if layer.name == name)
    return session.checkpoint.read_rows(name, 0, layer.rows).astype(np.float64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_shares_and_levels(session: Session, name: str, bits: int) -> None:
    session.set_bits(name, bits)
    detail = session.detail(name)
    assert detail.option == session.plan.choices[name]
    for shares in (detail.weights, detail.decoded):
        assert shares.sum() == pytest.approx(1)
        assert shares.min() >= 0
    assert (np.diff(detail.edges) > 0).all()
    if not detail.option.is_kept:
        assert len(detail.levels) <= 2**detail.option.bits
        assert (np.diff(detail.levels) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_errors_are_those_of_the_export(session: Session, name: str, tmp_path: Path) -> None:
    session.set_bits("*", 3)
    detail = session.detail(name)
    true = weights(session, name)
    assert detail.rows == len(true), "small layers are looked at as a whole"
    session.export(tmp_path / "out").result(120)
    found = np.asarray(wb.load(tmp_path / "out")[name], np.float64).reshape(true.shape)
    signal = np.square(true).sum(0)
    expected = np.divide(np.square(true - found).sum(0), signal, out=np.zeros_like(signal), where=signal > 0)
    # What is loaded is rounded to the source's dtype.
    np.testing.assert_allclose(detail.channel_error, expected, rtol=0.02, atol=1e-6)
    np.testing.assert_array_equal(detail.channels, np.arange(true.shape[1]))
    np.testing.assert_allclose(detail.weights, np.histogram(true, detail.edges)[0] / true.size)


def test_a_kept_layer_has_no_error(session: Session) -> None:
    session.keep(NAMES[0])
    detail = session.detail(NAMES[0])
    assert detail.option.is_kept
    assert not detail.channel_error.any()
    np.testing.assert_array_equal(detail.weights, detail.decoded)


def test_a_layer_that_there_is_not(session: Session) -> None:
    with pytest.raises(wb.ArgumentError, match="matches no layer"):
        session.detail("nothing.weight")
