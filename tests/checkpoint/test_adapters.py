"""Files that belong to a model but are none are refused by the right word, not quantized as if they were layers."""

from __future__ import annotations

from typing import Any

import pytest

import workbench as wb
from workbench.checkpoint import load_sharded_safetensors, open_checkpoint
from workbench.errors import ValidationError

KOHYA = "lora_unet_double_blocks_0_img_attn_qkv"
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "kohya": (
        "a LoRA",
        {f"{KOHYA}.lora_down.weight": (4, 16), f"{KOHYA}.lora_up.weight": (32, 4), f"{KOHYA}.alpha": ()},
    ),
    "diffusers": (
        "a LoRA",
        {
            "transformer.blocks.0.to_q.lora_A.weight": (4, 16),
            "transformer.blocks.0.to_q.lora_B.weight": (16, 4),
        },
    ),
    "old diffusers": (
        "a LoRA",
        {
            "unet.attn1.processor.to_q_lora.down.weight": (4, 16),
            "unet.attn1.processor.to_q_lora.up.weight": (16, 4),
        },
    ),
    "LoHa": ("a LoHa", {"lora_unet_proj_in.hada_w1_a": (16, 4), "lora_unet_proj_in.hada_w1_b": (4, 16)}),
    "LoKr": ("a LoKr", {"lora_unet_proj_in.lokr_w1": (4, 4), "lora_unet_proj_in.lokr_w2": (8, 8)}),
    "DoRA": (
        "a DoRA",
        {
            f"{KOHYA}.lora_down.weight": (4, 16),
            f"{KOHYA}.lora_up.weight": (32, 4),
            f"{KOHYA}.dora_scale": (32, 1),
        },
    ),
    "full rank": (
        "a full-rank LoRA",
        {"diffusion_model.blocks.0.attn.q.diff": (16, 16), "diffusion_model.blocks.0.attn.q.diff_b": (16,)},
    ),
    "IP adapter": (
        "an IP adapter",
        {"image_proj.proj.weight": (16, 8), "ip_adapter.1.to_k_ip.weight": (8, 8)},
    ),
    "inversion": ("a textual inversion", {"clip_g": (2, 16), "clip_l": (2, 8)}),
    "ControlNet-LoRA": (
        "a ControlNet-LoRA",
        {
            "lora_controlnet": (1,),
            "input_blocks.1.0.emb_layers.1.up": (8, 4),
            "input_hint_block.0.weight": (4, 3, 3, 3),
        },
    ),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_is_refused_by_its_name(write, adapter):
    word, tensors = ADAPTERS[adapter]
    path = write("style.safetensors", tensors)
    with pytest.raises(ValidationError, match=f"this is {word}, not a model.*'.*'") as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "odel" in str(caught.value).rpartition(": ")[2], "it says what to open instead"
    assert set(load_sharded_safetensors(path)) == set(tensors)


def test_a_folder_of_peft_is_known_by_its_configuration(write, write_json, tmp_path):
    write("adapter/adapter_model.safetensors", {"prompt_embeddings": (8, 16)})
    write_json("adapter/adapter_config.json", {"peft_type": "PROMPT_TUNING"})
    for path in (tmp_path / "adapter", tmp_path / "adapter/adapter_model.safetensors"):
        with pytest.raises(ValidationError, match=r"a PROMPT_TUNING adapter.*adapter_config\.json"):
            open_checkpoint(path)


def test_a_model_beside_an_adapter_is_a_model(write, write_json, tmp_path):
    write("m/model.safetensors", {"a.to_q.weight": (8, 8)})
    write_json("m/config.json", {"model_type": "x"})
    write_json("m/adapter_config.json", {"peft_type": "LORA"})
    open_checkpoint(tmp_path / "m").close()


def test_an_unmerged_lora_names_both(write):
    path = write(
        "m.safetensors",
        {
            "blocks.0.to_q.base_layer.weight": (16, 16),
            "blocks.0.to_q.lora_A.default.weight": (4, 16),
            "blocks.0.to_q.lora_B.default.weight": (16, 4),
        },
    )
    with pytest.raises(
        ValidationError, match=r"unmerged LoRA.*to_q\.lora_A.*to_q\.base_layer.*merge_and_unload"
    ):
        open_checkpoint(path)


@pytest.mark.parametrize("metadata", [{"ss_network_module": "networks.lora"}, {}])
def test_names_of_training_tools_are_no_adapter_by_themselves(write, metadata):
    tensors = {"blocks.0.time_maa_w_lora.0.weight": (8, 8), "blocks.0.diffusion.weight": (8, 8)}
    open_checkpoint(write("m.safetensors", tensors, metadata)).close()


def test_nothing_to_quantize_is_an_error_and_never_done(write, tmp_path):
    path = write("style.safetensors", {"<cat-toy>-table": (16,), "sigmas": (10,)})
    open_checkpoint(path).close()
    with pytest.raises(ValidationError, match="nothing to quantize here: none of its 2 tensors"):
        wb.DiffusionOrchestrator().run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValidationError, match="nothing to quantize here"):
        wb.open(path)
