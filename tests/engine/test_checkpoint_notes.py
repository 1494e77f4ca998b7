"""What every report says of the tensors that are no layers, and of a run that quantizes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import workbench as wb
from workbench.__main__ import run
from workbench.formats import target_names


@pytest.fixture
def half_layers(tmp_path: Path) -> Path:
    """A file of which a layer is 8192 bytes, and tensors that are no layers are 2048."""
    path = tmp_path / "m.safetensors"
    values = np.random.default_rng(0).standard_normal
    save_file(
        {
            "blocks.0.to_q.weight": values((32, 64)).astype(np.float32),
            "blocks.0.norm.weight": np.ones(256, np.float32),
            "x_pad_token": np.ones((1, 256), np.float32),
        },
        path,
    )
    return path


SENTENCE = "2 of 3 tensors are not layers and are not quantized: 2,048 bytes, 20.0% of the source."


@pytest.mark.parametrize("target", target_names())
def test_a_report_counts_what_is_no_layer(half_layers: Path, tmp_path: Path, target: Any) -> None:
    config = wb.DiffusionQuantConfig(target=target, min_accuracy=0.0)
    report = wb.DiffusionOrchestrator(config).run(half_layers, tmp_path / "out")
    assert sum(note.startswith(SENTENCE) for note in report.notes) == 1
    assert not any("Nothing was quantized" in note for note in report.notes)


def test_a_run_that_keeps_every_layer_says_that_nothing_was_quantized(
    half_layers: Path, tmp_path: Path
) -> None:
    config = wb.DiffusionQuantConfig(sensitive_layer_patterns=[".*"], skip_sensitive_layers=True)
    report = wb.DiffusionOrchestrator(config).run(half_layers, tmp_path / "out")
    assert any(note.startswith("Nothing was quantized: all 1 layers") for note in report.notes)


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyze"],
        ["plan", "--bpw", "8", "--dry-run"],
        ["quantize", "OUT"],
    ],
)
def test_commands_say_it_as_text_and_as_json(
    half_layers: Path,
    tmp_path: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *more = arguments
    assert run([command, str(half_layers), *more]) == 0
    assert SENTENCE in capsys.readouterr().out
    more = ["OTHER" if argument == "OUT" else argument for argument in more]
    assert run([command, str(half_layers), *more, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert any(note.startswith(SENTENCE) for note in document["notes"])
    if command == "quantize":
        assert run(["inspect", "OUT"]) == 0
        assert SENTENCE in capsys.readouterr().out


def test_a_wrapper_is_said_by_every_surface(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_checkpoint: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = make_checkpoint({"_orig_mod.blocks.0.to_q.weight": np.eye(64, dtype=np.float32)})
    for arguments in (["analyze"], ["plan", "--bpw", "8", "--dry-run"], ["quantize", "OUT"]):
        assert run([arguments[0], str(model), *arguments[1:], "--target", "parquet"]) == 0
        assert "_orig_mod. of torch.compile" in capsys.readouterr().out
    assert set(wb.load(tmp_path / "OUT")) == {"blocks.0.to_q.weight"}
