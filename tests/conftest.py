"""Checkpoints that several tests share: real safetensors files, small, with every kind of tensor."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

MakeCheckpoint = Callable[..., Path]


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


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks and parts so small that the sample checkpoint has many."""
    monkeypatch.setattr("workbench.formats.blocks.BLOCK_WEIGHTS", 2_048)
    monkeypatch.setattr("workbench.formats.parquet.PART_BYTES", 16_384)
