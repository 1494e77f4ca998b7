"""Guards `capture_pipeline`: one call records what the denoiser of a diffusers pipeline saw, or says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from workbench.checkpoint import open_checkpoint
from workbench.errors import ArgumentError
from workbench.live import capture_pipeline, match_modules


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(16, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8, attention_head_dim=8,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pipeline")
    DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=30)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    pipe = DDPMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_pipeline_is_captured_in_one_call(pipe: Any, folder: Path, keep: Any) -> None:
    with open_checkpoint(folder) as checkpoint:
        keeper = keep(match_modules(pipe.unet, checkpoint))
        with keeper.keeping(pipe.unet, lambda args, kwargs: args[1]):
            records = capture_pipeline(pipe, checkpoint=folder, steps=3, batch_size=2, output_type="np")
        keeper.check(records)
        records.check_fit(checkpoint)
        assert set(records.layers) == {layer.name for layer in checkpoint.layers}
    assert records.steps[:, 0].tolist() == [0, 10, 20]
    assert records.step_calls.tolist() == [1, 1, 1]
    assert records.made_by["model"] == "UNet2DModel"


def test_the_seed_decides(pipe: Any, folder: Path) -> None:
    one, same, other = (
        capture_pipeline(pipe, checkpoint=folder, steps=2, seed=seed, output_type="np") for seed in (0, 0, 1)
    )
    assert one.digest == same.digest
    assert one.digest != other.digest


def test_a_component_may_be_named(pipe: Any, folder: Path) -> None:
    records = capture_pipeline(pipe, checkpoint=folder, component="unet", steps=2, output_type="np")
    assert np.isfinite(records.second_moment("conv_in.weight")).all()


@pytest.mark.parametrize("component", ["nonsense", "scheduler"])
def test_an_unknown_component_is_an_error_that_lists_those_there_are(
    pipe: Any, folder: Path, component: str
) -> None:
    with pytest.raises(
        ArgumentError, match=rf"DDPMPipeline has no {component}; .* unet, scheduler"
    ) as raised:
        capture_pipeline(pipe, checkpoint=folder, component=component)
    assert raised.value.key == "component"


def test_an_unknown_argument_is_an_error_that_lists_those_there_are(pipe: Any, folder: Path) -> None:
    with pytest.raises(ArgumentError, match=r"takes no argument 'prompt'; it takes batch_size,") as raised:
        capture_pipeline(pipe, checkpoint=folder, prompt="a cat")
    assert raised.value.key == "prompt"
    assert not any(module._forward_hooks for module in pipe.unet.modules())
