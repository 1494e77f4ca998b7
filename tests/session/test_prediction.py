"""What an export is said to take beforehand, beside what it took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.checkpoint import DTYPES, open_checkpoint
from workbench.engine.orchestrator import BASE_BYTES, WORKER_BYTES
from workbench.work import disk_workers


@pytest.mark.parametrize("target", ["mlx", "parquet", "compressed-tensors", "safetensors"])
def test_bytes_are_those_written(target: str, tmp_path: Path) -> None:
    with wb.open("zoo:digits-dit", target=target, group_size=64, cache=tmp_path / "cache") as session:
        session.solve("2.6MB" if target != "safetensors" else "9MB")
        ahead = session.predict()
        out = tmp_path / "out"
        report = session.export(out).result(120)
        assert sum(ahead.files.values()) == ahead.nbytes
        written = {
            str(path.relative_to(out)): path.stat().st_size for path in out.rglob("*") if path.is_file()
        }
        assert set(written) == {*ahead.files, *ahead.side_files, "workbench.json"}
        assert all(written[name] == size for name, size in ahead.side_files.items())
        if target == "parquet":
            assert not ahead.is_exact, "parquet compresses"
            assert all(written[name] <= size for name, size in ahead.files.items())
        else:
            assert ahead.is_exact
            assert all(written[name] == size for name, size in ahead.files.items())
            assert report.actual_bytes == ahead.nbytes
        assert ahead.nbytes == session.totals.nbytes
        assert ahead.seconds > 0
        assert ahead.peak_bytes == BASE_BYTES + disk_workers() * WORKER_BYTES


def test_a_plan_that_keeps_all_has_nothing_to_try(tmp_path: Path) -> None:
    with wb.open("zoo:digits-dit", target="mlx", cache=tmp_path) as session:
        session.keep("*")
        assert session.predict().seconds > 0


def test_shards_are_foreseen(tmp_path: Path) -> None:
    settings = wb.DiffusionQuantConfig(target="mlx", shard_size_mb=0.5)
    with wb.open("zoo:digits-dit", target="mlx", shard_size="500kB", cache=tmp_path / "cache") as session:
        ahead = session.predict()
        session.export(tmp_path / "out", config=settings).result(120)
        assert len(ahead.files) > 4
        assert "model.safetensors.index.json" in ahead.files
        assert all((tmp_path / "out" / name).stat().st_size == size for name, size in ahead.files.items())


def test_a_session_exports_what_its_plan_decodes_to(tmp_path: Path) -> None:
    plain = wb.DiffusionQuantConfig(target="safetensors")
    with wb.open("zoo:digits-dit", target="mlx", group_size=64, cache=tmp_path / "cache") as session:
        session.export(tmp_path / "plain", config=plain).result(120)
        session.export(tmp_path / "real").result(120)
    real, plain_weights = wb.load(tmp_path / "real"), wb.load(tmp_path / "plain")
    for name, option in real.plan.choices.items():
        if not option.is_kept:
            assert (plain_weights[name] == real[name].astype(plain_weights_dtype(name)).astype("f4")).all()


def plain_weights_dtype(name: str) -> np.dtype[Any]:
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        return DTYPES[checkpoint.tensors[name].dtype]


def test_all_widths_are_offered_when_asked_for_and_exported_as_planned(tmp_path: Path) -> None:
    opened: dict[str, Any] = {"target": "compressed-tensors", "group_size": 64, "cache": tmp_path / "cache"}
    with wb.open("zoo:digits-dit", **opened) as session:
        session.set_bits("*", 3)
        assert {option.bits for option in session.plan.choices.values() if not option.is_kept} == {4}
    with wb.open("zoo:digits-dit", **opened, all_widths=True) as session:
        session.set_bits("*", 3)
        assert {option.bits for option in session.plan.choices.values() if not option.is_kept} == {3}
        ahead = session.predict()
        assert session.export(tmp_path / "out").result(120).actual_bytes == ahead.nbytes
    assert wb.verify(tmp_path / "out", "zoo:digits-dit").ok


def test_asymmetric_options_are_offered_when_asked_for(tmp_path: Path) -> None:
    """The default is what transformers loads. A plan that has others says how it is opened."""
    opened: dict[str, Any] = {"target": "compressed-tensors", "group_size": 64, "cache": tmp_path / "cache"}
    with wb.open("zoo:digits-dit", **opened, scheme="asymmetric") as asked:
        assert {"asymmetric", "symmetric"} <= set(asked.options["scheme"].to_pylist())
        asked.save_plan(tmp_path / "plan.yaml")
        assert "asymmetric" in {option.scheme for option in asked.plan.choices.values()}
    with wb.open("zoo:digits-dit", **opened) as session:
        assert set(session.options["scheme"].to_pylist()) == {"symmetric", "keep"}
        session.solve(bpw=4.5)
        assert {option.scheme for option in session.plan.choices.values()} <= {"symmetric", "keep"}
        with pytest.raises(wb.ConfigurationError, match=r"open the checkpoint with scheme='asymmetric'"):
            session.load_plan(tmp_path / "plan.yaml")
