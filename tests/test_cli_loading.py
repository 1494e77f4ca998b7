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


def test_what_loads_it_is_said_before_work_and_how_at_the_end(
    flux: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run(["quantize", flux, str(out)]) == 0
    printed = capsys.readouterr()
    assert "target gguf, the default for this model" in printed.err
    assert "ComfyUI-GGUF" in printed.err
    assert printed.out.rstrip().splitlines()[-1].startswith(f"cp {out}/model.gguf ComfyUI/models/")
    assert run(["plan", flux, "--bpw", "5", "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert any("ComfyUI-GGUF" in sentence for sentence in document["readers"])
    assert "Unet Loader (GGUF)" in document["loading"]
    assert run(["plan", flux, "--bpw", "5", "--dry-run", "--target", "parquet"]) == 0
    printed = capsys.readouterr()
    assert "archive" in printed.err
    assert 'wb.load("OUT")' in printed.out

    def stop(*_: object, **__: object) -> None:
        raise wb.CancelledError("The work has begun.")

    monkeypatch.setattr("workbench.engine.DiffusionOrchestrator.run", stop)
    assert run(["quantize", flux, str(tmp_path / "again")]) == 130
    printed = capsys.readouterr()
    assert printed.err.index("ComfyUI-GGUF") < printed.err.index("Error: ")


@pytest.mark.parametrize(
    ("command", "option", "value", "nearest"),
    [
        ("quantize", "--override", "*img_atn*=2", "*img_attn*"),
        ("quantize", "--keep", "*img_atn*", "*img_attn*"),
        ("plan", "--lock", "role:attention.otu=8", "role:attention.out"),
        ("plan", "--floor", "nothing=3", None),
        ("plan", "--ceiling", "*.porj.*=3", "*.proj.*"),
        ("plan", "--tie", "*0*proj*,*1*prj*", "*1*proj*"),
        ("plan", "--keep", "double_blocks.0.img_attn.proj.wait", "double_blocks.0.img_attn.proj.weight"),
        ("analyze", "--keep", "role:nothing", None),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error_before_work(
    flux: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    command: str, option: str, value: str, nearest: str | None,
) -> None:  # fmt: skip
    def work(*_: object, **__: object) -> None:
        raise AssertionError("Work has begun.")

    monkeypatch.setattr("workbench.engine.DiffusionOrchestrator.run", work)
    monkeypatch.setattr("workbench.session.open_session", work)
    given = {"quantize": [str(tmp_path / "out")], "plan": ["--bpw", "5", "--dry-run"], "analyze": []}[command]
    assert run([command, flux, *given, option, value]) == 2
    message = capsys.readouterr().err
    assert option in message
    assert "matches no layer" in message
    assert ("Did you mean" in message) == (nearest is not None)
    assert nearest is None or repr(nearest) in message


def test_an_override_of_a_role_says_where_roles_go(flux: str, tmp_path: Path, capsys: Capture) -> None:
    assert run(["quantize", flux, str(tmp_path / "out"), "--override", "role:attention.*=2"]) == 2
    assert "--lock takes roles" in capsys.readouterr().err
