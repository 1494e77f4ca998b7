"""What an export is said to take beforehand, beside what it took."""

from __future__ import annotations

from pathlib import Path

import pytest

import workbench as wb
from workbench.pipeline.orchestrator import BASE_BYTES, WORKER_BYTES
from workbench.work import usable_cores


@pytest.mark.parametrize("target", ["mlx", "parquet"])
def test_bytes_are_those_written(target: str, tmp_path: Path) -> None:
    with wb.open("zoo:digits-dit", target=target, group_size=64, cache=tmp_path / "cache") as session:
        session.solve("2.6MB")
        ahead = session.predict()
        report = session.export(tmp_path / "out").result(120)
        if target == "mlx":
            assert ahead.is_exact
            assert report.actual_bytes == ahead.nbytes
        else:
            assert not ahead.is_exact, "parquet compresses"
            assert report.actual_bytes <= ahead.nbytes
        assert ahead.nbytes == session.totals.nbytes
        assert ahead.seconds > 0
        assert ahead.peak_bytes == BASE_BYTES + usable_cores() * WORKER_BYTES


def test_a_plan_that_keeps_all_has_nothing_to_try(tmp_path: Path) -> None:
    with wb.open("zoo:digits-dit", target="mlx", cache=tmp_path) as session:
        session.keep("*")
        assert session.predict().seconds > 0
