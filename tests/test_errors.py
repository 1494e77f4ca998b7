"""Guards who raises what: each kind of wrong request has its own error, in Python and on the command line."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.__main__ import run

WORKBENCH = Path(wb.__file__).parent

ABOUT_CONFIGURATION = {
    "config.py",
    "config_sources.py",
    "arrowquant.py",  # its argument is a configuration
    "kernels/loading.py",  # an environment variable
    "engine/orchestrator.py",
    "engine/equalization/spatial.py",
    "engine/resolution/solver.py",
}
"""Modules that judge settings."""

MODEL = "zoo:digits-dit"


def raised(path: Path, name: str) -> bool:
    """Whether a module raises an error of this name."""
    calls = (node.exc for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Raise))
    return any(
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name
        for call in calls
    )


def test_configuration_errors_are_of_configuration() -> None:
    found = {
        path.relative_to(WORKBENCH).as_posix()
        for path in WORKBENCH.rglob("*.py")
        if raised(path, "ConfigurationError")
    }
    assert found <= ABOUT_CONFIGURATION
    assert found, "the search finds what there is"


@pytest.mark.parametrize("name", ["ConfigurationError", "PlanError", "ExpressionError", "ArgumentError"])
def test_they_are_errors_of_a_request(name: str) -> None:
    kind = getattr(wb, name)
    assert kind.__mro__[1] is wb.UsageError
    assert issubclass(wb.UsageError, wb.ArrowQuantError)


def test_each_has_its_own_in_python(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("layers: [", encoding="utf-8")
    (tmp_path / "other.yaml").write_text("bit_width: 4\n", encoding="utf-8")
    with wb.open(MODEL, target="mlx", cache=tmp_path) as session:
        wrong: list[tuple[type[Exception], Any]] = [
            (wb.PlanError, lambda: wb.Plan.load(tmp_path / "broken.yaml")),
            (wb.PlanError, lambda: session.load_plan(tmp_path / "other.yaml")),
            (wb.PlanError, lambda: session.load_plan(tmp_path / "missing.yaml")),
            (wb.PlanError, lambda: session.solve(size=10)),
            (wb.ExpressionError, lambda: session.where("bits <")),
            (wb.ExpressionError, lambda: session.evaluate("nbytes.x")),
            (wb.ArgumentError, lambda: session.solve(size="two")),
            (wb.ArgumentError, lambda: session.set_bits("nothing*", 4)),
            (wb.ArgumentError, lambda: session.retarget("mlq")),
            (wb.ConfigurationError, lambda: wb.DiffusionQuantConfig(bit_width=9)),
            (wb.ConfigurationError, lambda: wb.DiffusionQuantConfig.from_yaml(tmp_path / "broken.yaml")),
        ]
        for kind, act in wrong:
            with pytest.raises(wb.UsageError) as caught:
                act()
            assert caught.type is kind, caught.value


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("PlanError", ["quantize", MODEL, "out", "--plan", "broken.yaml"]),
        ("PlanError", ["plan", MODEL, "--size", "10", "--target", "mlx", "-o", "p.yaml"]),
        ("ArgumentError", ["plan", MODEL, "--size", "two", "--target", "mlx", "-o", "p.yaml"]),
        ("ConfigurationError", ["quantize", MODEL, "out", "--config", "broken.yaml"]),
    ],
)
def test_the_commands_say_which_and_exit_with_2(
    kind: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("layers: [", encoding="utf-8")
    assert run([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == kind
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "p.yaml").exists()


@pytest.mark.parametrize("old", ["prove", "proof", "prover"])
def test_old_names_of_a_session_still_work_and_say_so(old: str, tmp_path: Path) -> None:
    new = {"prove": "validate", "proof": "validation", "prover": "validator"}[old]
    with wb.open(MODEL, target="mlx", cache=tmp_path) as session:
        with pytest.warns(DeprecationWarning, match=f"Session.{old} is called {new} now"):
            found = getattr(session, old)
        assert found == getattr(session, new)


def test_old_names_of_damage_still_work_and_say_so(tmp_path: Path, capsys: Any) -> None:
    with wb.open(MODEL, target="mlx", cache=tmp_path) as session:
        with pytest.warns(DeprecationWarning, match="max_nsr is called max_damage now"):
            totals = session.solve(max_nsr=0.5)  # type: ignore[call-arg]
        assert 0 < totals.damage <= 0.5
        with pytest.warns(DeprecationWarning, match=r"Totals.nsr is called damage now"):
            assert totals.nsr == totals.damage  # type: ignore[attr-defined]
        with pytest.warns(DeprecationWarning, match="The column weight_nsr is called nsr now"):
            assert session.options["weight_nsr"] == session.options["nsr"]
        with pytest.raises(TypeError, match="one argument"):
            session.solve(max_nsr=0.5, max_damage=0.5)  # type: ignore[call-arg]
        assert session.where("weight_nsr > 0.01") == session.where("nsr > 0.01")
    plan = tmp_path / "plan.yaml"
    command = ["plan", MODEL, "--max-nsr", "0.5", "--target", "mlx", "-o", str(plan), "--json"]
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert "--max-nsr is called --max-damage now" in err
    assert json.loads(out)["damage"] == pytest.approx(wb.Plan.load(plan).predicted["damage"])


def test_plans_of_version_0_1_are_read(tmp_path: Path) -> None:
    with wb.open(MODEL, target="mlx", cache=tmp_path) as session:
        session.keep(next(iter(session.plan.choices)))
        plan = session.plan
    plan.save(tmp_path / "plan.yaml")
    text = (tmp_path / "plan.yaml").read_text("utf-8")
    assert "scheme: keep" in text
    assert "damage:" in text
    old = text.replace("scheme: keep", "scheme: none").replace("damage:", "nsr:")
    (tmp_path / "old.yaml").write_text(old, encoding="utf-8")
    assert wb.Plan.load(tmp_path / "old.yaml") == plan


def test_exports_of_version_0_1_are_read(tmp_path: Path) -> None:
    with wb.open(MODEL, target="mlx", cache=tmp_path / "cache") as session:
        kept = next(iter(session.plan.choices))
        session.keep(kept)
        session.export(tmp_path / "out").result()
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(b'"scheme": "keep"', b'"scheme": "none"'))
    found = wb.load(tmp_path / "out")
    assert found.plan.choices[kept].is_kept
    assert {layer["scheme"] for layer in found.report["layers"] if layer["name"] == kept} == {"keep"}
    assert wb.verify(tmp_path / "out", MODEL).ok
