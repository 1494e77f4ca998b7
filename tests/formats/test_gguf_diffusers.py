"""Guards what diffusers makes of a GGUF file: it loads it, and computes what our decoded weights do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import GGUFQuantizationConfig, SD3Transformer2DModel

import workbench as wb

# diffusers 0.42 decodes in float16 arithmetic, whatever compute_dtype says. That rounds once for a scale alone, and
# several times, against a difference, for formats with a minimum.
BOUNDS = {2: 3e-3, 3: 1e-3, 4: 3e-3, 5: 3e-3, 6: 1e-3, 8: 1e-3}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random SD3 transformer in bfloat16."""
    torch.manual_seed(0)
    model = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=64, num_attention_heads=4,
        joint_attention_dim=256, caption_projection_dim=256, pooled_projection_dim=256, out_channels=16,
        pos_embed_max_size=16,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sd3") / "transformer"
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("bits", BOUNDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_transformer_loads_and_computes_what_we_decode(source: Path, tmp_path: Path, bits: int) -> None:
    output = tmp_path / "out"
    config = wb.DiffusionQuantConfig(target="gguf", bit_width=bits, min_accuracy=0.0)
    report = wb.DiffusionOrchestrator(config).run(source, output)
    assert any("diffusers loads the file" in note for note in report.notes)
    loaded = SD3Transformer2DModel.from_single_file(
        str(output / "model.gguf"),
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
        config=str(source),
        torch_dtype=torch.float32,
    )
    assert any(type(module).__name__ == "GGUFLinear" for module in loaded.modules())
    reference = SD3Transformer2DModel.from_config(SD3Transformer2DModel.load_config(source))
    reference.load_state_dict(
        {name: torch.from_numpy(np.array(array, np.float32)) for name, array in wb.load(output).items()}
    )
    inputs = {
        "hidden_states": torch.randn(2, 16, 16, 16),
        "encoder_hidden_states": torch.randn(2, 7, 256),
        "pooled_projections": torch.randn(2, 256),
        "timestep": torch.tensor([500.0, 20.0]),
    }
    with torch.no_grad():
        found, expected = loaded.eval()(**inputs).sample, reference.eval()(**inputs).sample
    assert float((found - expected).abs().max()) < BOUNDS[bits] * float(expected.abs().max())
