"""``workbench analyze`` and ``plan``: the figures are the session's, and a plan is what gets written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import workbench as wb


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(tmp_path: Path, cache: Path) -> Any:
    """Run the command line in a process of its own, with a cache of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "workbench", *map(str, arguments)]
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
        )

    return run


def test_analyze_shows_every_layer(run: Any) -> None:
    done = run("analyze", "zoo:digits-dit", "--target", "mlx", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert len(document["layers"]) == 33
    by_width = {
        row["bits"]: row["damage"] for row in document["options"] if row["layer"] == "proj_out_1.weight"
    }
    assert by_width[2] > by_width[4] > by_width[8] > by_width[16] == 0
    plain = run("analyze", "zoo:digits-dit", "--target", "mlx", "--top", "0").stdout
    assert all(layer["name"] in plain for layer in document["layers"])


def test_a_plan_is_solved_and_executed(run: Any, tmp_path: Path) -> None:
    done = run(
        "plan", "zoo:digits-dit", "--size", "2.2MB", "--target", "mlx", "--lock", "role:head=8",
        "-o", "plan.yaml", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["payload_bytes"] <= 2_200_000
    assert 0 <= facts["gap"] < 0.05
    plan = wb.Plan.load(tmp_path / "plan.yaml")
    assert plan.locks == {"proj_out_2.weight"}
    assert plan.choices["proj_out_2.weight"].bits == 8
    done = run("quantize", "zoo:digits-dit", "out", "--plan", "plan.yaml", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["actual_bytes"] == facts["payload_bytes"]
    assert report["nsr"] == pytest.approx(facts["damage"] / 33, rel=1e-4), (
        "without a calibration D is the NSR"
    )
    assert wb.load(tmp_path / "out").plan == plan
    assert run("verify", "out", "--source", "zoo:digits-dit").returncode == 0


def test_limits_are_kept_and_the_certificate_speaks_of_them(run: Any, tmp_path: Path) -> None:
    done = run(
        "plan", "zoo:digits-dit", "--max-damage", "0.6", "--target", "mlx", "--min-cosine", "0.98",
        "--floor", "role:modulation=5", "--floor", "*to_q*=3", "--ceiling", "*ff*=4",
        "--tie", "*0.attn1.to_[qk].weight,*0.attn1.to_v.weight", "-o", "plan.yaml", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    plan = wb.Plan.load(tmp_path / "plan.yaml")
    assert facts["damage"] <= 0.6
    assert 0 <= facts["gap"] < 0.02, "of the best plan under the same limits"
    named = {
        "nbytes": "payload_bytes",
        "bpw": "bpw",
        "damage": "damage",
        "gap": "gap",
        "temperature": "temperature",
    }
    assert plan.predicted == {key: facts[name] for key, name in named.items()}
    assert plan.made_by["floors"] == {"role:modulation": 5, "*to_q*": 3}
    bits = {name: option.bits for name, option in plan.choices.items()}
    assert min(width for name, width in bits.items() if "norm1.linear" in name) >= 5
    assert max(width for name, width in bits.items() if ".ff." in name) <= 4
    tied = {plan.choices[f"transformer_blocks.0.attn1.to_{part}.weight"] for part in "qkv"}
    assert len(tied) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--size", "2MB", "--bpw", "4"], 2, "one goal"),
        ([], 2, "one goal"),
        (["--size", "2 horses"], 2, "not a size"),
        (["--size", "1kB"], 2, "No payload of 1,000 bytes can be made"),
        (["--size", "2MB", "--lock", "*nothing*=4"], 2, "matches no layer"),
        (["--size", "2MB", "--lock", "everything"], 2, "PATTERN=BITS"),
        (["--size", "2MB", "--target", "tape"], 2, "no export target 'tape'"),
        (["--max-damage", "0.5", "--bpw", "4"], 2, "one goal"),
        (["--max-damage", "-1"], 2, "must not be negative"),
        (["--size", "2MB", "--floor", "*=8", "--ceiling", "*=4"], 2, "floor and ceiling"),
        (["--size", "2MB", "--floor", "*=x"], 2, "--floor"),
        (["--size", "2MB", "--tie", "proj_out_1.weight,nobody"], 2, "'nobody' matches no layer"),
        (["--size", "2MB", "-o", "missing/plan.yaml"], 2, "missing/plan.yaml: cannot be written"),
    ],
)
def test_what_cannot_be_planned_is_said_and_nothing_written(
    run: Any, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = run("plan", "zoo:digits-dit", "-o", "plan.yaml", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert not (tmp_path / "plan.yaml").exists()


def test_a_plan_that_exists_is_never_overwritten(run: Any, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("mine")
    done = run("plan", "zoo:digits-dit", "--bpw", "4", "-o", "plan.yaml")
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert (tmp_path / "plan.yaml").read_text() == "mine"


def test_a_budget_that_compression_leaves_unspent_is_told_in_the_plan(run: Any, tmp_path: Path) -> None:
    done = run("plan", "zoo:digits-dit", "--size", "1.4MB", "-o", "plan.yaml")
    assert done.returncode == 0, done.stderr
    (told,) = (line for line in done.stdout.splitlines() if "ask for about" in line)
    assert "less than the 1.4MB asked for" in told
    done = run("plan", "zoo:digits-dit", "--size", "1.4MB", "-o", "again.yaml", "--json")
    likely = json.loads(done.stdout)["likely_bytes"]
    done = run("quantize", "zoo:digits-dit", "out", "--plan", "plan.yaml", "--json")
    actual = json.loads(done.stdout)["actual_bytes"]
    assert actual < 0.9 * 1_400_000
    assert likely == pytest.approx(actual, rel=0.1)

    # Eight bits hardly compress, and other targets do not.
    assert "ask for" not in run("plan", "zoo:digits-dit", "--size", "4.4MB", "--dry-run").stdout
    done = run("plan", "zoo:digits-dit", "--size", "1.4MB", "--target", "mlx", "--dry-run", "--json")
    document = json.loads(done.stdout)
    assert document["likely_bytes"] == document["payload_bytes"]
