"""Checkpoints that are already quantized are refused with the evidence; plain F8 is not one of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from workbench.checkpoint import load_sharded_safetensors, open_checkpoint
from workbench.errors import ValidationError

F8 = torch.zeros(4, 8, dtype=torch.float8_e4m3fn)
CODES = torch.zeros(4, 8, dtype=torch.int32)
SCALE = torch.ones(4, 1)


@pytest.mark.parametrize(
    ("tensors", "evidence"),
    [
        ({"a.qweight": CODES, "a.qzeros": CODES.clone(), "a.scales": SCALE}, "GPTQ or AWQ"),
        ({"a.weight_packed": CODES, "a.weight_scale": SCALE}, "compressed-tensors"),
        (
            {"a.weight": torch.zeros(4, 8, dtype=torch.uint32), "a.scales": SCALE, "a.biases": SCALE.clone()},
            "MLX",
        ),
        ({"a.weight": torch.zeros(16, 1, dtype=torch.uint8), "a.weight.absmax": SCALE}, "bitsandbytes"),
        ({"a.weight": torch.zeros(4, 8, dtype=torch.int8), "a.SCB": SCALE}, "bitsandbytes"),
        ({"a.weight": F8, "a.weight_scale": SCALE}, "F8_E4M3 codes of 'a.weight'"),
        ({"a.weight": F8, "a.weight_scale_inv": SCALE}, "block-scaled F8"),
        ({"a.weight": F8, "a.scale_weight": SCALE}, "ComfyUI"),
        ({"a.weight": F8, "scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}, "scaled_fp8"),
        ({"a.weight._data": torch.zeros(4, 8, dtype=torch.int8), "a.weight._scale": SCALE}, "optimum-quanto"),
    ],
    ids=["gptq", "packed", "mlx", "nf4", "int8", "f8", "f8 blocks", "f8 comfy", "f8 marker", "quanto"],
)
def test_tensors_give_it_away(tmp_path, tensors, evidence):
    path = tmp_path / "m.safetensors"
    save_file(tensors, path)
    with pytest.raises(ValidationError, match=f"already quantized.*{evidence}.*Open the original"):
        open_checkpoint(path)
    assert set(load_sharded_safetensors(path)) == set(tensors)


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"quantization": {"group_size": 64, "bits": 4}},
        {"compression_config": {"format": "pack-quantized"}},
    ],
)
def test_the_configuration_gives_it_away(write, write_json, tmp_path, config):
    write("m/model.safetensors", {"a.weight": (4, 8)})
    write_json("m/config.json", config)
    with pytest.raises(ValidationError, match=next(iter(config))):
        open_checkpoint(tmp_path / "m")


def test_an_empty_quantization_entry_means_nothing(write, write_json, tmp_path):
    write("m/model.safetensors", {"a.weight": (4, 8)})
    write_json("m/config.json", {"quantization_config": None, "quantization": {}})
    open_checkpoint(tmp_path / "m").close()


def test_plain_f8_is_a_source_like_any(tmp_path):
    save_file({"a.weight": F8}, tmp_path / "m.safetensors")
    with open_checkpoint(tmp_path / "m.safetensors") as checkpoint:
        assert [layer.dtype for layer in checkpoint.layers] == ["F8_E4M3"]


def test_scales_of_a_float_model_are_no_evidence(write):
    path = write("m.safetensors", {"a.weight": (4, 8), "a.scales": (4,), "b.weight_scale": np.ones(1)})
    open_checkpoint(path).close()
