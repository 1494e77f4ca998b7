"""A folded checkpoint reads like any other: tensors, rows and bytes agree; what no fold touches is as it was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.calibration import CalibrationRecords
from workbench.checkpoint import DTYPES, open_checkpoint
from workbench.errors import ShapeMismatchError
from workbench.folds.check import deviation
from workbench.folds.fold import TOLERANCE, Divided, Fold, Site
from workbench.folds.folded import FoldedCheckpoint
from workbench.folds.sites import find_sites

MODULATION = "transformer_blocks.1.norm1.linear"


@pytest.fixture(scope="module")
def folded() -> Iterator[FoldedCheckpoint]:
    rng = np.random.default_rng(0)
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        yield FoldedCheckpoint(
            checkpoint,
            [
                Fold(site, 0.5, np.exp(rng.standard_normal(site.channels)).astype(np.float32))
                for site in find_sites(checkpoint).sites
            ],
        )


def test_it_states_what_it_holds(folded: FoldedCheckpoint) -> None:
    source = folded.source
    assert list(folded.tensors) == list(source.tensors)
    for name, info in folded.tensors.items():
        if name in folded.changes:
            assert (info.dtype, info.nbytes) == ("F32", 2 * source.tensors[name].nbytes)
        else:
            assert info == source.tensors[name]
        whole = folded.view(name)
        assert (whole.shape, whole.dtype) == (info.shape, DTYPES[info.dtype])
    assert folded.nbytes == sum(info.nbytes for info in folded.tensors.values())
    assert [layer.name for layer in folded.layers] == [layer.name for layer in source.layers]
    assert {layer.dtype for layer in folded.layers if layer.name in folded.changes} == {"F32"}
    assert folded.side_files == source.side_files
    assert folded.architecture == source.architecture


def test_what_no_fold_touches_is_as_it_was(folded: FoldedCheckpoint) -> None:
    untouched = [name for name in folded.tensors if name not in folded.changes]
    assert "pos_embed.proj.weight" in untouched
    for name in untouched:
        assert folded.view(name).tobytes() == folded.source.view(name).tobytes()


def test_a_modulation_takes_its_one_along(folded: FoldedCheckpoint) -> None:
    [attention, feed_forward] = [
        fold for fold in folded.folds if fold.site.divided[0].tensor == f"{MODULATION}.weight"
    ]
    shift, scale, gate, shift_2, scale_2, gate_2 = np.split(folded.view(f"{MODULATION}.bias"), 6)
    before = np.split(folded.source.view(f"{MODULATION}.bias").astype(np.float64), 6)
    np.testing.assert_allclose(shift, before[0] / attention.factors, rtol=1e-6)
    np.testing.assert_allclose(1 + scale, (1 + before[1]) / attention.factors, rtol=3e-7, atol=1e-7)
    np.testing.assert_allclose(shift_2, before[3] / feed_forward.factors, rtol=1e-6)
    np.testing.assert_allclose(1 + scale_2, (1 + before[4]) / feed_forward.factors, rtol=3e-7, atol=1e-7)
    assert [gate.tolist(), gate_2.tolist()] == [before[2].tolist(), before[5].tolist()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_rows_and_bytes_are_those_of_the_whole(folded: FoldedCheckpoint, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(folded.tensors)))
    whole = folded.view(name)
    flat = whole.reshape(whole.shape[0], -1)
    start = data.draw(st.integers(0, len(flat)))
    stop = data.draw(st.integers(start, len(flat)))
    assert folded.read_rows(name, start, stop).tobytes() == flat[start:stop].tobytes()
    out = np.empty((stop - start, flat.shape[1]), np.uint32 if name in folded.changes else np.uint16)
    assert folded.read_rows(name, start, stop, out) is out
    assert out.tobytes() == flat[start:stop].tobytes()
    first = data.draw(st.integers(0, whole.nbytes))
    buffer = bytearray(data.draw(st.integers(0, whole.nbytes - first)))
    folded.read_into(name, first, buffer)
    assert bytes(buffer) == whole.tobytes()[first : first + len(buffer)]


def test_what_does_not_fit_is_refused(folded: FoldedCheckpoint) -> None:
    name = f"{MODULATION}.weight"
    with pytest.raises(ShapeMismatchError, match="4 bytes an item"):
        folded.read_rows(name, 0, 2, np.empty((2, 256), np.uint16))
    with pytest.raises(ShapeMismatchError, match="not within it"):
        folded.read_into(name, folded.tensors[name].nbytes - 1, bytearray(2))
    with pytest.raises(ShapeMismatchError, match="there are no rows"):
        folded.read_rows(name, 0, 10**6)


def test_the_fingerprint_is_of_the_source_and_the_folds(folded: FoldedCheckpoint) -> None:
    again = FoldedCheckpoint(folded.source, list(reversed(folded.folds)))
    assert again.fingerprint == folded.fingerprint != folded.source.fingerprint
    fewer = FoldedCheckpoint(folded.source, folded.folds[:-1])
    first = folded.folds[0]
    nudged = Fold(first.site, first.alpha, first.factors * np.float32(1.001))
    other = FoldedCheckpoint(folded.source, [nudged, *folded.folds[1:]])
    assert len({folded.fingerprint, fewer.fingerprint, other.fingerprint}) == 3


def test_the_check_finds_exact_folds_exact(folded: FoldedCheckpoint) -> None:
    records = CalibrationRecords.load("zoo:digits-dit")
    seen = {
        fold.site.name: deviation(folded.source, fold, records, lambda nbytes: None) for fold in folded.folds
    }
    assert max(seen.values()) < TOLERANCE
    assert min(seen.values()) > 0, "float32 rounds"


def test_the_check_finds_what_is_not_exact(folded: FoldedCheckpoint) -> None:
    records = CalibrationRecords.load("zoo:digits-dit")
    fold = folded.folds[0]
    forgotten = tuple(Divided(part.tensor, part.start) for part in fold.site.divided)
    missing = tuple(part for part in fold.site.divided if not part.tensor.endswith("bias"))
    for divided in (forgotten, missing):
        site = Site("wrong", fold.site.producer, fold.site.channels, divided, fold.site.consumers)
        wrong = Fold(site, 0.5, fold.factors)
        assert deviation(folded.source, wrong, records, lambda nbytes: None) > 100 * TOLERANCE


def test_the_check_finds_factors_too_far_apart(folded: FoldedCheckpoint) -> None:
    records = CalibrationRecords.load("zoo:digits-dit")
    site = folded.folds[0].site
    extreme = Fold(site, 0.5, np.where(np.arange(site.channels) % 2, 3e4, 3e-5).astype(np.float32))
    assert TOLERANCE < deviation(folded.source, extreme, records, lambda nbytes: None) < 0.1
