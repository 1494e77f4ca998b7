"""Checkpoints that several tests share: real safetensors files, small, with every kind of tensor."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

MakeCheckpoint = Callable[..., Path]

ROOT = Path(__file__).parents[1]
SLOW = (
    "notebooks",
    "tests/benchmarks",
    "tests/browser",
    "tests/checkpoint/test_hostile.py",
    "tests/checkpoint/test_layers.py",
    "tests/checkpoint/test_original_names.py",
    "tests/engine/test_calibrated.py",
    "tests/engine/test_effort.py",
    "tests/engine/test_spatial.py",
    "tests/figures/test_time_figures.py",
    "tests/formats/compressed_tensors/test_target.py",
    "tests/formats/gguf/test_diffusers.py",
    "tests/kernels/test_loading.py",
    "tests/kernels/test_search.py",
    "tests/live",
    "tests/session/test_calibrated.py",
    "tests/session/test_prediction.py",
    "tests/test_cli.py",
    "tests/test_cli_equalizing.py",
    "tests/test_cli_planning.py",
    "tests/test_lab_notebook.py",
    "tests/test_public_types.py",
    "tests/test_readme.py",
    "tests/thermo/test_effort.py",
    "tests/thermo/test_optimality.py",
    "tests/thermo/test_options.py",
    "tests/thermo/test_realistic.py",
    "tests/ui/test_panel.py",
    "tests/ui/test_progress.py",
    "tests/ui/test_validation_tab.py",
    "tests/ui/test_static_copy.py",
    "tests/zoo",
)
"""Files and folders whose tests are not marked ``fast``: those that take five seconds or more, or start a server."""

FAST_ALL_THE_SAME = (
    "notebooks/00_quickstart.ipynb",
    "tests/browser/test_table.py::test_keys_give_bits_before_the_kernel_answers",
)
"""A notebook, and a test in a real browser, that are marked ``fast`` nevertheless."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of ``pytest -m fast``."""
    for item in items:
        place = f"{item.path.relative_to(ROOT).as_posix()}::{item.name}"
        is_slow = any(place.startswith((f"{name}/", f"{name}::")) for name in SLOW)
        if not is_slow or place.startswith(FAST_ALL_THE_SAME):
            item.add_marker("fast")


@pytest.fixture(autouse=True, scope="session")
def _no_terminal() -> None:
    """Tables are as wide as in a file: tests that run in parallel have the width of the terminal before them."""
    os.environ.pop("COLUMNS", None)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Neither variables of the machine nor its user's cache have a part in a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    for variable in list(os.environ):
        if variable.upper().startswith("ARROW_QUANT_"):
            monkeypatch.delenv(variable)


