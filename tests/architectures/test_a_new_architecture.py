"""A family is one module: with its record registered it is opened, named, folded, timed, exported and loaded by it.

Nothing else knows of the family; without the record the same checkpoint is one of an unknown architecture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import workbench as wb
from workbench.architectures import OriginalNames, known_architectures, register, unregister
from workbench.checkpoint import open_checkpoint
from workbench.engine import verify
from workbench.errors import ArgumentError, ValidationError
from workbench.folds.fold import Fold
from workbench.folds.folded import FoldedCheckpoint
from workbench.folds.sites import find_sites
from workbench.formats import named
from workbench.formats.loading import best_target, loading_language, loading_lines, readers

from .strata import STRATA, WIDTH, StrataModel

CELLS = [f"strata.{stratum}.cells.{cell}" for stratum in range(2) for cell in range(2)] + ["crowns.0"]
QKV = "layer.1.cell.0.attn.qkv.weight"


@pytest.fixture
def known() -> Iterator[None]:
    """The architecture is known for as long as a test runs."""
    register(STRATA)
    yield
    unregister(STRATA)


@pytest.fixture
def model() -> StrataModel:
    torch.manual_seed(0)
    return StrataModel().eval()


@pytest.fixture
def folder(model: StrataModel, tmp_path: Path) -> Path:
    path = tmp_path / "strata"
    path.mkdir()
    save_file(model.state_dict(), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"_class_name": "StrataModel"}))
    return path


@pytest.fixture
def original(model: StrataModel, tmp_path: Path) -> Path:
    """The same as one file of the original code, without a configuration."""
    ours = model.state_dict()
    found = {"table": ours["grid"]}
    for leaf in ("weight", "bias"):
        found[f"sigma_mlp.{leaf}"] = ours[f"haze_in.{leaf}"]
        for cell in CELLS:
            theirs = cell.replace("strata", "layer").replace("cells", "cell").replace("crowns", "top")
            found[f"{theirs}.attn.qkv.{leaf}"] = torch.cat(
                [ours[f"{cell}.{part}.{leaf}"] for part in ("ask", "offer", "give")]
            )
            found[f"{theirs}.attn.out.{leaf}"] = ours[f"{cell}.gather.{leaf}"]
            found[f"{theirs}.norm.{leaf}"] = ours[f"{cell}.calm.{leaf}"]
    save_file(found, tmp_path / "strata.safetensors")
    return tmp_path / "strata.safetensors"


def test_without_its_record_nothing_is_known(folder: Path) -> None:
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.family is None
        assert checkpoint.modality.value == "unknown"
        assert {layer.role for layer in checkpoint.layers} == {"other"}
        assert {layer.depth for layer in checkpoint.layers} == {None}
        assert best_target(checkpoint) == "parquet"
        assert find_sites(checkpoint).sites == ()
        with pytest.raises(ArgumentError, match="those of StrataModel are not known"):
            named(checkpoint, "original", "gguf")


@pytest.mark.usefixtures("known")
def test_roles_depths_and_medium_are_those_of_the_record(folder: Path) -> None:
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.family is STRATA
        assert checkpoint.modality.value == "image"
        roles = {layer.name.removesuffix(".weight"): layer.role for layer in checkpoint.layers}
        for cell in CELLS:
            found = [roles[f"{cell}.{part}"] for part in ("ask", "offer", "give", "gather")]
            assert found == ["attention.q", "attention.k", "attention.v", "attention.out"]
        assert roles["haze_in"] == "time_embed"
        depths = {
            layer.name.rpartition(".")[0].rpartition(".")[0]: layer.depth for layer in checkpoint.layers
        }
        assert [depths[cell] for cell in CELLS] == [0, 0, 1, 1, 2]


@pytest.mark.usefixtures("known")
def test_original_names_are_made_of_numbers_in_nested_lists(folder: Path, original: Path) -> None:
    with open_checkpoint(folder) as checkpoint, open_checkpoint(original) as expected:
        found, _ = named(checkpoint, "original", "mlx")
        assert set(found.tensors) == set(expected.tensors)
        for name in expected.tensors:
            np.testing.assert_array_equal(found.view(name), expected.view(name))
        assert [layer.role for layer in found.layers if layer.name == QKV] == ["attention.q"]


@pytest.mark.usefixtures("known")
def test_a_tensor_that_the_rules_do_not_know_is_named(folder: Path, model: StrataModel) -> None:
    save_file(
        {**model.state_dict(), "strata.0.cells.0.wart.weight": torch.ones(8, 8)}, folder / "model.safetensors"
    )
    with open_checkpoint(folder) as checkpoint:
        found, notes = named(checkpoint, None, "gguf")
        assert QKV in found.tensors
        assert "strata.0.cells.0.wart.weight" in found.tensors
        assert any("'strata.0.cells.0.wart.weight' has no place" in note for note in notes)


@pytest.mark.usefixtures("known")
def test_tensors_alone_tell_it(original: Path) -> None:
    with open_checkpoint(original) as checkpoint:
        assert checkpoint.family is STRATA
        assert checkpoint.modality.evidence == "its tensors are those of Strata"
        assert best_target(checkpoint) == "gguf"


@pytest.mark.usefixtures("known")
def test_folds_keep_what_the_model_computes(folder: Path, model: StrataModel) -> None:
    x, haze = torch.randn(2, 8, WIDTH), torch.tensor([0.1, 0.9])
    with open_checkpoint(folder) as checkpoint, torch.no_grad():
        sites = find_sites(checkpoint).sites
        assert len(sites) == 2 * len(CELLS)
        assert sites[0].name == "strata.0.cells.0: calm → ask, offer, give"
        chance = np.random.default_rng(0)
        folds = [
            Fold(site, 0.5, np.exp(chance.standard_normal(site.channels)).astype(np.float32))
            for site in sites
        ]
        folded = FoldedCheckpoint(checkpoint, folds)
        before = model(x, haze)
        changed = {name: torch.tensor(folded.view(name).copy()) for name in folded.tensors}
        assert not torch.equal(changed["crowns.0.ask.weight"], model.state_dict()["crowns.0.ask.weight"])
        model.load_state_dict(changed)
        torch.testing.assert_close(model(x, haze), before, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("known")
def test_time_is_the_argument_that_the_record_names(folder: Path, model: StrataModel) -> None:
    with torch.no_grad(), wb.live.capture(model, checkpoint=folder) as capture:
        for haze in (0.25, 0.75):
            model(torch.randn(1, 8, WIDTH), torch.tensor([haze]))
    assert capture.records.time == "sigma"
    assert capture.records.steps[:, 0].tolist() == [0.25, 0.75]


@pytest.mark.usefixtures("known")
def test_an_export_is_what_its_program_reads(folder: Path, tmp_path: Path) -> None:
    with wb.open(folder, cache=tmp_path / "cache") as session:
        assert session.plan.target == "gguf"
        assert QKV in session.plan.choices
        session.set_bits("role:attention.q", 4)
        session.export(tmp_path / "out").result()
    assert verify(tmp_path / "out", folder).ok
    file = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    assert file.fields["general.architecture"].contents() == "strata"
    types = {tensor.name: tensor.tensor_type.name for tensor in file.tensors}
    assert types["table"] == "F32"
    assert types[QKV] == "Q5_0"
    with open_checkpoint(folder) as opened:
        checkpoint, _ = named(opened, None, "gguf")
        assert readers(checkpoint, "gguf")[0] == "Known to load strata files: strata.cpp."
        assert loading_language(checkpoint, "gguf") == "sh"
        assert loading_lines(checkpoint, "gguf", "my out") == (
            "strata-cli --model 'my out/model.gguf' --steps 20"
        )
        assert readers(opened, "safetensors")[0] == "Known to load it: Strata Studio."
        assert loading_language(opened, "safetensors") == "python"
        assert loading_lines(opened, "safetensors", "out").splitlines()[-1] == 'model = open("out")'


@pytest.mark.usefixtures("known")
def test_a_family_is_registered_once() -> None:
    with pytest.raises(ValidationError, match="'Strata' is known already"):
        register(STRATA)
    with pytest.raises(ValidationError, match="'Flux' is known already by fluxtransformer2dmodel"):
        register(replace(STRATA, name="Other", classes=("FluxTransformer2DModel",)))
    assert known_architectures()[0] is STRATA


def test_a_rule_with_numbers_on_one_side_only_is_refused() -> None:
    with pytest.raises(ValueError, match="not the same number"):
        OriginalNames([("layers.#.out", ("layers.out",))])
