"""Folders as Hugging Face and diffusers write them, and as people leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workbench.checkpoint import load_sharded_safetensors, open_checkpoint
from workbench.errors import MetadataError, ModelNotFoundError, ValidationError

WEIGHT = {"blocks.0.attn.to_q.weight": (4, 8)}


@pytest.fixture
def diffusers(write, write_json, tmp_path) -> Path:
    """A diffusers folder: transformer, text encoder, scheduler, tokenizer."""
    write("m/transformer/diffusion_pytorch_model.safetensors", WEIGHT)
    write_json("m/transformer/config.json", {"_class_name": "DiTTransformer2DModel"})
    write("m/text_encoder/model.safetensors", {"embed_tokens.weight": (9, 8)})
    write_json("m/text_encoder/config.json", {"architectures": ["T5EncoderModel"]})
    write_json("m/scheduler/scheduler_config.json", {})
    write_json("m/tokenizer/tokenizer.json", {})
    write_json("m/notes/draft.json", {})
    write_json(
        "m/model_index.json",
        {
            "_class_name": "DiTPipeline",
            "transformer": ["diffusers", "DiTTransformer2DModel"],
            "text_encoder": ["transformers", "T5EncoderModel"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "tokenizer": ["transformers", "T5Tokenizer"],
            "safety_checker": [None, None],
        },
    )
    return tmp_path / "m"


def test_one_file(write):
    path = write("m.safetensors", WEIGHT, {"k": "v"})
    with open_checkpoint(str(path)) as checkpoint:
        assert checkpoint.layout == "file"
        assert checkpoint.path == path
        assert checkpoint.component is None
        assert checkpoint.architecture is None
        assert checkpoint.config == {}
        assert checkpoint.metadata == {"k": "v"}
        assert checkpoint.side_files == ()
        assert checkpoint.nbytes == 128
        assert "1 layers" in repr(checkpoint)


def test_a_relative_path_is_made_absolute(write, monkeypatch):
    path = write("m.safetensors", WEIGHT)
    monkeypatch.chdir(path.parent)
    with open_checkpoint("m.safetensors") as checkpoint:
        assert checkpoint.path == path


def test_a_file_named_in_a_folder_keeps_its_configuration(write, write_json):
    path = write("m/model.fp16.safetensors", WEIGHT)
    write_json("m/config.json", {"architectures": ["LlamaForCausalLM"]})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.architecture == "LlamaForCausalLM"
        assert [file.relative for file in checkpoint.side_files] == ["config.json"]


def test_a_config_that_describes_no_model_is_not_the_files(write, write_json):
    path = write("downloads/m.safetensors", WEIGHT)
    write_json("downloads/config.json", {"colour": "blue"})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.config == {}
        assert checkpoint.side_files == ()


def test_a_hugging_face_folder(write, write_json, tmp_path):
    write("m/model.safetensors", WEIGHT)
    write_json("m/config.json", {"architectures": ["Qwen2ForCausalLM"], "limit": float("inf")})
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert checkpoint.layout == "huggingface"
        assert checkpoint.architecture == "Qwen2ForCausalLM"


def test_an_index_given_by_itself(write, write_json):
    write("m/model-00001-of-00001.safetensors", WEIGHT)
    shards = dict.fromkeys(WEIGHT, "model-00001-of-00001.safetensors")
    with open_checkpoint(write_json("m/model.safetensors.index.json", {"weight_map": shards})) as checkpoint:
        assert checkpoint.layout == "sharded"
        assert len(checkpoint.tensors) == 1


def test_the_denoiser_of_a_diffusers_folder_is_the_default(diffusers):
    with open_checkpoint(diffusers) as checkpoint:
        assert checkpoint.layout == "diffusers"
        assert checkpoint.component == "transformer"
        assert checkpoint.architecture == "DiTTransformer2DModel"
        assert list(checkpoint.tensors) == list(WEIGHT)
    opened: Any = load_sharded_safetensors(diffusers)
    with opened as tensors:
        assert list(tensors) == list(WEIGHT)


def test_other_components_are_opened_by_name(diffusers):
    with open_checkpoint(diffusers, component="text_encoder") as checkpoint:
        assert checkpoint.architecture == "T5EncoderModel"
        assert list(checkpoint.tensors) == ["embed_tokens.weight"]


@pytest.mark.parametrize("name", ["vae", "scheduler", "../m/transformer", "", "."])
def test_an_unknown_component_lists_those_that_are_there(diffusers, name):
    with pytest.raises(ModelNotFoundError, match="there are: text_encoder, transformer"):
        open_checkpoint(diffusers, component=name)


def test_a_component_of_something_else_is_an_error(write):
    with pytest.raises(ValidationError, match="only a diffusers folder has components"):
        open_checkpoint(write("m.safetensors", WEIGHT), component="unet")


def test_a_pipeline_without_a_denoiser_lists_its_components(diffusers):
    (diffusers / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="with weights are: text_encoder"):
        open_checkpoint(diffusers)


def test_a_folder_with_a_denoiser_needs_no_model_index(diffusers):
    (diffusers / "model_index.json").unlink()
    with open_checkpoint(diffusers) as checkpoint:
        assert (checkpoint.layout, checkpoint.component) == ("diffusers", "transformer")


def test_the_folder_of_a_component_is_a_folder_like_any(diffusers):
    with open_checkpoint(diffusers / "transformer") as checkpoint:
        assert checkpoint.layout == "huggingface"
        assert checkpoint.architecture == "DiTTransformer2DModel"


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"\*\.safetensors.*model_index\.json"):
        open_checkpoint(tmp_path / "m")


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        open_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("folder", ["m", "m/unet"])
def test_a_folder_of_pickles_is_refused(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\0.")
    with pytest.raises(ValidationError, match=r"pytorch_model\.bin.*Convert it"):
        open_checkpoint(tmp_path / "m")


def test_safetensors_are_preferred_to_pickles_beside_them(write, tmp_path):
    write("m/model.safetensors", WEIGHT)
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"\x80\x02}q\0.")
    open_checkpoint(tmp_path / "m").close()


def test_the_canonical_name_is_preferred_to_variants(write, tmp_path):
    write("m/model.safetensors", WEIGHT)
    write("m/model.fp16.safetensors", {"other": (1,)})
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert list(checkpoint.tensors) == list(WEIGHT)


@pytest.mark.parametrize(
    "names", [("a", "b"), ("model.fp16", "model.bf16"), ("model", "diffusion_pytorch_model")]
)
def test_several_candidates_are_listed(write, tmp_path, names):
    for name in names:
        write(f"m/{name}.safetensors", WEIGHT)
    with pytest.raises(ValidationError, match=rf"{names[0]}\.safetensors.*Give the path") as caught:
        open_checkpoint(tmp_path / "m")
    assert names[1] in str(caught.value)


def test_a_file_and_an_index_of_the_same_name_are_ambiguous(write, write_json, tmp_path):
    write("m/model.safetensors", WEIGHT)
    write_json("m/model.safetensors.index.json", {"weight_map": {"a": "model-00001-of-00001.safetensors"}})
    with pytest.raises(ValidationError, match="not clear"):
        open_checkpoint(tmp_path / "m")


def test_complete_shards_need_no_index(write, tmp_path):
    write("m/model-00001-of-00002.safetensors", WEIGHT)
    write("m/model-00002-of-00002.safetensors", {"b.weight": (2, 2)})
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert len(checkpoint.tensors) == 2


def test_incomplete_shards_without_index_name_the_missing_one(write, tmp_path):
    write("m/model-00001-of-00003.safetensors", WEIGHT)
    write("m/model-00003-of-00003.safetensors", {"b.weight": (2, 2)})
    with pytest.raises(ModelNotFoundError, match=r"2 of 3 shards.*model-00002-of-00003\.safetensors"):
        open_checkpoint(tmp_path / "m")


def test_shards_of_two_splits_without_index_are_refused(write, tmp_path):
    write("m/model-00001-of-00002.safetensors", WEIGHT)
    write("m/model-00002-of-00003.safetensors", {"b.weight": (2, 2)})
    with pytest.raises(MetadataError, match="2 and 3 files"):
        open_checkpoint(tmp_path / "m")


def test_the_index_decides_among_stale_shards(write, write_json, tmp_path):
    write("m/model-00001-of-00001.safetensors", WEIGHT)
    write("m/model-00002-of-00003.safetensors", {"stale": (2, 2)})
    shards = dict.fromkeys(WEIGHT, "model-00001-of-00001.safetensors")
    write_json("m/model.safetensors.index.json", {"weight_map": shards})
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert list(checkpoint.tensors) == list(WEIGHT)


def test_a_variants_index_is_found(write, write_json, tmp_path):
    name = "diffusion_pytorch_model.fp16-00001-of-00001.safetensors"
    write(f"m/{name}", WEIGHT)
    write_json(
        "m/diffusion_pytorch_model.safetensors.index.fp16.json", {"weight_map": dict.fromkeys(WEIGHT, name)}
    )
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert list(checkpoint.tensors) == list(WEIGHT)


def test_json_that_is_no_index_is_refused(diffusers):
    with pytest.raises(ValidationError, match="give the folder"):
        open_checkpoint(diffusers / "model_index.json")


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1, "a": 2}'])
def test_a_malformed_configuration_is_named(write, tmp_path, content):
    write("m/model.safetensors", WEIGHT)
    (tmp_path / "m" / "config.json").write_text(content)
    with pytest.raises(MetadataError, match=r"m/config\.json"):
        open_checkpoint(tmp_path / "m")


def test_an_export_of_ours_is_refused(write, write_json, tmp_path):
    write("m/model.safetensors", WEIGHT)
    write_json("m/workbench.json", {})
    with pytest.raises(ValidationError, match=r"export of this workbench.*workbench\.load"):
        open_checkpoint(tmp_path / "m")


# Side files


def test_side_files_of_a_pipeline_keep_their_places(diffusers):
    with open_checkpoint(diffusers) as checkpoint:
        assert [file.relative for file in checkpoint.side_files] == [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "tokenizer/tokenizer.json",
            "transformer/config.json",
        ]
        assert all(file.source.is_file() for file in checkpoint.side_files)


def test_side_files_are_neither_weights_nor_pickles_nor_large(write, write_json, tmp_path):
    folder = tmp_path / "m"
    write("m/model-00001-of-00001.safetensors", WEIGHT)
    shards = dict.fromkeys(WEIGHT, "model-00001-of-00001.safetensors")
    write_json("m/model.safetensors.index.json", {"weight_map": shards})
    write_json("m/config.json", {})
    for name in ["merges.txt", "tokenizer.model", "modeling_llada.py", "LICENSE", "README.md"]:
        (folder / name).write_text("x")
    for name in ["training_args.bin", "optimizer.pt", ".gitattributes", ".secret.json", "photo.png"]:
        (folder / name).write_text("x")
    with (folder / "vocab.json").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    (folder / "deep").mkdir()
    write_json("m/deep/config.json", {})
    with open_checkpoint(folder) as checkpoint:
        assert {file.relative for file in checkpoint.side_files} == {
            "config.json", "merges.txt", "tokenizer.model", "modeling_llada.py", "LICENSE", "README.md",
        }  # fmt: skip


def test_side_files_do_not_follow_links_out_of_the_folder(write, tmp_path):
    write("m/model.safetensors", WEIGHT)
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "m" / "notes.json").symlink_to("../secret.json")
    (tmp_path / "m" / "broken.json").symlink_to("nowhere.json")
    (tmp_path / "m" / "loop.json").symlink_to("loop.json")
    (tmp_path / "m" / "real.json").write_text("{}")
    (tmp_path / "m" / "alias.json").symlink_to("real.json")
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert [file.relative for file in checkpoint.side_files] == ["alias.json", "real.json"]


def test_the_hugging_face_cache_works(write, tmp_path):
    # models--a--b/snapshots/<revision>/x are links to ../../blobs/<hash>.
    write("models--a--b/blobs/111", WEIGHT)
    (tmp_path / "models--a--b" / "blobs" / "222").write_text('{"architectures": ["LLaDAModelLM"]}')
    snapshot = tmp_path / "models--a--b" / "snapshots" / "rev"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/111")
    (snapshot / "config.json").symlink_to("../../blobs/222")
    with open_checkpoint(snapshot) as checkpoint:
        assert checkpoint.architecture == "LLaDAModelLM"
        assert [file.relative for file in checkpoint.side_files] == ["config.json"]
        assert len(checkpoint.tensors) == 1


def test_a_zoo_model_is_opened_by_name(write, monkeypatch):
    zoo = pytest.importorskip("workbench.zoo")
    path = write("m.safetensors", WEIGHT)
    monkeypatch.setattr(zoo, "locate", lambda name: {"tiny": path}[name])
    with open_checkpoint("zoo:tiny") as checkpoint:
        assert checkpoint.path == path
