"""Guards the speed benchmark: it runs, prints its table and writes what it found. How fast we are it does not judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("bench_speed.py")


def test_the_small_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written, figure = tmp_path / "speed.json", tmp_path / "speed.html"
    command = [sys.executable, str(SCRIPT), "--small", "--folder", str(tmp_path)]
    done = subprocess.run(
        [*command, "--json", str(written), "--figure", str(figure)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stderr
    found = json.loads(written.read_text())
    rows = {row["name"]: row for row in found["encoders"]["rows"]}
    assert {f"ours, RTN {bits} bits" for bits in range(2, 9)} <= rows.keys()
    assert rows["ours, RTN 4 bits"]["sqnr_db"] == pytest.approx(20.9, abs=0.2)
    assert rows["ours, normal 4 bits"]["sqnr_db"] > 21.4
    assert all(rate > 0 for row in rows.values() for rate in row["gbs_1"])
    pipeline = found["pipeline"]["0.2 GB"]
    assert pipeline["exports"]["parquet"]["bpw"] == pytest.approx(4.5, abs=0.05)
    assert pipeline["exports"]["mlx"]["bpw"] == pytest.approx(4.25, abs=0.05)
    assert pipeline["exports"]["gguf"]["bpw"] == pytest.approx(4.5, abs=0.05)
    assert 4.25 < pipeline["exports"]["compressed-tensors"]["bpw"] < 16  # embeddings are kept
    assert pipeline["cp_s"] > 0 < pipeline["profile_s"]
    assert found["scan"]["gbs"] > 0 < found["start"]["import workbench"]
    assert "plotly" in figure.read_text()
