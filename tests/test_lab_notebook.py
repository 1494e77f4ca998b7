"""The notebook of ``workbench lab``: made for each model, and right from top to bottom whatever checkpoint it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import nbformat
import numpy as np
import pytest
from safetensors.numpy import save_file

import workbench as wb
from workbench.cli.lab_notebook import goal_of, name_of, notebook_for
from workbench.formats.loading import loading_lines
from workbench.session.opening import prepare

Tensors = dict[str, np.ndarray[Any, Any]]


def normal(*shape: int, dtype: Any = np.float16, seed: int = 0) -> np.ndarray[Any, Any]:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.05).astype(dtype)


def made(model: str | Path, **given: Any) -> dict[str, Any]:
    """The notebook that lab makes."""
    ready = prepare(model, **given)
    with ready.checkpoint:
        return notebook_for(str(model), ready, {"target": ready.target.name, **given})


def text_of(notebook: dict[str, Any]) -> str:
    return "\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown")


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Run the cells in the present folder, one after another, as a kernel does; the names that they leave."""
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile(cell["source"], cell["id"], "exec"), names)
    names["s"].close()
    return names


# ---- kinds of checkpoints -------------------------------------------------------------------------------------------


def single_file(folder: Path) -> Path:
    """Names that say nothing, two layers of them too narrow for any block."""
    path = folder / "something.safetensors"
    save_file(
        {
            "w.weight": normal(64, 256),
            "enc.table.weight": normal(40, 32, dtype=np.float32),
            "thin.weight": normal(7, 12),
            "one.weight": normal(1, 1),
            "zero.weight": np.zeros((32, 256), np.float16),
            "flat.weight": np.full((32, 256), 0.5, np.float16),
            "bias": normal(9),
        },
        path,
    )
    return path


def qwen2_in_shards(folder: Path) -> Path:
    """A language model of transformers in two shards with an index."""
    path = folder / "Qwen2-tiny"
    path.mkdir()
    layers: Tensors = {
        "model.embed_tokens.weight": normal(160, 64, dtype=ml_dtypes.bfloat16),
        "lm_head.weight": normal(160, 64, dtype=ml_dtypes.bfloat16, seed=1),
    }
    for block in range(2):
        name = f"model.layers.{block}"
        for part, shape in (
            ("self_attn.q_proj", (64, 64)), ("self_attn.k_proj", (32, 64)), ("self_attn.v_proj", (32, 64)),
            ("self_attn.o_proj", (64, 64)), ("mlp.gate_proj", (128, 64)), ("mlp.up_proj", (128, 64)),
            ("mlp.down_proj", (64, 128)),
        ):  # fmt: skip
            layers[f"{name}.{part}.weight"] = normal(*shape, dtype=ml_dtypes.bfloat16, seed=block)
        layers[f"{name}.input_layernorm.weight"] = np.ones(64, ml_dtypes.bfloat16)
    names = sorted(layers)
    shards = {
        "model-00001-of-00002.safetensors": names[: len(names) // 2],
        "model-00002-of-00002.safetensors": names[len(names) // 2 :],
    }
    for shard, some in shards.items():
        save_file({name: layers[name] for name in some}, path / shard, metadata={"format": "pt"})
    where = {name: shard for shard, some in shards.items() for name in some}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (path / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 64,
                "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 160,
                "intermediate_size": 128, "tie_word_embeddings": False,
            }
        )
    )  # fmt: skip
    return path


def gguf_source(folder: Path) -> Path:
    """A GGUF file in F16."""
    path = folder / "source.gguf"
    writer = gguf.GGUFWriter(path, "sd1")
    for block in range(2):
        writer.add_tensor(f"blocks.{block}.attn.to_q.weight", normal(64, 256, seed=block))
        writer.add_tensor(f"blocks.{block}.norm.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def odd_path(folder: Path) -> Path:
    """A path of all that a shell, a notebook or Markdown could take for something else."""
    path = folder / 'it\'s a "model" [v1] {x} $y$ `z` *b* | Größe 模型'
    path.mkdir()
    save_file(
        {f"blocks.{n}.attn.to_q.weight": normal(64, 128, seed=n) for n in range(3)},
        path / "model.safetensors",
    )
    return path


def diffusers_folder(folder: Path, model: Any, kind: str) -> Path:
    """A pipeline's folder with its denoiser and a text encoder."""
    part = "unet" if kind == "UNet2DConditionModel" else "transformer"
    path = folder / "pipeline"
    model.save_pretrained(path / part)
    (path / "model_index.json").write_text(
        json.dumps(
            {"_class_name": "SomePipeline", part: ["diffusers", kind], "text_encoder": ["transformers", "T5"]}
        )
    )
    encoder = path / "text_encoder"
    encoder.mkdir()
    save_file({"encoder.block.0.layer.0.q.weight": normal(64, 64)}, encoder / "model.safetensors")
    (encoder / "config.json").write_text(
        json.dumps({"architectures": ["T5EncoderModel"], "model_type": "t5"})
    )
    return path


@pytest.fixture
def flux(tmp_path: Path, flux_model: Callable[..., Any]) -> Path:
    return diffusers_folder(tmp_path, flux_model(), "FluxTransformer2DModel")


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    model = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32, attention_head_dim=8, norm_num_groups=8,
    )  # fmt: skip
    return diffusers_folder(tmp_path, model, "UNet2DConditionModel")


