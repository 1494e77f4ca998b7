"""Guards that messages are in the words of the surface: options on the command line, arguments in Python."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import workbench as wb
from workbench.__main__ import run
from workbench.checkpoint import open_checkpoint
from workbench.errors import ANY, action, setting

Capture = pytest.CaptureFixture[str]


def said(capsys: Capture, *arguments: str) -> str:
    assert run(arguments) in (1, 2)
    return capsys.readouterr().err


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A diffusers folder without a denoiser."""
    folder = tmp_path / "pipeline"
    (folder / "vae").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "P", "vae": ["diffusers", "V"]}))
    save_file({"mid.fc.weight": np.ones((8, 32), np.float32)}, folder / "vae" / "model.safetensors")
    return folder


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A checkpoint with NaN in one of two layers."""
    weights = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    broken = weights.copy()
    broken[3, 5] = np.nan
    save_file({"good.fc1.weight": weights, "bad.fc1.weight": broken}, tmp_path / "bad.safetensors")
    return tmp_path / "bad.safetensors"


def test_a_component_is_asked_for_in_the_readers_words(pipeline: Path, capsys: Capture) -> None:
    assert "--component NAME." in said(capsys, "analyze", str(pipeline))
    with pytest.raises(wb.ModelNotFoundError, match="component=…"):
        wb.open(pipeline)


def test_names_are_asked_for_in_the_readers_words(bad: Path, tmp_path: Path, capsys: Capture) -> None:
    message = said(capsys, "quantize", str(bad), str(tmp_path / "out"), "--names", "original")
    assert "Use --names checkpoint." in message
    assert ".." not in message
    with pytest.raises(wb.ConfigurationError, match="Use names='checkpoint'"):
        wb.open(bad, names="original")


def test_inspecting_a_checkpoint_leads_to_analyze(bad: Path, pipeline: Path, capsys: Capture) -> None:
    for path in (bad, pipeline):
        assert f"workbench analyze {path}." in said(capsys, "inspect", str(path))
        with pytest.raises(wb.ModelNotFoundError) as caught:
            wb.load(path)
        assert f"workbench.open({str(path)!r})" in str(caught.value)


def test_a_setting_is_called_as_it_was_given(bad: Path, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "out")
    assert "--bit-width is 9" in said(capsys, "quantize", str(bad), out, "--bit-width", "9")
    config = tmp_path / "config.yaml"
    config.write_text("bit_width: 9\n")
    assert "line 1: bit_width is 9" in said(capsys, "quantize", str(bad), out, "--config", str(config))
    with pytest.raises(wb.ConfigurationError, match=r"^bit_width is 9"):
        wb.DiffusionQuantConfig(bit_width=9)


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (("quantize", "M", "O", "--bitwidth", "4"), "Did you mean --bit-width"),
        (("plan", "M", "--min-cos", "0.9"), "Did you mean --min-cosine"),
        (("quantize", "zoo:digits-dit", "O", "--target", "ggfu"), "did you mean gguf?"),
        (("quantize", "zoo:digits-dit", "O", "--target", "Parquet"), "did you mean parquet?"),
        (("plan", "zoo:digits-dit", "--bpw", "4", "--dry-run", "--target", "mxl"), "did you mean mlx?"),
        (("quantize", "zoo:digits-dit", "O", "--effort", "norml"), "did you mean normal?"),
    ],
)
def test_near_misses_are_suggested(arguments: tuple[str, ...], suggestion: str, capsys: Capture) -> None:
    assert suggestion in said(capsys, *arguments)


@pytest.mark.parametrize("command", ["analyze", "plan"])
def test_one_bad_layer_can_be_kept(bad: Path, tmp_path: Path, capsys: Capture, command: str) -> None:
    given = [command, str(bad), *(["--bpw", "20", "--dry-run"] if command == "plan" else [])]
    assert "--keep bad.fc1.weight." in said(capsys, *given)
    assert run([*given, "--keep", "bad.*", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    if command == "analyze":
        (row,) = (layer for layer in document["layers"] if layer["name"] == "bad.fc1.weight")
        assert row["entropy"] is None
        (option,) = (option for option in document["options"] if option["layer"] == "bad.fc1.weight")
        assert option["scheme"] == "keep"


def test_a_kept_layer_comes_back_to_the_bit(bad: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert "--keep bad.fc1.weight." in said(capsys, "quantize", str(bad), str(out))
    assert not out.exists()
    assert run(["quantize", str(bad), str(out), "--keep", "bad.*", "--bit-width", "3"]) == 0
    exported = wb.load(out)
    with open_checkpoint(bad) as checkpoint:
        assert exported["bad.fc1.weight"].tobytes() == checkpoint.view("bad.fc1.weight").tobytes()
    assert exported.plan.choices["good.fc1.weight"].bits == 3


def test_a_session_keeps_a_bad_layer_through_every_edit(bad: Path, tmp_path: Path) -> None:
    with pytest.raises(wb.ValidationError, match=r"keep='bad\.fc1\.weight'"):
        wb.open(bad)
    with pytest.raises(wb.ConfigurationError, match="matches no layer"):
        wb.open(bad, keep="nothing")
    with wb.open(bad, keep="bad.*", target="mlx") as session:
        session.solve(bpw=18)
        session.set_bits("*", 4)
        assert session.menu.shape == (2, 8)
        for policy in ("uniform", "entropy_rule", "threshold", "sorted_greedy"):
            session.follow(policy)
        session.retarget("gguf")
        session.set_bits("*", 4)
        choices = session.plan.choices
        assert choices["bad.fc1.weight"].is_kept
        assert not choices["good.fc1.weight"].is_kept
        session.export(tmp_path / "out").result()
    assert wb.verify(tmp_path / "out", bad).ok


def test_figures_that_are_not_finite_are_null_in_json(tmp_path: Path, capsys: Capture) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    tensors = {
        "a.fc1.weight": weights,
        "zero.fc1.weight": np.zeros((64, 256), np.float32),
        "constant.fc1.weight": np.full((64, 256), 0.5, np.float32),
        "one.fc1.weight": np.ones((1, 1), np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    source = str(tmp_path / "model.safetensors")
    assert run(["analyze", source, "--json"]) == 0
    layers = {layer["name"]: layer for layer in json.loads(capsys.readouterr().out)["layers"]}
    assert layers["constant.fc1.weight"]["differential_entropy"] is None
    assert layers["a.fc1.weight"]["differential_entropy"] > 0
    assert run(["quantize", source, str(tmp_path / "out"), "--json"]) == 0
    json.loads(capsys.readouterr().out)
    assert run(["inspect", str(tmp_path / "out"), "--json"]) == 0
    json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "command", ["demo", "quantize", "inspect", "verify", "equalize", "analyze", "plan", "lab", "app"]
)
def test_help_texts_keep_their_brackets(command: str, capsys: Capture) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "[OPTIONS]" in shown
    if command == "app":
        assert "arrowquant-workbench[app]" in shown


def test_an_error_survives_copying_with_its_words() -> None:
    error = wb.ConfigurationError(
        f"Say {setting('names', 'original')} or {action('load', 'out')}.", key="names"
    )
    again = copy.copy(error)
    assert str(again) == str(error) == "Say names='original' or workbench.load('out')."
    assert again.said(lambda name, value: f"<{name} {value}>") == "Say <names original> or <load() out>."
    assert str(wb.ConfigurationError(f"{setting('component', ANY)} or {setting('resume')}")) == (
        "component=… or resume"
    )
