"""``workbench plan`` with plans that are there already: dry runs, other tools' rules; ``verify`` says who decoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import workbench as wb
from workbench.cli import DONE, FAILED, WRONG_USAGE, app
from workbench.errors import ConfigurationError

MODEL = "zoo:digits-dit"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def document(done: Result) -> dict[str, Any]:
    assert done.exit_code == DONE, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_rules_become_a_plan_and_the_dry_run_is_exact(run: Callable[..., Result], tmp_path: Path) -> None:
    rules = {"bits": 4, "group_size": 64, "mode": "affine", "proj_out_2": {"bits": 8, "group_size": 32}}
    Path("rules.json").write_text(json.dumps(rules))
    arguments = ["--from-rules", "rules.json", "--rules-format", "mlx", "--shard-size", "1MB"]
    ahead = document(run("plan", MODEL, *arguments, "-o", "plan.yaml", "--dry-run", "--json"))["dry_run"]
    plan = wb.Plan.load("plan.yaml")
    assert plan.target == "mlx", "that of the rules"
    assert plan.choices["proj_out_2.weight"].bits == 8
    assert {option.bits for option in plan.choices.values()} == {4, 8, 16}
    made = document(run("quantize", MODEL, "out", "--plan", "plan.yaml", "--shard-size", "1MB", "--json"))
    assert made["actual_bytes"] == ahead["nbytes"] == sum(ahead["files"].values())
    assert len(ahead["files"]) > 2
    for name, size in {**ahead["files"], **ahead["side_files"]}.items():
        assert (tmp_path / "out" / name).stat().st_size == size
    assert ahead["seconds"] > 0
    assert ahead["peak_bytes"] > 0
    shown = run("plan", MODEL, "--from-plan", "plan.yaml", "--shard-size", "1MB", "--dry-run").stdout
    for name, size in ahead["files"].items():
        assert f"{name} " in shown
        assert f"{size:,}" in shown


def test_a_dry_run_writes_nothing(run: Callable[..., Result], tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    facts = document(
        run("plan", MODEL, "--bpw", "5", "--target", "compressed-tensors", "--dry-run", "--json")
    )
    assert facts["plan"] is None
    assert facts["dry_run"]["nbytes"] == facts["payload_bytes"]
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("target", ["mlx", "compressed-tensors"])
def test_a_solved_plan_goes_to_rules_and_back(run: Callable[..., Result], target: str) -> None:
    out = ["-o", "plan.yaml", "--to-rules", "rules.json", "--rules-format", target]
    document(run("plan", MODEL, "--bpw", "4.5", "--target", target, *out, "--json"))
    back = ["--from-rules", "rules.json", "--rules-format", target, "-o", "back.yaml"]
    document(run("plan", MODEL, *back, "--json"))
    assert dict(wb.Plan.load("back.yaml").choices) == dict(wb.Plan.load("plan.yaml").choices)


LANGUAGE_MODEL = "zoo:stdlib-mdlm"


def test_rules_for_gguf_go_by_the_names_in_the_file(run: Callable[..., Result]) -> None:
    Path("rules.txt").write_text("attn_q=q8_0\n")
    arguments = ["--rules-format", "llama-quantize", "-o", "plan.yaml", "--json"]
    document(run("plan", LANGUAGE_MODEL, "--from-rules", "rules.txt", *arguments, "--to-rules", "all.txt"))
    plan = wb.Plan.load("plan.yaml")
    chosen = {name: option.scheme for name, option in plan.choices.items() if not option.is_kept}
    assert set(chosen.values()) == {"Q8_0"}
    assert all("q_proj" in name for name in chosen)
    assert plan.effort == "normal"
    assert r"^blk\.0\.attn_q\.weight$=q8_0" in Path("all.txt").read_text().splitlines()
    names = ["--rules-names", "checkpoint"]
    failed = run(
        "plan", LANGUAGE_MODEL, "--from-rules", "rules.txt", *arguments[:2], *names, "-o", "other.yaml"
    )
    assert "'attn_q' matches no layer" in str(failed.exception)
    failed = run(
        "plan", LANGUAGE_MODEL, "--from-rules", "rules.txt", *arguments[:2], "--rules-names", "x", "-o", "o"
    )
    assert "allowed: gguf, checkpoint" in str(failed.exception)


def test_a_session_reads_and_writes_rules_by_either_name(tmp_path: Path) -> None:
    with wb.open(LANGUAGE_MODEL, "gguf", cache=tmp_path / "cache") as session:
        for names, example in ((None, "blk\\.0\\.attn_q"), ("checkpoint", "q_proj")):
            session.set_bits("*q_proj*", 8)
            path = tmp_path / f"{names}.txt"
            session.save_rules(path, "stable-diffusion.cpp", names)
            assert example in path.read_text()
            wanted = dict(session.plan.choices)
            session.set_bits("*", 3)
            session.load_rules(path, "stable-diffusion.cpp", names)
            assert dict(session.plan.choices) == wanted
        assert "names='checkpoint'" in session.script[-1]
        with pytest.raises(ConfigurationError, match="allowed: gguf, checkpoint"):
            session.save_rules(tmp_path / "x", "mlx", "runtime")


def test_what_no_group_targets_is_kept(run: Callable[..., Result]) -> None:
    group = {"targets": ["proj_out_2"], "weights": {"num_bits": 8, "strategy": "channel"}}
    Path("rules.json").write_text(json.dumps({"config_groups": {"a": group}}))
    arguments = ["--from-rules", "rules.json", "--rules-format", "compressed-tensors"]
    document(run("plan", MODEL, *arguments, "-o", "plan.yaml", "--json"))
    choices = wb.Plan.load("plan.yaml").choices
    assert [name for name, option in choices.items() if not option.is_kept] == ["proj_out_2.weight"]


def test_rules_that_say_so_have_zero_points_and_solved_plans_only_with_the_option(
    run: Callable[..., Result],
) -> None:
    weights = {"num_bits": 8, "strategy": "channel", "symmetric": False}
    Path("rules.json").write_text(
        json.dumps({"config_groups": {"a": {"targets": ["proj_out_2"], "weights": weights}}})
    )
    arguments = ["--from-rules", "rules.json", "--rules-format", "compressed-tensors"]
    document(run("plan", MODEL, *arguments, "-o", "rules.yaml", "--json"))
    choices = wb.Plan.load("rules.yaml").choices
    assert choices["proj_out_2.weight"].scheme == "asymmetric"
    for name, scheme, schemes in (
        ("usual", [], {"symmetric", "keep"}),
        ("asked", ["--scheme", "asymmetric"], {"asymmetric", "symmetric", "keep"}),
    ):
        goal = ["--bpw", "4.5", "--target", "compressed-tensors", *scheme]
        document(run("plan", MODEL, *goal, "-o", f"{name}.yaml", "--json"))
        assert {one.scheme for one in wb.Plan.load(f"{name}.yaml").choices.values()} == schemes


def test_a_plan_is_tried_as_plain_safetensors(run: Callable[..., Result], tmp_path: Path) -> None:
    document(run("plan", MODEL, "--bpw", "3", "--target", "mlx", "-o", "plan.yaml", "--json"))
    ahead = document(
        run("plan", MODEL, "--from-plan", "plan.yaml", "--target", "safetensors", "--dry-run", "--json")
    )["dry_run"]
    made = document(run("quantize", MODEL, "out", "--plan", "plan.yaml", "--target", "safetensors", "--json"))
    assert made["target"] == "safetensors"
    assert made["actual_bytes"] == ahead["nbytes"]
    assert any("rounded to the source's dtype" in note for note in made["notes"])
    assert (tmp_path / "out" / "transformer" / "diffusion_pytorch_model.safetensors").exists()


def test_verify_shows_every_layer_and_who_decoded(run: Callable[..., Result], tmp_path: Path) -> None:
    document(run("quantize", MODEL, "out", "--target", "compressed-tensors", "--min-accuracy", "0", "--json"))
    shown = run("verify", "out", "--source", MODEL)
    assert shown.exit_code == DONE
    assert "Decoded by: compressed-tensors 0." in shown.stdout
    facts = document(run("verify", "out", "--source", MODEL, "--json"))
    assert facts["decoder"].startswith("compressed-tensors 0.")
    assert len(facts["by_layer"]) == facts["layers"] == 33
    for layer in facts["by_layer"]:
        assert layer["name"] in shown.stdout
        assert layer["max_difference"] == (None if layer["scheme"] == "keep" else 0)
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace('"num_bits": 4', '"num_bits": 8'))
    assert run("verify", "out", "--source", MODEL).exit_code == FAILED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bpw", "4"], "say where the plan goes"),
        (["--from-rules", "r.json", "-o", "p.yaml"], "name the format of the rules"),
        (["--from-plan", "p.yaml", "--bpw", "4", "--dry-run"], "leave out --bpw"),
        (
            ["--from-plan", "p.yaml", "--from-rules", "r", "--rules-format", "mlx", "--dry-run"],
            "leave out --from-rules",
        ),
        (["--from-plan", "good.yaml", "--target", "parquet", "--dry-run"], "the plan is for mlx"),
    ],
)
def test_wrong_usage_is_told(run: Callable[..., Result], arguments: list[str], message: str) -> None:
    if "good.yaml" in arguments:
        document(run("plan", MODEL, "--bpw", "4", "--target", "mlx", "-o", "good.yaml", "--json"))
    done = run("plan", MODEL, *arguments)
    assert done.exit_code == WRONG_USAGE
    assert message in " ".join(done.output.replace("│", " ").split())


def test_rules_that_name_nothing_are_an_error(run: Callable[..., Result]) -> None:
    Path("rules.json").write_text(json.dumps({"bits": 4, "group_size": 64, "blocks.9": False}))
    done = run("plan", MODEL, "--from-rules", "rules.json", "--rules-format", "mlx", "-o", "plan.yaml")
    assert isinstance(done.exception, ConfigurationError)
    assert "rules.json: 'blocks.9' names no layer" in str(done.exception)
    assert not Path("plan.yaml").exists()