def sample_tensors(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """A small diffusion transformer's worth of tensors: odd shapes, several dtypes, kept ones."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape) * 0.05

    tensors: dict[str, np.ndarray[Any, Any]] = {
        "pos_embed.proj.weight": normal(48, 3, 2, 2).astype(np.float16),
        "pos_embed.proj.bias": normal(48).astype(np.float16),
        "proj_out.weight": normal(12, 48).astype(np.float32),
        "proj_out.bias": normal(12).astype(np.float32),
        "step": np.array(7, np.int64),
        "empty.weight": np.zeros((0, 48), np.float32),
        "mask": np.array([True, False, True]),
    }
    for block in range(3):
        name = f"transformer_blocks.{block}."
        tensors |= {
            name + "attn1.to_q.weight": normal(48, 48).astype(ml_dtypes.bfloat16),
            name + "attn1.to_k.weight": normal(48, 300).astype(ml_dtypes.bfloat16),
            name + "attn1.to_out.0.weight": normal(130, 129).astype(ml_dtypes.bfloat16),
            name + "ff.net.0.proj.weight": normal(192, 48).astype(np.float32),
            name + "ff.net.2.weight": normal(48, 192).astype(np.float16),
            name + "norm1.linear.weight": normal(96, 48).astype(ml_dtypes.bfloat16),
            name + "norm1.norm.weight": np.ones(48, ml_dtypes.bfloat16),
        }
    return tensors


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> MakeCheckpoint:
    """Write a checkpoint folder: `tensors` or the sample ones, with a configuration."""

    def make(tensors: dict[str, np.ndarray[Any, Any]] | None = None, name: str = "model") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        save_file(tensors if tensors is not None else sample_tensors(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"_class_name": "DiTTransformer2DModel"}))
        return folder

    return make


UNET_PARTS = (
    "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v",
    "attn2.to_out.0", "ff.net.0.proj", "ff.net.2",
)  # fmt: skip


def unet_layers() -> list[str]:
    """Names of 344 layers as an SDXL UNet has them, with transformer blocks up to number 11."""
    names = ["conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"]
    for place, depth in (
        ("down_blocks.0.attentions.0", 12),
        ("down_blocks.0.attentions.1", 12),
        ("up_blocks.1.attentions.0", 9),
    ):
        names += [f"{place}.proj_in", f"{place}.proj_out"]
        names += [
            f"{place}.transformer_blocks.{block}.{part}" for block in range(depth) for part in UNET_PARTS
        ]
    names += [f"{place}.resnets.0.conv{half}" for place in ("down_blocks.1", "mid_block") for half in (1, 2)]
    return [f"{name}.weight" for name in names]


@pytest.fixture(scope="session")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model``, a generated UNet of 344 layers, and ``calibration.parquet``, records of its inputs."""
    from workbench.calibration import CalibrationRecords, LayerRecord, StepStatistics
    from workbench.checkpoint import open_checkpoint

    rng = np.random.default_rng(15)
    folder = tmp_path_factory.mktemp("unet")
    (folder / "model").mkdir()
    shapes = {
        name: (32, 4, 3, 3) if "conv" in name else (64, 32) if "proj.weight" in name else (32, 32)
        for name in unet_layers()
    }
    tensors = {name: rng.standard_normal(shape).astype(np.float32) * 0.1 for name, shape in shapes.items()}
    tensors |= {
        name.replace("weight", "bias"): np.zeros(shape[0], np.float32) for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model" / "diffusion_pytorch_model.safetensors")
    (folder / "model" / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    with open_checkpoint(folder / "model") as checkpoint:
        fingerprint = checkpoint.fingerprint
    times = np.array([100.0, 400.0, 700.0, 1000.0])
    layers = {}
    for name, shape in shapes.items():
        level = np.exp(rng.normal(0, 1, len(times)))
        moments = (level[:, None] * rng.uniform(0.5, 1.5, (len(times), shape[1]))).astype(np.float32)
        some = np.sqrt(level)
        layers[name] = LayerRecord(
            kind="conv" if len(shape) > 2 else "linear",
            steps=StepStatistics(
                np.full(4, 1000), np.zeros(4), level, -3 * some, 3 * some, 2 * some, 3 * some
            ),
            count=np.full(4, 100),
            mean=np.zeros_like(moments),
            second_moment=moments,
            absmax=3 * np.sqrt(moments),
            output_energy=moments.sum(axis=1, dtype=np.float64) * 0.01 * shape[0],
            sensitivity={"fisher:step": rng.uniform(0.1, 1, 4)},
        )
    steps = np.stack([times, times], axis=1)
    CalibrationRecords(fingerprint, "timestep", steps, np.full(4, 2.0), steps, np.full(4, 2.0), layers).save(
        folder / "calibration.parquet"
    )
    return folder


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks, row groups and parts so small that the sample checkpoint has many."""
    monkeypatch.setattr("workbench.checkpoint.blocks.BLOCK_WEIGHTS", 2_048)
    monkeypatch.setattr("workbench.formats.parquet.writer.ROW_GROUP_BYTES", 4_000)
    monkeypatch.setattr("workbench.formats.parquet.writer.PART_BYTES", 16_384)


@pytest.fixture(scope="session")
def sd3_model() -> Callable[..., Any]:
    """Makes a small random SD3 transformer of diffusers."""
    import torch
    from diffusers import SD3Transformer2DModel

    def make(**settings: Any) -> Any:
        torch.manual_seed(0)
        given = {"qk_norm": "rms_norm", "dual_attention_layers": (0,), "num_layers": 2, **settings}
        return SD3Transformer2DModel(
            sample_size=16, patch_size=2, in_channels=16, attention_head_dim=64, num_attention_heads=4,
            joint_attention_dim=256, caption_projection_dim=256, pooled_projection_dim=256, out_channels=16,
            pos_embed_max_size=16, **given,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def flux_model() -> Callable[..., Any]:
    """Makes a small random Flux transformer of diffusers."""
    import torch
    from diffusers import FluxTransformer2DModel

    def make(**settings: Any) -> Any:
        torch.manual_seed(0)
        given = {"guidance_embeds": True, "num_layers": 2, "num_single_layers": 2, **settings}
        return FluxTransformer2DModel(
            patch_size=1, in_channels=16, attention_head_dim=32, num_attention_heads=8, joint_attention_dim=64,
            pooled_projection_dim=64, axes_dims_rope=(8, 12, 12), **given,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def wan_model() -> Callable[..., Any]:
    """Makes a small random Wan transformer of diffusers."""
    import torch
    from diffusers import WanTransformer3DModel

    def make(**settings: Any) -> Any:
        torch.manual_seed(0)
        given = {"added_kv_proj_dim": 64, "image_dim": 32, **settings}
        return WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=32, in_channels=16, out_channels=16, text_dim=32, freq_dim=32,
            ffn_dim=128, num_layers=2, **given,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def aura_model() -> Callable[..., Any]:
    """Makes a small random AuraFlow transformer of diffusers."""
    import torch
    from diffusers import AuraFlowTransformer2DModel

    def make(**settings: Any) -> Any:
        torch.manual_seed(0)
        return AuraFlowTransformer2DModel(
            **{"num_mmdit_layers": 4, **settings}, sample_size=8, in_channels=4, num_single_dit_layers=2,
            attention_head_dim=32, num_attention_heads=2, joint_attention_dim=64, caption_projection_dim=64,
            out_channels=4, pos_embed_max_size=16,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def hunyuan_model() -> Callable[..., Any]:
    """Makes a small random HunyuanVideo transformer of diffusers."""
    import torch
    from diffusers import HunyuanVideoTransformer3DModel

    def make(**settings: Any) -> Any:
        torch.manual_seed(0)
        return HunyuanVideoTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=8, attention_head_dim=32, num_layers=2,
            num_single_layers=2, num_refiner_layers=2, text_embed_dim=32, pooled_projection_dim=32,
            rope_axes_dim=(8, 12, 12), **settings,
        )  # fmt: skip

    return make


def _narrow(code: CodeType) -> CodeType:
    """A function of diffusers that knows only models 3072 wide, for those 256 wide."""
    constants = tuple(
        _narrow(value) if isinstance(value, CodeType) else 256 if value == 3072 else value
        for value in code.co_consts
    )
    return code.replace(co_consts=constants)


@pytest.fixture(scope="session")
def flux_converter() -> Callable[..., Any]:
    """Diffusers' conversion of original Flux checkpoints, for the width of `flux_model`."""
    from diffusers.loaders.single_file_utils import (
        convert_flux_transformer_checkpoint_to_diffusers as convert,
    )

    return FunctionType(_narrow(convert.__code__), convert.__globals__)


@pytest.fixture(scope="session")
def hunyuan_converter() -> Callable[..., Any]:
    """Diffusers' conversion of original HunyuanVideo checkpoints, for the width of `hunyuan_model`."""
    from diffusers.loaders.single_file_utils import convert_hunyuan_video_transformer_to_diffusers as convert

    return FunctionType(_narrow(convert.__code__), convert.__globals__)