def check(model: str | Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> dict[str, Any]:
    """Run a model's notebook twice in one folder; the names that the second run leaves."""
    notebook = made(model, **given)
    nbformat.validate(nbformat.from_dict(notebook))
    desk = folder / "desk"
    desk.mkdir()
    monkeypatch.chdir(desk)
    first, second = run(notebook), run(notebook)
    for names in (first, second):
        assert names["proof"].ok
        if given.get("target") != "safetensors":
            assert names["report"].bpw <= goal_of_notebook(notebook) + 1e-9
        assert {option.bits for option in names["weights"].plan.choices.values()} & set(range(2, 9))
    assert second["folder"].name == f"{first['folder'].name}-2", "an export that is there is not replaced"
    assert sorted(path.name for path in desk.iterdir()) == sorted(
        names["folder"].name for names in (first, second)
    )
    return second


def goal_of_notebook(notebook: dict[str, Any]) -> float:
    sources = "\n".join(cell["source"] for cell in notebook["cells"])
    (found,) = re.findall(r"^totals = s\.solve\(bpw=([\d.]+)\)$", sources, re.MULTILINE)
    return float(found)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (single_file, "parquet"), (single_file, "gguf"), (single_file, "compressed-tensors"),
        (qwen2_in_shards, "compressed-tensors"), (qwen2_in_shards, "mlx"), (gguf_source, "gguf"),
        (gguf_source, "safetensors"), (odd_path, "parquet"), (odd_path, "safetensors"),
    ],
)  # fmt: skip
def test_it_runs_from_top_to_bottom(
    kind: Callable[[Path], Path], target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(kind(tmp_path), tmp_path, monkeypatch, target=target)


def test_it_runs_on_a_flux_of_diffusers(
    flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = check(flux, tmp_path, monkeypatch, target="gguf")
    assert names["folder"].name.startswith("pipeline-gguf-4.")
    printed = capsys.readouterr().out
    assert loading_lines(names["s"].checkpoint, "gguf", names["folder"].absolute()) in printed
    assert "Known to load flux files: ComfyUI-GGUF" in printed
    assert "`FluxTransformer2DModel`" in text_of(made(flux, target="gguf"))


def test_it_runs_on_a_unet(unet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(unet, tmp_path, monkeypatch, target="gguf")


def test_it_runs_on_a_component(flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = check(flux, tmp_path, monkeypatch, target="mlx", component="text_encoder")
    assert list(names["weights"].plan.choices) == ["encoder.block.0.layer.0.q.weight"]
    assert names["folder"].name.startswith("pipeline-text_encoder-mlx-")


def test_it_runs_with_a_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"target": "gguf", "calibration": "zoo:digits-dit", "effort": "normal"}
    names = check("zoo:digits-dit", tmp_path, monkeypatch, **given)
    assert names["weights"].plan.effort == "normal"
    assert names["weights"].plan.weighted_by
    assert "denoising step" in text_of(made("zoo:digits-dit", **given))


@pytest.mark.filterwarnings("ignore")  # diffusers'
def test_names_are_handed_on_and_the_last_lines_load_the_export(
    flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = check(flux, tmp_path, monkeypatch, target="gguf", names="checkpoint")
    assert "transformer_blocks.0.attn.to_q.weight" in names["weights"].plan.choices
    lines = loading_lines(names["s"].checkpoint, "gguf", names["folder"].absolute())
    loaded: dict[str, Any] = {}
    exec(lines, loaded)
    assert type(loaded["model"]).__name__ == "FluxTransformer2DModel"


def test_it_runs_where_a_broken_layer_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broken.safetensors"
    tensors = {f"blocks.{n}.attn.to_q.weight": normal(64, 256, seed=n) for n in range(3)}
    tensors["blocks.1.attn.to_q.weight"][3, 7] = np.nan
    save_file(tensors, path)
    names = check(path, tmp_path, monkeypatch, target="gguf", keep=["*.1.*"])
    assert names["weights"].plan.choices["blocks.1.attn.to_q.weight"].is_kept
    assert "keep=['*.1.*']" in "".join(
        cell["source"] for cell in made(path, target="gguf", keep=["*.1.*"])["cells"]
    )


def test_the_size_follows_from_the_model(tmp_path: Path) -> None:
    """Layers that the format can only keep are counted on top of what the others get, and the text says so."""
    path = tmp_path / "narrow.safetensors"
    save_file(
        {
            "fits.weight": normal(64, 32),
            **{f"blocks.{n}.mlp.weight": normal(64, 20, seed=n) for n in range(3)},
        },
        path,
    )
    ready = prepare(path, "gguf")
    with ready.checkpoint:
        goal = goal_of(ready)
        text = text_of(notebook_for(str(path), ready, {"target": "gguf"}))
    # 64·32 weights in Q4_0 (4.5 bits; Q2_K needs rows of 256) and 3·64·20 in F16.
    assert goal == np.ceil(4 * (2048 * 4.5 + 3840 * 16) / 5888) / 4
    assert "3 layers of 4 (65.2% of the weights) cannot be stored in fewer bits in GGUF" in text
    assert goal_of_notebook(made(path, target="gguf")) == goal
    assert "The goal is the mean of the bits that such layers take and of 4.5 for each of the others." in text
    path = tmp_path / "wide.safetensors"
    save_file({"blocks.0.mlp.weight": normal(64, 256)}, path)
    assert goal_of_notebook(made(path, target="gguf")) == 4.5


def test_an_embedding_that_is_kept_takes_no_bits_from_the_other_layers(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    rest = {f"blocks.{n}.mlp.weight": normal(64, 256, seed=n) for n in range(3)}
    save_file({"embed_tokens.weight": normal(1500, 64), **rest}, path)
    ready = prepare(path, "compressed-tensors")
    with ready.checkpoint:
        kept = [layer for layer in ready.checkpoint.layers if len(ready.target.options(layer)) == 1]
        assert [layer.name for layer in kept] == ["embed_tokens.weight"]
        weights = sum(layer.params for layer in ready.checkpoint.layers)
        goal = goal_of(ready)
    left = goal * weights - 8 * rest["blocks.0.mlp.weight"].itemsize * kept[0].params
    assert 4.5 <= left / (weights - kept[0].params) < 4.5 + 0.25 * weights / (weights - kept[0].params)


def test_the_target_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    """Where nobody names one: what transformers loads for its own models, and never without saying which."""
    notebook = made(qwen2_in_shards(tmp_path))
    assert "target='compressed-tensors'" in "".join(cell["source"] for cell in notebook["cells"])
    assert "Known to load it: transformers (Qwen2ForCausalLM)" in text_of(notebook)
    archive = made(single_file(tmp_path))
    assert "target='parquet'" in "".join(cell["source"] for cell in archive["cells"])
    assert "Parquet is an archive" in text_of(archive)


def test_the_text_is_of_this_model(tmp_path: Path) -> None:
    path = qwen2_in_shards(tmp_path)
    text = text_of(made(path, target="mlx"))
    assert f"`{path}`" in text
    assert "`Qwen2ForCausalLM`" in text
    assert "16 layers of 94,208 weights in BF16" in text
    assert "| `mlp.in` | 4 | 32,768 | 34.8% |" in text
    assert "digits" not in text


def test_no_path_breaks_out_of_the_text(tmp_path: Path) -> None:
    path = odd_path(tmp_path)
    notebook = made(path, target="parquet")
    cell = next(cell for cell in notebook["cells"] if "wb.open" in cell["source"])
    assert repr(str(path)) in cell["source"]
    about = text_of(notebook)
    assert "`` " not in about.split("model")[0]
    escaped = str(path).replace("|", "\\|")
    assert f"``{escaped}``" in about, "a code span, in which nothing is markup"


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("flux-dev.safetensors", "flux-dev"),
        ("Some Model/model.safetensors", "Some-Model"),
        ("llama/model-00001-of-00001.safetensors", "llama"),
        ("models--org--tiny-flux/snapshots/0123abc/diffusion_pytorch_model.fp16.safetensors", "tiny-flux"),
        ("sdxl/unet/diffusion_pytorch_model.safetensors", "sdxl-unet"),
        ("Größe 模型/model.safetensors", "Größe-模型"),
        ("((((/model.safetensors", "model"),
    ],
)
def test_exports_and_notebooks_are_called_by_the_model(place: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if "unet" in place:
        (path.parents[1] / "model_index.json").write_text("{}")
    save_file({"blocks.0.attn.to_q.weight": normal(8, 64)}, path)
    with wb.open_checkpoint(path) as checkpoint:
        assert name_of(checkpoint) == name
