"""GGUF exports against the `gguf` package's decoder, and their sizes against the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.errors import ArrowQuantError, MetadataError, ValidationError
from workbench.formats import target_named
from workbench.formats.gguf.families import family_of
from workbench.plan import Layer
from workbench.quantize.ggml import FORMATS

Make = Callable[..., Path]
Tensors = dict[str, np.ndarray[Any, Any]]

LARGE = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
SMALL = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


def export(source: Path | str, output: Path, plan: wb.Plan | None = None, **settings: Any) -> wb.Report:
    settings = {"target": "gguf", "min_accuracy": 0.0, **settings}
    return wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(**settings)).run(source, output, plan=plan)


def read_by_gguf(folder: Path) -> tuple[Tensors, gguf.GGUFReader]:
    """Every tensor, by its name in the file, as the `gguf` package decodes it, in the file's shape."""
    reader = gguf.GGUFReader(folder / "model.gguf")
    tensors: Tensors = {}
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        whole = tensor.data
        if tensor.tensor_type.name in {*FORMATS, "BF16"}:
            whole = gguf.dequantize(tensor.data, tensor.tensor_type)
        tensors[tensor.name] = np.array(whole).reshape(shape)
    return tensors, reader


def text_of(reader: gguf.GGUFReader, key: str) -> str:
    return str(reader.fields[key].contents())


def plan_of(source: Path, wanted: Callable[[Layer], Any]) -> wb.Plan:
    with open_checkpoint(source) as checkpoint:
        return wb.Plan(
            "gguf", {layer.name: wanted(layer) for layer in checkpoint.layers}, checkpoint.fingerprint
        )


def option(layer: Layer, scheme: str) -> Any:
    return next(option for option in target_named("gguf").options(layer) if option.scheme == scheme)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32], ids=["bf16", "f16", "f32"])
