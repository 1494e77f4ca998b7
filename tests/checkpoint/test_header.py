"""Headers that other tools write: metadata absent or odd, further fields, bytes after the last tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from safetensors import safe_open

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.errors import MetadataError

NAME = "blocks.0.attn.to_q.weight"
WEIGHT = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
ENTRY = {"dtype": "F32", "shape": [32, 64], "data_offsets": [0, WEIGHT.nbytes]}

ODD: dict[str, tuple[dict[str, Any], bytes]] = {
    "no metadata": ({NAME: ENTRY}, b""),
    "empty metadata": ({"__metadata__": {}, NAME: ENTRY}, b""),
    "null metadata": ({"__metadata__": None, NAME: ENTRY}, b""),
    "a further field": ({NAME: {**ENTRY, "requires_grad": False}}, b""),
    "bytes after the end": ({NAME: ENTRY}, bytes(4096)),
}


@pytest.mark.parametrize("header", ODD)
def test_it_opens_with_its_values(write_raw: Callable[..., Path], header: str) -> None:
    entries, tail = ODD[header]
    with open_checkpoint(write_raw(entries, WEIGHT.tobytes() + tail)) as checkpoint:
        assert checkpoint.view(NAME).tobytes() == WEIGHT.tobytes()
        assert dict(checkpoint.metadata) == {}
        assert bool(checkpoint.notes) == bool(tail)


def test_bytes_after_the_end_are_counted_and_not_called_damage(
    write_raw: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_raw({NAME: ENTRY}, WEIGHT.tobytes() + bytes(4096))
    with open_checkpoint(path) as checkpoint:
        (note,) = checkpoint.notes
    assert "4,096 bytes follow the last tensor" in note
    assert "All tensors are there" in note
    assert not {"damaged", "truncated", "tampered"} & set(note.split())
    report = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target="mlx")).run(path, tmp_path / "out")
    assert note in report.notes
    with safe_open(tmp_path / "out/model.safetensors", "np") as file:
        assert file.keys(), "the library reads the export"


def test_an_export_that_grew_is_refused(write_raw: Callable[..., Path], tmp_path: Path) -> None:
    path = write_raw({NAME: ENTRY}, WEIGHT.tobytes())
    wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target="mlx")).run(path, tmp_path / "out")
    with (tmp_path / "out/model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(MetadataError, match="4 bytes follow the last tensor"):
        wb.load(tmp_path / "out")
    assert not wb.verify(tmp_path / "out", path).ok


@pytest.mark.parametrize("value", [1200, {"steps": "1200"}, None, [], True])
def test_a_value_that_is_no_string_is_named_by_its_key(write_raw: Callable[..., Path], value: object) -> None:
    header = {"__metadata__": {"format": "pt", "ss_steps": value}, NAME: ENTRY}
    with pytest.raises(MetadataError, match=r"__metadata__.*'ss_steps'.*write the file again") as caught:
        open_checkpoint(write_raw(header, WEIGHT.tobytes()))
    assert caught.value.context["key"] == "ss_steps"


@pytest.mark.parametrize(
    ("given", "written"), [(None, "pt"), ({}, "pt"), ({"format": "pt"}, "pt"), ({"format": "np"}, "np")]
)
def test_a_dequantized_export_says_the_format_that_loaders_ask_for(
    write_raw: Callable[..., Path], tmp_path: Path, given: dict[str, str] | None, written: str
) -> None:
    header = {NAME: ENTRY} if given is None else {"__metadata__": given, NAME: ENTRY}
    path = write_raw(header, WEIGHT.tobytes(), "model.safetensors")
    wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target="safetensors")).run(path, tmp_path / "out")
    with safe_open(tmp_path / "out/model.safetensors", "np") as file:
        assert file.metadata()["format"] == written


def test_tags_are_written_once_and_not_in_every_shard(write: Callable[..., Path], tmp_path: Path) -> None:
    tags = {"format": "pt", "ss_tag_frequency": "tag " * 100_000}
    for number in (1, 2, 3):
        file = f"s/model-0000{number}-of-00003.safetensors"
        write(file, {f"blocks.{number}.to_q.weight": (32, 64)}, tags if number == 2 else {"format": "pt"})
    source = tmp_path / "s"
    report = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target="safetensors")).run(
        source, tmp_path / "out"
    )
    metadata = []
    for path in sorted((tmp_path / "out").glob("*.safetensors")):
        with safe_open(path, "np") as file:
            metadata.append(file.metadata())
    assert [len(shard.get("ss_tag_frequency", "")) for shard in metadata] == [400_000, 0, 0]
    assert [shard["format"] for shard in metadata] == ["pt"] * 3
    assert report.predicted_bytes == report.actual_bytes
    assert wb.verify(tmp_path / "out", source).ok
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert len(index["weight_map"]) == 3
    for path in (tmp_path / "out").glob("*.safetensors"):
        safetensors.deserialize(path.read_bytes())
