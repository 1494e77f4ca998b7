"""Pipelines of two denoisers, such as Wan 2.2: which one is meant is said, and the other is not forgotten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.formats.loading import loading_lines

TENSORS = {"blocks.0.attn1.to_q.weight": (256, 256), "blocks.0.ffn.net.0.proj.weight": (512, 256)}


@pytest.fixture
def pipeline(
    write: Callable[..., Path], write_json: Callable[..., Path], tmp_path: Path
) -> Callable[..., Path]:
    """Writes a folder of two transformers with a model_index.json."""

    def make(**entries: object) -> Path:
        for name in ("transformer", "transformer_2"):
            write(f"wan/{name}/diffusion_pytorch_model.safetensors", TENSORS)
            write_json(f"wan/{name}/config.json", {"_class_name": "WanTransformer3DModel", "subject": name})
        both = ["diffusers", "WanTransformer3DModel"]
        document = {"_class_name": "WanPipeline", "transformer": both, "transformer_2": both, **entries}
        write_json("wan/model_index.json", document)
        return tmp_path / "wan"

    return make


@pytest.mark.parametrize(("component", "other"), [(None, "transformer_2"), ("transformer_2", "transformer")])
def test_the_other_denoiser_is_said_to_be_untouched(
    pipeline: Callable[..., Path], component: str | None, other: str
) -> None:
    with open_checkpoint(pipeline(boundary_ratio=0.875), component) as checkpoint:
        assert checkpoint.component == component or checkpoint.component == "transformer"
        (note,) = checkpoint.notes
    assert f"{other} is another denoiser of the same pipeline and stays untouched" in note
    assert "boundary_ratio 0.875" in note
    assert f"--component {other}" in note


def test_an_entry_of_nulls_is_no_component(pipeline: Callable[..., Path]) -> None:
    with open_checkpoint(pipeline(transformer_2=[None, None])) as checkpoint:
        assert checkpoint.denoisers == ("transformer",)
        assert checkpoint.notes == ()
    with open_checkpoint(pipeline(transformer=[None, None])) as checkpoint:
        assert checkpoint.component == "transformer_2"
        assert checkpoint.config["subject"] == "transformer_2"


def test_gguf_files_of_both_can_lie_in_one_folder(pipeline: Callable[..., Path], tmp_path: Path) -> None:
    engine = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target="gguf", min_accuracy=0.0))
    source = pipeline()
    for component in ("transformer", "transformer_2"):
        output = tmp_path / component
        report = engine.run(source, output, component=component)
        assert any("stays untouched" in note for note in report.notes)
        (file,) = output.glob("*.gguf")
        assert file.name == f"{component}.gguf"
        assert len(gguf.GGUFReader(file).tensors) == len(TENSORS)
        assert wb.verify(output, source, component=component).ok
        with open_checkpoint(source, component) as checkpoint:
            assert file.name in loading_lines(checkpoint, "gguf", output)