@pytest.mark.parametrize("scheme", [*SMALL, *LARGE])
def test_the_gguf_package_decodes_what_we_do(
    make_checkpoint: Make, tmp_path: Path, scheme: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.checkpoint.blocks.BLOCK_WEIGHTS", 9_000)
    block = FORMATS[scheme].block
    rng = np.random.default_rng(1)
    tensors: Tensors = {
        f"blocks.{i}.attn.to_q.weight": (rng.standard_normal(shape) * 0.1).astype(dtype)
        for i, shape in enumerate([(1, 4352), (1030, block), (17, 1280), (3, 8192 + block)])
    }
    source = make_checkpoint(tensors)
    plan = plan_of(source, lambda layer: option(layer, scheme))
    report = export(source, tmp_path / "out", plan)
    decoded, _ = read_by_gguf(tmp_path / "out")
    loaded = wb.load(tmp_path / "out")
    assert report.predicted_bytes == report.actual_bytes == (tmp_path / "out/model.gguf").stat().st_size
    for layer in report.layers:
        np.testing.assert_array_equal(loaded[layer.name], decoded[layer.name])
        weights = tensors[layer.name].astype(np.float64)
        nsr = ((weights - decoded[layer.name]) ** 2).sum() / (weights**2).sum()
        assert layer.nsr == pytest.approx(nsr, rel=1e-4)
        assert layer.scheme == scheme


@pytest.mark.parametrize("bits", range(2, 9))
def test_a_checkpoint_of_every_kind_of_tensor(make_checkpoint: Make, tmp_path: Path, bits: int) -> None:
    source, output = make_checkpoint(), tmp_path / "out"
    report = export(source, output, bit_width=bits)
    assert report.predicted_bytes == report.actual_bytes
    assert wb.verify(output, source).ok
    loaded, (decoded, reader) = wb.load(output), read_by_gguf(output)
    with open_checkpoint(source) as checkpoint:
        assert set(loaded) == set(decoded) == set(checkpoint.tensors)
        for name in checkpoint.tensors:
            values = decoded[name].astype(np.float32).reshape(loaded[name].shape)
            np.testing.assert_array_equal(loaded[name].astype(np.float32), values)
            if loaded.payload.tensors[name].option is None:
                assert loaded[name].tobytes() == checkpoint.view(name).tobytes()
                assert loaded[name].dtype == checkpoint.view(name).dtype
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["transformer_blocks.0.norm1.norm.weight"] == "F32", "vectors"
    assert types["transformer_blocks.0.ff.net.0.proj.weight"] == "F16", "48 columns of float32"
    assert types["transformer_blocks.0.attn1.to_out.0.weight"] == "BF16", "129 columns of bfloat16, no larger"
    narrow = {2: "Q4_0", 3: "Q4_0", 4: "Q5_0", 5: "Q5_1"}.get(bits, "Q8_0")
    assert types["transformer_blocks.0.ff.net.2.weight"] == narrow, "192 columns"
    assert types["proj_out.weight"] == "F32", "small"
    assert reader.fields["general.quantization_version"].contents() == gguf.GGML_QUANT_VERSION


def test_a_width_that_gguf_lacks_is_reported(make_checkpoint: Make, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((8, 512)).astype(np.float32)
    source = make_checkpoint({"blocks.0.attn.to_q.weight": weights})
    report = export(source, tmp_path / "out", bit_width=7)
    assert report.layers[0].scheme == "Q8_0"
    assert any("to_q.weight: Q8_0 instead of 7 bits" in note for note in report.notes)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_predicted_size_is_the_written_one_for_random_plans(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("random")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    cols = st.sampled_from([1, 7, 32, 96, 256, 512, 1280])
    tensors: Tensors = {
        "input_blocks.1.0.in_layers.2.weight": rng.standard_normal((64, 8, 2, 2)).astype(np.float16)
    }
    for i in range(data.draw(st.integers(1, 6))):
        dtype = data.draw(st.sampled_from([ml_dtypes.bfloat16, np.float16, np.float32]))
        name = "blöcke" * data.draw(st.integers(0, 3)) + f"blocks.{i}.proj"
        shape = data.draw(st.integers(1, 40)), data.draw(cols)
        tensors[f"{name}.weight"] = rng.standard_normal(shape).astype(dtype)
        tensors[f"{name}.bias"] = rng.standard_normal(shape[0]).astype(dtype)
    save_file(tensors, folder / "model.safetensors")
    source = folder / "model.safetensors"
    plan = plan_of(source, lambda layer: data.draw(st.sampled_from(target_named("gguf").options(layer))))
    with open_checkpoint(source) as checkpoint:
        predicted = target_named("gguf").layout(checkpoint, plan).nbytes
    report = export(source, folder / "out", plan)
    assert predicted == report.predicted_bytes == report.actual_bytes
    assert predicted == sum(path.stat().st_size for path in folder.glob("out/*.gguf"))
    _, reader = read_by_gguf(folder / "out")
    for tensor in reader.tensors:
        chosen = plan.choices.get(tensor.name)
        if chosen is not None:
            assert tensor.n_bytes == chosen.nbytes
        assert tensor.data_offset % 32 == 0


def test_the_names_and_shapes_that_comfyui_wants(make_checkpoint: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    prefix = "model.diffusion_model."
    tensors: Tensors = {
        f"{prefix}{name}": rng.standard_normal(shape).astype(ml_dtypes.bfloat16)
        for name, shape in {
            "input_blocks.3.0.op.weight": (64, 32, 3, 3),
            "input_blocks.6.0.op.weight": (64, 64, 2, 2),
            "output_blocks.2.2.conv.weight": (64, 64, 1, 1),
            "output_blocks.5.2.conv.weight": (64, 4, 3, 3),
            "label_emb.0.0.weight": (64, 512),
            "label_emb.0.0.bias": (64,),
        }.items()
    }
    source, output = make_checkpoint(tensors), tmp_path / "out"
    report = export(source, output, bit_width=4)
    decoded, reader = read_by_gguf(output)
    assert text_of(reader, "general.architecture") == "sdxl"
    assert set(decoded) == {name.removeprefix(prefix) for name in tensors}
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert [types[name.removeprefix(prefix)] for name in tensors] == [
        "Q5_0",
        "Q4_K",
        "Q5_0",
        "F16",
        "Q4_K",
        "F32",
    ]
    for name in ("input_blocks.3.0.op.weight", "input_blocks.6.0.op.weight"):
        field = reader.fields[f"comfy.gguf.orig_shape.{name}"]
        assert field.types == [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT32]
        assert tuple(field.contents()) == tensors[prefix + name].shape
        assert decoded[name].shape == (64, tensors[prefix + name][0].size)
    assert decoded["output_blocks.5.2.conv.weight"].shape == (64, 4, 3, 3), "F16 keeps its shape"
    assert any("ComfyUI-GGUF" in note and "sdxl" in note for note in report.notes)
    assert wb.load(output)[f"{prefix}input_blocks.3.0.op.weight"].shape == (64, 32, 3, 3)


SIGNS = {
    "flux": ["double_blocks.0.img_attn.proj.weight"],
    "sd3": ["joint_blocks.0.x_block.attn.qkv.weight"],
    "aura": ["double_layers.3.modX.1.weight"],
    "hidream": ["caption_projection.0.linear.weight", "double_stream_blocks.0.block.ff_i.shared_experts.w3.weight"],
    "cosmos": ["blocks.0.mlp.layer1.weight", "blocks.0.adaln_modulation_cross_attn.1.weight"],
    "ltxv": [
        "adaln_single.emb.timestep_embedder.linear_2.weight", "transformer_blocks.27.scale_shift_table",
        "caption_projection.linear_2.weight",
    ],
    "hyvid": [
        "double_blocks.0.img_attn_proj.weight", "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.weight",
    ],
    "wan": ["blocks.0.self_attn.norm_q.weight", "text_embedding.2.weight", "head.modulation"],
    "lumina2": ["cap_embedder.1.weight", "context_refiner.0.attention.qkv.weight"],
    "qwen_image": [
        "time_text_embed.timestep_embedder.linear_2.weight", "transformer_blocks.0.img_mlp.net.0.proj.weight",
    ],
    "sd1": [
        "input_blocks.3.0.op.weight", "input_blocks.6.0.op.weight", "input_blocks.9.0.op.weight",
        "output_blocks.2.1.conv.weight", "output_blocks.5.2.conv.weight", "output_blocks.8.2.conv.weight",
    ],
}  # fmt: skip


@pytest.mark.parametrize("architecture", SIGNS)
def test_architectures_are_told_by_their_tensors(tmp_path: Path, architecture: str) -> None:
    tensors: Tensors = {name: np.zeros((1, 2, 3), ml_dtypes.bfloat16) for name in SIGNS[architecture]}
    save_file(tensors, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path / "model.safetensors") as checkpoint:
        family = family_of(checkpoint)
    assert family.architecture == architecture
    assert "comfyui" in family.loaders


def test_tables_stay_float32_and_no_tensor_has_five_axes(make_checkpoint: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    tensors: Tensors = {
        "head.modulation": rng.standard_normal((1, 2, 1536)).astype(ml_dtypes.bfloat16),
        "blocks.0.self_attn.norm_q.weight": np.ones(1536, ml_dtypes.bfloat16),
        "text_embedding.2.weight": rng.standard_normal((256, 256)).astype(ml_dtypes.bfloat16),
        "patch_embedding.weight": rng.standard_normal((64, 16, 1, 2, 2)).astype(ml_dtypes.bfloat16),
        "freqs": rng.standard_normal((64, 64)).astype(ml_dtypes.bfloat16),
    }
    source, output = make_checkpoint(tensors), tmp_path / "out"
    export(
        source,
        output,
        bit_width=8,
        skip_sensitive_layers=True,
        sensitive_layer_names=["patch_embedding.weight"],
    )
    decoded, reader = read_by_gguf(output)
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["head.modulation"] == types["freqs"] == types["blocks.0.self_attn.norm_q.weight"] == "F32"
    assert types["patch_embedding.weight"] == "F32", "of bfloat16, diffusers takes only linears"
    assert decoded["patch_embedding.weight"].shape == (64, 64)
    assert reader.fields["comfy.gguf.orig_shape.patch_embedding.weight"].contents() == [64, 16, 1, 2, 2]
    assert wb.verify(output, source).ok


def llada(folder: Path, heads: int = 4, kv_heads: int = 2) -> Tensors:
    """A checkpoint that is LLaDA's by its names and configuration."""
    rng = np.random.default_rng(4)
    shapes = {
        "wte": (64, 256), "ff_out": (64, 256), "ln_f": (256,), "blocks.0.q_proj": (256, 256),
        "blocks.0.k_proj": (128, 256), "blocks.0.v_proj": (128, 256), "blocks.0.attn_out": (256, 256),
        "blocks.0.ff_proj": (512, 256), "blocks.0.up_proj": (512, 256), "blocks.0.ff_out": (256, 512),
        "blocks.0.attn_norm": (256,), "blocks.0.ff_norm": (256,),
    }  # fmt: skip
    tensors: Tensors = {
        f"model.transformer.{name}.weight": rng.standard_normal(shape).astype(ml_dtypes.bfloat16)
        for name, shape in shapes.items()
    }
    config = {
        "architectures": ["LLaDAModelLM"], "model_type": "llada", "d_model": 256, "n_layers": 1, "n_heads": heads,
        "n_kv_heads": kv_heads, "mlp_hidden_size": 512, "vocab_size": 64, "max_sequence_length": 128,
        "rope_theta": 5e5, "rms_norm_eps": 1e-5, "mask_token_id": 63,
    }  # fmt: skip
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return tensors


@pytest.mark.parametrize("bits", [4, 8])
def test_llada_has_the_names_keys_and_rows_of_llama_cpp(
    tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.checkpoint.blocks.BLOCK_WEIGHTS", 256 * 48)
    source, output = tmp_path / "llada", tmp_path / "out"
    tensors = llada(source)
    report = export(source, output, bit_width=bits)
    decoded, reader = read_by_gguf(output)
    assert text_of(reader, "general.architecture") == "llada"
    assert reader.fields["llada.attention.head_count_kv"].contents() == 2
    assert reader.fields["llada.attention.causal"].contents() is False
    assert reader.fields["llada.rope.freq_base"].contents() == 5e5
    assert any("tokenizer.json" in note for note in report.notes)
    loaded = wb.load(output)
    for ours, theirs, heads in (("q_proj", "attn_q", 4), ("k_proj", "attn_k", 2)):
        name = f"model.transformer.blocks.0.{ours}.weight"
        halves = loaded[name].reshape(heads, 2, -1, 256)
        np.testing.assert_array_equal(
            decoded[f"blk.0.{theirs}.weight"], halves.swapaxes(1, 2).reshape(-1, 256)
        )
        assert np.corrcoef(loaded[name].ravel(), tensors[name].astype(np.float32).ravel())[0, 1] > 0.99
    np.testing.assert_array_equal(
        decoded["blk.0.ffn_down.weight"], loaded["model.transformer.blocks.0.ff_out.weight"]
    )
    assert wb.verify(output, source).ok


def test_a_tensor_that_llama_cpp_does_not_know_is_named(tmp_path: Path) -> None:
    tensors = llada(tmp_path / "llada")
    tensors["model.transformer.blocks.0.lora.weight"] = np.zeros((4, 4), np.float32)
    save_file(tensors, tmp_path / "llada/model.safetensors")
    with pytest.raises(ValidationError, match=r"lora\.weight' has no place in llama\.cpp's llada"):
        export(tmp_path / "llada", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_language_model_carries_its_tokenizer(tmp_path: Path) -> None:
    export("zoo:stdlib-mdlm", tmp_path / "out", bit_width=4)
    _, reader = read_by_gguf(tmp_path / "out")
    tokenizer = json.loads((wb.zoo.locate("stdlib-mdlm") / "tokenizer.json").read_text())
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert {token: number for number, token in enumerate(tokens)} == tokenizer["model"]["vocab"]
    assert reader.fields["tokenizer.ggml.merges"].contents()[0] == "Ġ Ġ"
    assert text_of(reader, "tokenizer.ggml.pre") == "qwen2"
    assert reader.fields["tokenizer.ggml.mask_token_id"].contents() == 0
    assert reader.fields["tokenizer.ggml.token_type"].contents()[:3] == [3, 3, 1]


def write_gguf(path: Path) -> dict[str, Any]:
    """A file by the `gguf` package; its keys."""
    keys: dict[str, Any] = {
        "general.name": "Ein Modell", "custom.list": ["a", "ä"], "custom.numbers": [1, -2, 3], "custom.float": 1.5,
        "custom.flag": True, "custom.large": 2**40,
    }  # fmt: skip
    writer = gguf.GGUFWriter(path, "flux")
    writer.add_name(keys["general.name"])
    writer.add_array("custom.list", keys["custom.list"])
    writer.add_array("custom.numbers", keys["custom.numbers"])
    writer.add_float32("custom.float", 1.5)
    writer.add_bool("custom.flag", True)
    writer.add_uint64("custom.large", 2**40)
    writer.add_file_type(1)
    rng = np.random.default_rng(5)
    writer.add_tensor(
        "double_blocks.0.img_attn.proj.weight", rng.standard_normal((96, 512)).astype(np.float16)
    )
    weights = rng.standard_normal((48, 256)).astype(np.float32)
    brain = gguf.quantize(weights, gguf.GGMLQuantizationType.BF16)
    writer.add_tensor("double_blocks.0.img_mlp.0.weight", brain, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.add_tensor("double_blocks.0.img_attn.norm.scale", rng.standard_normal(33).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {"general.architecture": "flux", **keys}


@pytest.mark.parametrize("bits", [3, 8])
def test_all_keys_of_a_gguf_file_are_kept(tmp_path: Path, bits: int) -> None:
    source, output = tmp_path / "source.gguf", tmp_path / "out"
    keys = write_gguf(source)
    export(source, output, bit_width=bits)
    decoded, reader = read_by_gguf(output)
    before = gguf.GGUFReader(source)
    for name, field in before.fields.items():
        if not name.startswith("GGUF.") and name != "general.file_type":
            assert reader.fields[name].types == field.types
            assert reader.fields[name].contents() == field.contents()
    assert {name: reader.fields[name].contents() for name in keys} == keys
    assert set(decoded) == {tensor.name for tensor in before.tensors}
    assert wb.verify(output, source).ok


def test_a_gguf_file_that_is_quantized_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "source.gguf")
    export(tmp_path / "source.gguf", tmp_path / "out")
    with pytest.raises(ValidationError, match=r"already quantized: tensor .* is Q4_K"):
        open_checkpoint(tmp_path / "out/model.gguf")


def test_resuming_gives_the_uninterrupted_bytes(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.checkpoint.blocks.BLOCK_WEIGHTS", 2_048)
    monkeypatch.setattr("workbench.formats.placed.UNIT_BYTES", 16_384)
    source = make_checkpoint()
    export(source, tmp_path / "whole", bit_width=4)
    engine = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target="gguf", bit_width=4, min_accuracy=0.0))

    class StopError(Exception):
        """What the callback raises."""

    def stop(fraction: float, message: str) -> None:
        if fraction > 0.7:
            raise StopError

    monkeypatch.setattr("workbench.work.REFRESH_SECONDS", 0.0)
    with pytest.raises(StopError):
        engine.run(source, tmp_path / "out", resume=True, callback=stop)
    engine.run(source, tmp_path / "out", resume=True)
    whole, resumed = ((tmp_path / name / "model.gguf").read_bytes() for name in ("whole", "out"))
    assert whole == resumed


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("hostile")
    save_file(
        {
            "blocks.0.proj.weight": np.random.default_rng(0).standard_normal((40, 256), np.float32),
            "norm.weight": np.ones(8, np.float32),
        },
        folder / "model.safetensors",
    )
    export(folder / "model.safetensors", folder / "out")
    return (folder / "out/model.gguf").read_bytes()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_but_never_trusted(
    small_file: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damaged = bytearray(small_file)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "model.gguf").write_bytes(damaged)
    try:
        payload: Any = target_named("gguf").open(folder)
    except ArrowQuantError as error:
        refusal = str(error)
    else:
        refusal = ""
        for name in payload.tensors:
            payload.read(name)
        payload.close()
    assert not refusal or "model.gguf" in refusal


def test_impossible_headers_are_refused(small_file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    counts = {
        "tensors": small_file[:8] + b"\xff" * 8 + small_file[16:],
        "keys": small_file[:16] + b"\xff" * 8,
    }
    for damaged in (*counts.values(), small_file[:30], small_file[:-64], b"GGUF"):
        path.write_bytes(damaged)
        with pytest.raises(MetadataError, match=r"model\.gguf"):
            target_named("gguf").open(tmp_path)
    for damaged in (b"", b"PK\x03\x04" + bytes(64), small_file[:4] + b"\x09\0\0\0" + small_file[8:]):
        path.write_bytes(damaged)
        with pytest.raises(ValidationError, match=r"model\.gguf"):
            target_named("gguf").open(tmp_path)
