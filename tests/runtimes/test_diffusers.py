"""diffusers loads a dequantized export by itself, and draws with the weights that the real export decodes to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiTPipeline, DiTTransformer2DModel

import workbench as wb
from workbench.checkpoint import DTYPES, open_checkpoint
from workbench.zoo import locate

MODEL = "zoo:digits-dit"


@pytest.fixture(scope="module", params=["mlx", "compressed-tensors", "parquet"])
def exports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The real export at 4 bits, and what it decodes to as plain safetensors."""
    folder = tmp_path_factory.mktemp("exports")
    config = wb.DiffusionQuantConfig(target=request.param, bit_width=4, group_size=64, min_accuracy=0.0)
    wb.DiffusionOrchestrator(config).run(MODEL, folder / "real")
    plain = wb.DiffusionQuantConfig(target="safetensors", min_accuracy=0.0)
    wb.DiffusionOrchestrator(plain).run(MODEL, folder / "plain", plan=wb.load(folder / "real").plan)
    return folder / "real", folder / "plain"


def outputs(model: DiTTransformer2DModel) -> torch.Tensor:
    config, generator = model.config, torch.Generator().manual_seed(0)
    image = torch.randn(3, config.in_channels, config.sample_size, config.sample_size, generator=generator)
    with torch.no_grad():
        found: torch.Tensor = model(
            image.to(model.dtype), torch.tensor([1, 300, 900]), torch.tensor([0, 5, 9])
        ).sample
    return found.float()


def test_the_transformer_has_the_decoded_weights(exports: tuple[Path, Path]) -> None:
    real, plain = exports
    loaded = DiTTransformer2DModel.from_pretrained(plain, subfolder="transformer").eval()
    reference = DiTTransformer2DModel.from_pretrained(locate("digits-dit"), subfolder="transformer").eval()
    before = outputs(reference)
    decoded = wb.load(real)
    with open_checkpoint(MODEL) as checkpoint:
        dtypes = {name: DTYPES[tensor.dtype] for name, tensor in checkpoint.tensors.items()}
    state = {
        name: torch.from_numpy(array.astype(dtypes[name]).astype(np.float32))
        for name, array in decoded.items()
    }
    # DiT's position table is computed, not stored.
    assert not reference.load_state_dict(state, strict=False).unexpected_keys
    expected = outputs(reference)
    assert torch.equal(outputs(loaded), expected)
    assert 1e-3 < float((expected - before).abs().max() / before.abs().max()) < 1, "4 bits change something"


def test_the_folder_is_a_pipeline(exports: tuple[Path, Path]) -> None:
    pipe = DiTPipeline.from_pretrained(exports[1], vae=None)
    loaded = DiTTransformer2DModel.from_pretrained(exports[1], subfolder="transformer")
    assert type(pipe.scheduler).__name__ == "DDIMScheduler"
    for name, tensor in pipe.transformer.state_dict().items():
        assert torch.equal(tensor.float(), loaded.state_dict()[name].float())
