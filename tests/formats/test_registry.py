"""The registry of formats is what the rest asks: a configuration's target, the command line's help, the rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import workbench as wb
from workbench import config
from workbench.__main__ import run
from workbench.cli.arguments import EFFORTS, ORIGINALLY_NAMED, RULES, SCHEMES, TARGETS
from workbench.config import NAMES, DiffusionQuantConfig
from workbench.formats import formats, register, target_named, target_names
from workbench.formats.rules import syntaxes

Make = Callable[..., Path]


def refused(given: DiffusionQuantConfig, source: Path, out: Path) -> wb.ConfigurationError:
    with pytest.raises(wb.ConfigurationError) as caught:
        wb.DiffusionOrchestrator(given).run(source, out)
    assert not out.exists()
    return caught.value


def test_a_target_that_there_is_not_is_refused_with_its_place(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = make_checkpoint(), tmp_path / "out"
    error = refused(DiffusionQuantConfig(target="ggfu"), source, out)
    assert error.key == "target"
    assert "target is 'ggfu'; allowed: parquet, gguf, " in str(error)
    assert str(error).endswith("none; did you mean gguf?")
    path = tmp_path / "settings.yaml"
    path.write_text("bit_width: 4\ntarget: onnx\n")
    error = refused(DiffusionQuantConfig.from_yaml(path), source, out)
    assert (error.path, error.line) == (path, 2)
    assert str(error).startswith(f"{path}, line 2: target is 'onnx'; allowed: ")
    monkeypatch.setenv("ARROW_QUANT_TARGET", "mxl")
    error = refused(DiffusionQuantConfig(), source, out)
    assert error.variable == "ARROW_QUANT_TARGET"
    assert str(error).endswith("did you mean mlx?")


def test_places_make_no_difference_between_configurations(tmp_path: Path) -> None:
    given = DiffusionQuantConfig(target="mlx")
    given.to_yaml(tmp_path / "settings.yaml")
    assert DiffusionQuantConfig.from_yaml(tmp_path / "settings.yaml") == given
    assert DiffusionQuantConfig(target="gguf") != given


@pytest.mark.parametrize("name", target_names())
def test_a_record_is_whole(name: str) -> None:
    found = formats()[name]
    assert found.name == name
    assert found.title
    assert found.about
    assert found.effort in config.EFFORTS
    assert found.names in NAMES
    assert target_named(name) is found


def test_a_name_is_taken_once() -> None:
    with pytest.raises(wb.ArgumentError, match="There is an export target 'mlx' already"):
        register(target_named("gguf").__class__(**{**vars(target_named("gguf")), "name": "mlx"}))
    assert target_named("mlx").title == "MLX"


@pytest.mark.parametrize("command", ["quantize", "plan", "analyze", "equalize"])
def test_help_names_every_format(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    text = "".join(capsys.readouterr().out.split())  # a hyphen may end a line
    assert not any(
        placeholder in text for placeholder in (TARGETS, SCHEMES, EFFORTS, ORIGINALLY_NAMED, RULES)
    )
    for name in target_names():
        assert f"{name}(" in text


def test_help_names_every_syntax_of_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--help"]) == 0
    text = "".join(capsys.readouterr().out.split())
    for name in syntaxes():
        assert name in text
