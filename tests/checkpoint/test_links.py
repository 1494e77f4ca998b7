"""Links, single shards and the Hugging Face cache: a part is never taken for the whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

import workbench as wb
from workbench.checkpoint import SideFile, load_sharded_safetensors, open_checkpoint
from workbench.errors import MetadataError, ModelNotFoundError, ValidationError

Write = Callable[..., Path]
FLUX = {"x_embedder.weight": (16, 8), "transformer_blocks.0.attn.to_q.weight": (16, 16)}


@pytest.fixture
def pipeline(write: Write, write_json: Write, tmp_path: Path) -> Path:
    """A diffusers folder with a tokenizer."""
    write("m/transformer/diffusion_pytorch_model.safetensors", FLUX)
    write_json("m/transformer/config.json", {"_class_name": "FluxTransformer2DModel"})
    write_json("m/tokenizer/tokenizer.json", {"model": {}})
    write_json(
        "m/model_index.json",
        {
            "_class_name": "FluxPipeline",
            "transformer": ["diffusers", "X"],
            "tokenizer": ["transformers", "Y"],
        },
    )
    return tmp_path / "m"


@pytest.mark.parametrize("name", ["transformer/config.json", "model_index.json"])
def test_a_configuration_that_is_a_broken_link_is_not_the_same_as_none(pipeline: Path, name: str) -> None:
    (pipeline / name).unlink()
    (pipeline / name).symlink_to("../blobs/0303")
    with pytest.raises(
        MetadataError, match=rf"{name}: this is a symbolic link that leads nowhere, to \.\./blobs/0303"
    ):
        open_checkpoint(pipeline)


def test_weights_that_are_a_broken_link_say_so(pipeline: Path) -> None:
    weights = pipeline / "transformer/diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.symlink_to("../../blobs/0404")
    for path in (pipeline, weights):
        with pytest.raises(ModelNotFoundError, match="symbolic link that leads nowhere"):
            open_checkpoint(path)


def test_a_component_that_is_a_broken_link_is_named(pipeline: Path) -> None:
    (pipeline / "transformer").rename(pipeline.parent / "elsewhere")
    (pipeline / "transformer").symlink_to("gone")
    (pipeline / "unet").mkdir()
    with pytest.raises(
        MetadataError, match="transformer: this is a symbolic link that leads nowhere, to gone"
    ):
        open_checkpoint(pipeline)


def test_side_files_that_are_not_copied_are_named(pipeline: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared.json"
    shared.write_text("{}")
    (pipeline / "tokenizer/tokenizer.json").unlink()
    (pipeline / "tokenizer/tokenizer.json").symlink_to(shared)
    (pipeline / "tokenizer/merges.txt").symlink_to("nowhere")
    with open_checkpoint(pipeline) as checkpoint:
        assert [file.relative for file in checkpoint.left_files] == [
            "tokenizer/merges.txt",
            "tokenizer/tokenizer.json",
        ]
        first, second = checkpoint.notes
        assert first == "tokenizer/merges.txt was not copied: it is a link that leads nowhere, to nowhere."
        assert (
            f"tokenizer/tokenizer.json was not copied: it is a link that leads out of the folder, to {shared}"
            in second
        )
    report = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(min_accuracy=0.0)).run(
        pipeline, tmp_path / "out"
    )
    assert {first, second} < set(report.notes)
    assert not (tmp_path / "out/tokenizer").exists()


def test_a_side_file_that_may_not_be_read_is_named_and_does_not_stop_the_run(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pipeline / "README.md").write_text("secret")
    access = os.access  # tests may run as root, who may read everything
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "README.md" and access(path, mode)
    )
    report = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(min_accuracy=0.0)).run(
        pipeline, tmp_path / "out"
    )
    assert "README.md was not copied: it is a file that this user may not read." in report.notes
    assert not (tmp_path / "out/README.md").exists()
    assert (tmp_path / "out/tokenizer/tokenizer.json").exists()


def test_a_side_file_that_cannot_be_read_is_not_taken_for_a_full_disk(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = SideFile("README.md", pipeline / "README.md")
    monkeypatch.setattr("workbench.checkpoint.checkpoint.find_side_files", lambda *_: (gone,))
    engine = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(min_accuracy=0.0))
    with pytest.raises(ValidationError, match=r"README\.md.*cannot be read.*move it out"):
        engine.run(pipeline, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_into_the_cache_are_followed_and_need_no_note(pipeline: Path, tmp_path: Path) -> None:
    root = tmp_path / "models--someone--flux"
    (root / "blobs").mkdir(parents=True)
    snapshot = root / "snapshots" / ("a" * 40)
    for number, source in enumerate(path for path in pipeline.rglob("*") if path.is_file()):
        source.rename(root / "blobs" / str(number))
        link = snapshot / source.relative_to(pipeline)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(root / "blobs" / str(number), link.parent))
    with open_checkpoint(snapshot) as checkpoint:
        assert checkpoint.notes == ()
        assert len(checkpoint.side_files) == 3
    with pytest.raises(ModelNotFoundError, match=f"under snapshots/<revision>.*{snapshot}"):
        open_checkpoint(root)


@pytest.fixture
def shards(write: Write, write_json: Write, tmp_path: Path) -> Path:
    """A folder of two shards with their index."""
    weight_map = {}
    for number, name in enumerate(FLUX, start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        write(f"s/{file}", {name: FLUX[name]})
        weight_map[name] = file
    write_json("s/model.safetensors.index.json", {"weight_map": weight_map})
    return tmp_path / "s"


def test_one_shard_by_its_path_is_refused_with_the_way_to_the_whole(shards: Path) -> None:
    shard = shards / "model-00001-of-00002.safetensors"
    with pytest.raises(
        ValidationError, match=r"one of the 2 shards.*model\.safetensors\.index\.json, or the folder"
    ):
        open_checkpoint(shard)
    (shards / "model.safetensors.index.json").unlink()
    with pytest.raises(ValidationError, match=f"shard 1 of 2 of a model by its name.*{shards}"):
        open_checkpoint(shard)
    assert list(load_sharded_safetensors(shard)) == [next(iter(FLUX))], "reading it is no conversion"
    with open_checkpoint(shards) as checkpoint:
        assert len(checkpoint.layers) == 2


def test_a_shard_by_another_name_is_known_by_the_index(shards: Path) -> None:
    index = shards / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    (shards / "model-00001-of-00002.safetensors").rename(shards / "first.safetensors")
    document["weight_map"][next(iter(FLUX))] = "first.safetensors"
    index.write_text(json.dumps(document))
    with pytest.raises(ValidationError, match="one of the 2 shards"):
        open_checkpoint(shards / "first.safetensors")


def test_one_file_of_a_split_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-00002.gguf"
    writer = gguf.GGUFWriter(path, "flux")
    writer.add_uint16("split.count", 2)
    writer.add_tensor("blocks.0.attn.to_q.weight", np.ones((8, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValidationError, match=r"one of 2 files of a model.*llama-gguf-split --merge"):
        open_checkpoint(path)


def test_a_file_that_is_whole_opens_beside_an_index_of_others(shards: Path, write: Write) -> None:
    open_checkpoint(write("s/other.safetensors", FLUX)).close()
    open_checkpoint(write("t/model-00001-of-00001.safetensors", FLUX)).close()
    (shards / "model.safetensors.index.json").write_text("{")
    open_checkpoint(shards / "other.safetensors").close()


def test_a_folder_called_like_the_home_is_meant_by_its_path(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("~/model.safetensors", FLUX)
    write("home/model.safetensors", {"a.weight": (8, 8)})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for path in ("./~", tmp_path / "~", Path("./~")):
        with open_checkpoint(path) as checkpoint:
            assert set(checkpoint.tensors) == set(FLUX)
    with open_checkpoint("~") as checkpoint:
        assert set(checkpoint.tensors) == {"a.weight"}
