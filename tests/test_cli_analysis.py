"""Guards that ``workbench analyze`` can be read on a narrow terminal, sorted, cut short and written as CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from workbench.__main__ import run

Capture = pytest.CaptureFixture[str]

BLOCKS = 14


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Layers with long names that differ in the middle; later blocks have heavier tails."""
    rng = np.random.default_rng(0)
    tensors = {}
    for block in range(BLOCKS):
        for part in ("to_q", "to_out.0"):
            weights = rng.standard_normal((64, 128))
            weights[0, :2] *= 1 + 4 * block
            name = f"transformer_blocks.{block}.attentions.first_and_only.processor.{part}.weight"
            tensors[name] = weights.astype(np.float32)
    tensors["blocks.embed.conv.weight"] = rng.standard_normal((8, 3, 2, 2)).astype(np.float32)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_file(tensors, path)
    return str(path)


def shown_layers(printed: str) -> list[str]:
    """The first cells of the rows of the second table."""
    table = printed.split("layer ")[-1].splitlines()[2:]
    return [line.split()[0] for line in table[: next(i for i, line in enumerate(table) if not line.strip())]]


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_a_row_is_a_line_at_any_width(
    model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run(["analyze", model, "--target", "mlx"]) == 0
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines() if line.startswith(" ")) <= columns
    names = shown_layers(printed)
    assert len(names) == len(set(names)) == 10
    blocks = {f"transformer_blocks.{block}" for block in range(BLOCKS)}
    assert all(name.split("…")[0].removesuffix(".").startswith(tuple(blocks)) for name in names)
    assert "NSR 4" in printed
    assert f"{2 * BLOCKS + 1} layers, " in printed
    assert "1 layer has no option in mlx but to keep the dtype: blocks.embed.conv.weight." in printed
    assert f"{2 * BLOCKS + 1 - 10} more layers" in printed


def test_the_worst_come_first_and_a_column_sorts(
    model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["analyze", model, "--target", "mlx", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    error: dict[str, float] = {}
    for row in document["options"]:
        if row["bits"] == 4:
            error[row["layer"]] = min(row["damage"], error.get(row["layer"], 1.0))
    worst = sorted(error, key=lambda name: -error[name])
    assert run(["analyze", model, "--target", "mlx", "--top", "3"]) == 0
    assert shown_layers(capsys.readouterr().out) == worst[:3]
    crest = {row["name"]: row["crest"] for row in document["layers"]}
    assert run(["analyze", model, "--target", "mlx", "--top", "2", "--sort", "crest"]) == 0
    assert shown_layers(capsys.readouterr().out) == sorted(crest, key=lambda name: -crest[name])[:2]
    assert run(["analyze", model, "--target", "mlx", "--top", "0", "--sort", "layer"]) == 0
    names = shown_layers(capsys.readouterr().out)
    assert len(names) == 2 * BLOCKS + 1
    assert [name.split(".")[1] for name in names[1::2]] == [str(block) for block in range(BLOCKS)]
    assert run(["analyze", model, "--sort", "crst"]) == 2
    assert "did you mean crest?" in capsys.readouterr().err


def test_csv_holds_every_layer_and_column(model: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "layers.csv"
    assert run(["analyze", model, "--target", "mlx", "--csv", str(path), "--top", "1"]) == 0
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * BLOCKS + 1
    first = next(row for row in rows if row["name"].startswith("transformer_blocks.0."))
    assert first["shape"] == "64x128"
    assert float(first["damage_2"]) > float(first["damage_4"]) > float(first["damage_8"]) > 0
    assert {
        "entropy",
        "differential_entropy",
        "exponent_entropy",
        "kurtosis",
        "params",
        "role",
    } <= first.keys()
    (kept,) = (row for row in rows if row["name"] == "blocks.embed.conv.weight")
    assert kept["damage_4"] == ""
    capsys.readouterr()
    assert run(["analyze", model, "--csv", str(path)]) == 1
    assert "exists already" in capsys.readouterr().err
    nowhere = tmp_path / "no such folder" / "layers.csv"
    assert run(["analyze", model, "--csv", str(nowhere)]) == 2
    assert f"{nowhere}: cannot be written: No such file or directory; choose another place" in " ".join(
        capsys.readouterr().err.split()
    )
