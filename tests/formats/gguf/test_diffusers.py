"""Guards what diffusers makes of a GGUF file: it loads it, and computes what our decoded weights do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel, GGUFQuantizationConfig, SD3Transformer2DModel
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_functions, dequantize_gguf_tensor
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader

import workbench as wb

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

# A file's weights by our decoder, against diffusers 0.42, which decodes in float16 whatever compute_dtype says: that
# rounds once for a scale alone, and several times, against a difference, for formats with a minimum.
FULL_PRECISION = 2e-3
AS_DIFFUSERS_DECODES = 1e-3


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, sd3_model: Callable[..., Any]) -> Path:
    """A small random SD3 transformer in bfloat16."""
    folder = tmp_path_factory.mktemp("sd3") / "transformer"
    sd3_model(qk_norm=None, dual_attention_layers=()).to(torch.bfloat16).save_pretrained(folder)
    return folder


def export(source: Path, output: Path, bits: int, **settings: Any) -> wb.Report:
    config = wb.DiffusionQuantConfig(target="gguf", bit_width=bits, min_accuracy=0.0, **settings)
    return wb.DiffusionOrchestrator(config).run(source, output)


def load(kind: type, source: Path, output: Path) -> Any:
    """The model as diffusers loads it from the file."""
    loaded = kind.from_single_file(  # type: ignore[attr-defined]
        str(output / "model.gguf"),
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
        config=str(source),
        torch_dtype=torch.float32,
    )
    assert any(type(module).__name__ == "GGUFLinear" for module in loaded.modules())
    return loaded.eval()


def with_weights(kind: type, source: Path, weights: dict[str, torch.Tensor]) -> Any:
    """The model in float32 with weights given."""
    model = kind.from_config(kind.load_config(source))  # type: ignore[attr-defined]
    model.load_state_dict(weights)
    return model.eval()


def by_our_decoder(kind: type, output: Path) -> dict[str, torch.Tensor]:
    """What we decode, under diffusers' names by its own conversion."""
    found = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in wb.load(output).items()}
    convert = SINGLE_FILE_LOADABLE_CLASSES[kind.__name__]["checkpoint_mapping_fn"]
    is_original = any("joint_blocks" in name or "double_blocks" in name for name in found)
    return convert(found) if is_original else found


def difference(one: Any, other: Any, inputs: dict[str, torch.Tensor]) -> float:
    """Greatest difference of the outputs, relative to the largest."""
    with torch.no_grad():
        found, expected = one(**inputs).sample, other(**inputs).sample
    return float((found - expected).abs().max()) / float(expected.abs().max())


def sd3_inputs() -> dict[str, torch.Tensor]:
    return {
        "hidden_states": torch.randn(2, 16, 16, 16),
        "encoder_hidden_states": torch.randn(2, 7, 256),
        "pooled_projections": torch.randn(2, 256),
        "timestep": torch.tensor([500.0, 20.0]),
    }


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("names", ["original", "checkpoint"])
def test_a_transformer_loads_and_computes_what_we_decode(
    source: Path, tmp_path: Path, bits: int, names: str
) -> None:
    output = tmp_path / "out"
    report = export(source, output, bits, names=None if names == "original" else names)
    told = f"Known to load sd3 files: {'ComfyUI-GGUF' if names == 'original' else 'diffusers'}"
    assert any(told in note for note in report.notes)
    assert ("joint_blocks.0.x_block.attn.qkv.weight" in wb.load(output)) == (names == "original")
    loaded, inputs = load(SD3Transformer2DModel, source, output), sd3_inputs()
    decoded = by_our_decoder(SD3Transformer2DModel, output)
    reference = with_weights(SD3Transformer2DModel, source, decoded)
    assert difference(loaded, reference, inputs) < FULL_PRECISION
    # The same with the weights as this runtime rounds them: what is left is nobody's error of the file.
    rounded = dict(decoded)
    for name, parameter in loaded.named_parameters():
        if isinstance(parameter, GGUFParameter):
            rounded[name] = dequantize_gguf_tensor(parameter).float()
            assert rounded[name].shape == decoded[name].shape
    as_diffusers = with_weights(SD3Transformer2DModel, source, rounded)
    assert difference(loaded, as_diffusers, inputs) < AS_DIFFUSERS_DECODES / 100


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_diffusers_decoders_in_float32_give_our_weights(source: Path, tmp_path: Path, bits: int) -> None:
    export(source, tmp_path / "out", bits)
    ours = wb.load(tmp_path / "out")
    blocks = 0
    for tensor in GGUFReader(tmp_path / "out" / "model.gguf").tensors:
        kind = GGMLQuantizationType(tensor.tensor_type)
        if kind.name.startswith("Q"):
            data = torch.from_numpy(np.array(tensor.data).reshape(-1, GGML_QUANT_SIZES[kind][1]))
            found = dequantize_functions[kind](data, *GGML_QUANT_SIZES[kind], dtype=torch.float32)
            np.testing.assert_array_equal(found.numpy().reshape(-1), ours[tensor.name].reshape(-1))
            blocks += 1
    assert blocks > 20


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_flux_loads_from_its_original_names(
    tmp_path: Path, flux_model: Callable[..., Any], flux_converter: Callable[..., Any], bits: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source, output = tmp_path / "transformer", tmp_path / "out"
    flux_model().to(torch.bfloat16).save_pretrained(source)
    # Diffusers' conversion knows the width of the published model only.
    monkeypatch.setitem(
        SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"], "checkpoint_mapping_fn", flux_converter
    )
    report = export(source, output, bits)
    assert any("fused from several" in note for note in report.notes)
    assert "single_blocks.1.linear1.weight" in wb.load(output)
    loaded = load(FluxTransformer2DModel, source, output)
    reference = with_weights(FluxTransformer2DModel, source, by_our_decoder(FluxTransformer2DModel, output))
    inputs = {
        "hidden_states": torch.randn(2, 9, 16),
        "encoder_hidden_states": torch.randn(2, 5, 64),
        "pooled_projections": torch.randn(2, 64),
        "timestep": torch.tensor([0.5, 0.02]),
        "img_ids": torch.randn(9, 3),
        "txt_ids": torch.zeros(5, 3),
        "guidance": torch.tensor([3.5, 1.0]),
    }
    assert difference(loaded, reference, inputs) < FULL_PRECISION
