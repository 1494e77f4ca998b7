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


I8, I16, I32, U8 = torch.int8, torch.int16, torch.int32, torch.uint8
LINEAR = "blocks.0.attn.to_q."


def codes(*shape: int, dtype: torch.dtype = I8) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype)


SCHEMES: dict[str, dict[str, torch.Tensor]] = {
    "MXFP4": {
        "mlp.experts.gate_up_proj_blocks": codes(2, 64, 4, 16, dtype=U8),
        "mlp.experts.gate_up_proj_scales": codes(2, 64, 4, dtype=U8),
    },
    "exl2": {LINEAR + "q_weight": codes(8, 32, dtype=I32), LINEAR + "q_scale": codes(2, 4, dtype=I32)},
    "exl3": {
        LINEAR + "trellis": codes(4, 4, 64, dtype=I16),
        LINEAR + "suh": torch.ones(64),
        LINEAR + "svh": torch.ones(64),
    },
    "AQLM": {
        LINEAR + "codes": codes(64, 8, 2, dtype=I16),
        LINEAR + "codebooks": torch.ones(2, 16, 1, 8),
        LINEAR + "scales": torch.ones(64, 1, 1, 1),
    },
    "QuIP#": {
        LINEAR + "Qidxs": codes(64, 8, dtype=I16),
        LINEAR + "SU": torch.ones(64),
        LINEAR + "SV": torch.ones(64),
    },
    "VPTQ": {
        LINEAR + "indices": codes(1, 64, 8, dtype=I32),
        LINEAR + "centroids.weight": torch.ones(1, 64),
        LINEAR + "weight_scale": torch.ones(64),
    },
    "EETQ": {LINEAR + "weight": codes(64, 64), LINEAR + "weight_scales": torch.ones(64)},
    "int8, .scale": {LINEAR + "weight": codes(64, 64), LINEAR + "scale": torch.ones(64, 1)},
    "int8, .weight.scale": {LINEAR + "weight": codes(64, 64), LINEAR + "weight.scale": torch.ones(64, 1)},
    "int8, .weight._scale": {LINEAR + "weight": codes(64, 64), LINEAR + "weight._scale": torch.ones(64, 1)},
    "int8 without scales": {LINEAR + "weight": codes(64, 64)},
    "int8 in a decoder of masks": {"mask_decoder.q.weight": codes(64, 64)},
    "torchao int8": {LINEAR + "_weight_qdata": codes(64, 64), LINEAR + "_weight_scale": torch.ones(64, 1)},
    "torchao F8": {LINEAR + "_weight_qdata": F8.clone(), LINEAR + "_weight_scale": SCALE.clone()},
    "SDNQ": {LINEAR + "weight": codes(2048, dtype=U8), LINEAR + "scale": torch.ones(64, 4, 1)},
    "W4A8": {LINEAR + "weight": codes(64, 32), LINEAR + "weight_codebook": torch.ones(16)},
    "F8, .scale": {LINEAR + "weight": F8.clone(), LINEAR + "scale": torch.ones(())},
    "F8, amax": {LINEAR + "weight": F8.clone(), LINEAR + "amax": torch.ones(())},
    "unknown": {LINEAR + "packed": codes(4096, 16, dtype=I32), LINEAR + "table": torch.ones(16)},
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_structure_gives_it_away_even_of_a_single_block(tmp_path, scheme):
    tensors = {
        **SCHEMES[scheme],
        "blocks.1.attn.to_q.weight": torch.ones(64, 64, dtype=torch.bfloat16),
        "blocks.1.norm.weight": torch.ones(64),
    }
    path = tmp_path / "m.safetensors"
    save_file(tensors, path)
    with pytest.raises(ValidationError, match="already quantized") as caught:
        open_checkpoint(path)
    assert any(repr(name) in str(caught.value) for name in SCHEMES[scheme]), "a tensor is the evidence"
    assert set(load_sharded_safetensors(path)) == set(tensors)


@pytest.mark.parametrize(
    ("metadata", "evidence"),
    [
        (
            {"_quantization_metadata": '{"layers": {"a": {"format": "float8_e4m3fn"}}}'},
            "_quantization_metadata",
        ),
        ({"quantization": "nf4"}, "has quantization"),
        ({"a.weight": '{"_type": "Int8Tensor", "_data": {}}'}, "'a.weight' a Int8Tensor, as torchao"),
    ],
)
def test_the_header_gives_it_away(write, metadata, evidence):
    with pytest.raises(ValidationError, match=f"already quantized.*{evidence}"):
        open_checkpoint(write("m.safetensors", {"a.weight": (4, 8)}, metadata))


@pytest.mark.parametrize(
    "metadata",
    [
        {"_quantization_metadata": '{"format_version": "1.0", "layers": {}}'},
        {"quantization": "bf16", "modelspec.title": "a model"},
        {"a.weight": '{"_type": "Tensor", "_data": {}}'},
    ],
)
def test_metadata_of_plain_weights_are_no_evidence(write, metadata):
    open_checkpoint(write("m.safetensors", {"a.weight": (4, 8)}, metadata)).close()


SOUND: dict[str, dict[str, torch.Tensor]] = {
    "positions": {"embeddings.position_ids": torch.arange(77)[None].repeat(2, 1)},
    "token types": {"embeddings.token_type_ids": torch.zeros(2, 512, dtype=torch.int64)},
    "Swin's table": {
        "attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64),
        "attn.logit_scale": torch.ones(4, 1, 1),
    },
    "masks": {"attn.mask": codes(64, 64, dtype=U8), "h.0.attn.bias": codes(1, 1, 64, 64, dtype=U8)},
    "counters": {
        "bn.num_batches_tracked": torch.tensor(7),
        "model_ema.num_updates": torch.tensor(3, dtype=I32),
    },
    "FSQ": {
        "quantizer._levels": torch.tensor([8, 5, 5], dtype=I32),
        "quantizer.implicit_codebook": torch.ones(200, 3),
    },
    "a small table": {"ids.lookup": codes(4, 4, dtype=I32)},
    "all F8": {
        "attn.to_q.weight": F8.clone(),
        "attn.to_q.bias": torch.zeros(4, dtype=torch.float8_e4m3fn),
        "norm.query_norm.scale": torch.zeros(8, dtype=torch.float8_e4m3fn),
        "pos_embed": torch.zeros(1, 4, 8, dtype=torch.float8_e4m3fn),
        "scale_shift_table": torch.ones(6, 8),
    },
}


@pytest.mark.parametrize("model", SOUND)
def test_sound_checkpoints_are_not_refused(tmp_path, model):
    path = tmp_path / "m.safetensors"
    save_file({"blocks.0.proj.weight": torch.randn(64, 64), **SOUND[model]}, path)
    with open_checkpoint(path) as checkpoint:
        assert "blocks.0.proj.weight" in {layer.name for layer in checkpoint.layers}


def test_scales_of_a_float_model_are_no_evidence(write):
    path = write("m.safetensors", {"a.weight": (4, 8), "a.scales": (4,), "b.weight_scale": np.ones(1)})
    open_checkpoint(path).close()
