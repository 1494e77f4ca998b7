"""The modality comes from the strongest evidence, and says which."""

from __future__ import annotations

import pytest

from workbench.checkpoint import Modality, detect_modality, open_checkpoint


def detect(**given) -> Modality:
    return detect_modality(**({"pipeline": {}, "config": {}, "metadata": {}, "names": []} | given))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DiTTransformer2DModel", "image"),
        ("PixArtTransformer2DModel", "image"),
        ("SD3Transformer2DModel", "image"),
        ("FluxTransformer2DModel", "image"),
        ("WanTransformer3DModel", "image"),
        ("UNet2DConditionModel", "image"),
        ("HunyuanVideoTransformer3DModel", "image"),
        ("UNet2DModel", "image"),
        ("DreamLiteTransformer2DModel", "image"),
        ("AudioLDM2UNet2DConditionModel", "audio"),
        ("StableAudioDiTModel", "audio"),
        ("AceStepTransformer1DModel", "audio"),
        ("LLaDAModelLM", "text"),
        ("DreamModel", "text"),
        ("Qwen2ForCausalLM", "text"),
        ("LlamaForCausalLM", "text"),
        ("BertForMaskedLM", "text"),
        ("LLaDAMoEModelLM", "text"),
    ],
)
def test_classes(name, value):
    field = {"_class_name": name} if "2D" in name or "3D" in name else {"architectures": [name]}
    found = detect(config=field)
    assert found.value == value
    assert name in found.evidence
    assert "config.json" in found.evidence


@pytest.mark.parametrize(
    ("pipeline", "value"),
    [
        ("StableDiffusionPipeline", "image"), ("AudioLDMPipeline", "audio"), ("StableAudioPipeline", "audio"),
        ("MusicLDMPipeline", "audio"), ("HunyuanVideoPipeline", "image"), ("DDPMPipeline", "image"),
    ],
)  # fmt: skip
def test_the_pipeline_decides_before_its_denoiser(pipeline, value):
    found = detect(pipeline={"_class_name": pipeline}, config={"_class_name": "UNet2DConditionModel"})
    assert found.value == value
    assert "model_index.json" in found.evidence


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"config": {"model_type": "Dream"}, "title": "Dream-Coder-v0-Instruct-7B"}, "code"),
        ({"config": {"model_type": "Dream", "_name_or_path": "apple/DiffuCoder-7B"}}, "code"),
        ({"config": {"architectures": ["LLaDAModelLM"]}, "title": "my-code-model"}, "code"),
        ({"config": {"architectures": ["BertForMaskedLM"]}, "title": "text-encoder"}, "text"),
        ({"config": {"architectures": ["BertForMaskedLM"]}, "title": "decoder"}, "text"),
        ({"config": {"_class_name": "UNet2DModel"}, "title": "code"}, "image"),
    ],
)
def test_code_is_told_from_text_by_the_models_name(given, value):
    assert detect(**given).value == value


def test_metadata_speaks_when_configurations_are_silent():
    found = detect(config={"hidden": 1}, metadata={"modelspec.architecture": "stable-diffusion-xl-v1-base"})
    assert found.value == "image"
    assert "metadata" in found.evidence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", "image"),
        ("double_blocks.0.img_attn.qkv.weight", "image"),
        ("model.transformer.wte.weight", "text"),
        ("model.embed_tokens.weight", "text"),
        ("layer.weight", "unknown"),
    ],
)
def test_tensor_names_are_the_last_resort(name, value):
    found = detect(names=["x", name])
    assert found.value == value
    assert found.evidence


def test_a_configuration_of_odd_types_is_no_evidence():
    config = {"architectures": [], "_class_name": 5, "model_type": None}
    assert detect(config=config).value == "unknown"
    assert detect(config={"architectures": [["a"]]}).value == "unknown"


def test_a_checkpoint_carries_it(write, write_json, tmp_path):
    write("DreamCoder-7B/model.safetensors", {"model.embed_tokens.weight": (4, 4)})
    write_json("DreamCoder-7B/config.json", {"architectures": ["DreamModel"]})
    with open_checkpoint(tmp_path / "DreamCoder-7B") as checkpoint:
        assert checkpoint.modality.value == "code"
        assert "DreamCoder-7B" in checkpoint.modality.evidence
