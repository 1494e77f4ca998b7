"""Verifying an export finds every way in which it is not what its report claims."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

import workbench as wb


@pytest.fixture
def source(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint()


@pytest.fixture
def exported(source: Path, tmp_path: Path, small_parts: None) -> Path:
    wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(min_accuracy=0.0)).run(source, tmp_path / "out")
    return tmp_path / "out"


def edit_record(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "workbench.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_sound_export_is_proved(source: Path, exported: Path) -> None:
    heard: list[float] = []
    outcome = wb.verify(exported, source, callback=lambda fraction, _: heard.append(fraction))
    report = wb.load(exported).report
    assert outcome.ok
    assert outcome.problems == ()
    assert outcome.tensors == len(load_file(source / "model.safetensors"))
    assert outcome.layers == len(report["layers"])
    worst = min(report["layers"], key=lambda layer: layer["cosine"])
    assert (outcome.worst_layer, outcome.worst_cosine) == (worst["name"], pytest.approx(worst["cosine"]))
    assert outcome.nsr == pytest.approx(report["nsr"])
    assert heard[-1] == 1.0


@pytest.mark.parametrize("column", ["data", "scales", "num_params", "modality"])
def test_a_damaged_part_is_a_problem(source: Path, exported: Path, column: str) -> None:
    part = sorted(exported.glob("part-*.parquet"))[3]
    file = pq.ParquetFile(part)
    chunk = file.metadata.row_group(0).column(file.schema_arrow.names.index(column))
    data = bytearray(part.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 0xFF
    part.write_bytes(data)
    outcome = wb.verify(exported, source)
    assert not outcome.ok
    assert part.name in outcome.problems[0]


def test_a_missing_part_is_a_problem(source: Path, exported: Path) -> None:
    sorted(exported.glob("part-*.parquet"))[2].unlink()
    outcome = wb.verify(exported, source)
    assert not outcome.ok
    assert "part-00002.parquet is missing" in outcome.problems[0]


@pytest.mark.parametrize(("key", "factor"), [("nsr", 0.5), ("cosine", 1.001)])
def test_a_prettier_claim_is_a_problem(source: Path, exported: Path, key: str, factor: float) -> None:
    def boast(document: dict[str, Any]) -> None:
        document["report"]["layers"][2][key] *= factor

    edit_record(exported, boast)
    name = wb.load(exported).report["layers"][2]["name"]
    (problem,) = wb.verify(exported, source).problems
    assert name in problem
    assert f"claims {key}" in problem


def test_a_claimed_size_is_checked(source: Path, exported: Path) -> None:
    edit_record(exported, lambda document: document["report"].update(actual_bytes=1))
    assert "claims 1" in wb.verify(exported, source).problems[0]


def test_another_source_is_a_problem(
    source: Path, exported: Path, make_checkpoint: Callable[..., Path]
) -> None:
    tensors = load_file(source / "model.safetensors")
    tensors["proj_out.weight"] = tensors["proj_out.weight"] + 1
    other = make_checkpoint(tensors, "other")
    assert "not the checkpoint" in wb.verify(exported, other).problems[0]


def test_what_is_no_export_is_an_error(source: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(wb.ModelNotFoundError, match="not a folder"):
        wb.verify(tmp_path / "nothing", source)
    with pytest.raises(wb.ModelNotFoundError, match="not an export of this workbench"):
        wb.load(source)
    (exported / "workbench.json").write_text("{")
    with pytest.raises(wb.MetadataError, match="cannot be read"):
        wb.load(exported)
    (exported / "workbench.json").write_text('{"format": "arrowquant-export", "version": 9}')
    with pytest.raises(wb.MetadataError, match="version 9 is unknown"):
        wb.load(exported)


def test_an_export_is_not_a_source(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(wb.ValidationError, match="quantized"):
        wb.DiffusionOrchestrator().run(exported, tmp_path / "again")
