"""Guards what the command line says of who loads an export, and that the target is one that a runtime loads."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import workbench as wb
from workbench.__main__ import run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def flux(tmp_path: Path) -> str:
    """A little of a Flux under its original names."""
    rng = np.random.default_rng(0)
    names = [
        f"double_blocks.{block}.img_attn.{part}.weight" for block in range(2) for part in ("qkv", "proj")
    ]
    tensors = {name: (0.1 * rng.standard_normal((64, 256))).astype(ml_dtypes.bfloat16) for name in names}
    save_file(tensors, tmp_path / "flux.safetensors")
    return str(tmp_path / "flux.safetensors")


def test_the_target_is_the_familys_unless_somebody_says_another(
    flux: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def target(command: str, *arguments: str) -> str:
        given = {
            "quantize": [flux, str(tmp_path / f"out{len(list(tmp_path.iterdir()))}")],
            "plan": [flux, "--bpw", "5", "--dry-run"],
            "analyze": [flux],
        }[command]
        assert run([command, *given, *arguments, "--json"]) == 0
        return str(json.loads(capsys.readouterr().out)["target"])

    assert {target(command) for command in ("quantize", "plan", "analyze")} == {"gguf"}
    with wb.open(flux) as session:
        assert session.target.name == "gguf"
    assert target("quantize", "--target", "mlx") == "mlx"
    config = tmp_path / "config.yaml"
    config.write_text("target: parquet\n")
    assert target("quantize", "--config", str(config)) == "parquet"
    config.write_text("target: none\n")
    assert target("quantize", "--config", str(config)) == "gguf"
    monkeypatch.setenv("ARROW_QUANT_TARGET", "mlx")
    assert target("quantize", "--config", str(config)) == "mlx"


def test_the_names_of_arrowquant_v2_keep_their_default(flux: str, tmp_path: Path) -> None:
    assert wb.DiffusionQuantConfig().target == "parquet"
    report = wb.ArrowQuantV2().quantize_diffusion_model(flux, tmp_path / "out")
    assert report["target"] == "parquet"
    config = wb.DiffusionQuantConfig(target=None)
    assert wb.DiffusionOrchestrator(config).run(flux, tmp_path / "chosen").target == "gguf"
    assert wb.load(tmp_path / "chosen").config["target"] == "gguf"
