"""Guards the original names: diffusers' own conversion gives back the checkpoint they were made from, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.loaders import single_file_utils
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import workbench as wb
from workbench.calibration import records_for
from workbench.checkpoint import Checkpoint, named_as, open_checkpoint, originally_named
from workbench.engine import verify
from workbench.errors import ArgumentError, ValidationError
from workbench.folds.fold import Fold
from workbench.folds.folded import FoldedCheckpoint
from workbench.folds.sites import find_sites
from workbench.formats import named
from workbench.formats.gguf.families import family_of

MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "SD3": (
        "sd3",
        {"qk_norm": None, "dual_attention_layers": ()},
        "convert_sd3_transformer_checkpoint_to_diffusers",
    ),
    "SD3.5": (
        "sd3",
        {"num_layers": 3, "dual_attention_layers": (0, 1)},
        "convert_sd3_transformer_checkpoint_to_diffusers",
    ),
    "Flux": ("flux", {}, ""),
    "Flux schnell": ("flux", {"guidance_embeds": False, "num_layers": 1}, ""),
    "AuraFlow": ("aura", {}, "convert_auraflow_transformer_checkpoint_to_diffusers"),
    "AuraFlow of two blocks": (
        "aura",
        {"num_mmdit_layers": 2},
        "convert_auraflow_transformer_checkpoint_to_diffusers",
    ),
    "HunyuanVideo": ("hunyuan", {"guidance_embeds": True}, ""),
    "Wan": ("wan", {"added_kv_proj_dim": None, "image_dim": None}, "convert_wan_transformer_to_diffusers"),
    "Wan of images": ("wan", {}, "convert_wan_transformer_to_diffusers"),
}


@pytest.fixture(scope="module", params=MODELS)
def family(request: pytest.FixtureRequest) -> str:
    """The name of a model."""
    return str(request.param)


def make(request: pytest.FixtureRequest, family: str, folder: Path, dtype: torch.dtype) -> Path:
    kind, given, _ = MODELS[family]
    model = request.getfixturevalue(f"{kind}_model")(**given)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn_like(tensor))
    model.to(dtype).save_pretrained(folder / "transformer", max_shard_size="2MB")
    return folder / "transformer"


def converted_back(request: pytest.FixtureRequest, family: str, tensors: dict[str, Any]) -> dict[str, Any]:
    name = MODELS[family][2]
    convert = (
        getattr(single_file_utils, name)
        if name
        else request.getfixturevalue(f"{MODELS[family][0]}_converter")
    )
    found: dict[str, Any] = convert(dict(tensors))
    return found


def tensor_of(checkpoint: Checkpoint, name: str, step: int) -> torch.Tensor:
    """A tensor, read in blocks of rows."""
    info = checkpoint.tensors[name]
    rows = info.shape[0] if info.shape else 1
    blocks = [checkpoint.read_rows(name, start, min(start + step, rows)) for start in range(0, rows, step)]
    read = np.concatenate(blocks)
    words = read.view({2: np.uint16, 4: np.uint32}[read.itemsize])
    return torch.from_numpy(words.astype(np.int64)).reshape(info.shape)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_diffusers_converts_it_back_to_the_source(
    request: pytest.FixtureRequest, family: str, tmp_path: Path, dtype: torch.dtype
) -> None:
    folder = make(request, family, tmp_path, dtype)
    with open_checkpoint(folder) as checkpoint:
        original = originally_named(checkpoint)
        assert original is not None
        assert original.nbytes == checkpoint.nbytes
        assert original.fingerprint != checkpoint.fingerprint == original.files_fingerprint
        assert sum(layer.params for layer in original.layers) == sum(
            layer.params for layer in checkpoint.layers
        )
        assert originally_named(original) is None
        found = {name: tensor_of(original, name, 37) for name in original.tensors}
        back = converted_back(request, family, found)
        assert set(back) == set(checkpoint.tensors)
        for name, tensor in back.items():
            assert torch.equal(tensor, tensor_of(checkpoint, name, 10_000)), name
        for name in original.tensors:
            assert (
                original.view(name).tobytes()
                == original.read_rows(name, 0, (original.tensors[name].shape or (1,))[0]).tobytes()
            )


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_bytes_of_a_fused_tensor_are_read(data: st.DataObject, sd3_folder: Path) -> None:
    with open_checkpoint(sd3_folder) as checkpoint:
        original = originally_named(checkpoint)
        assert original is not None
        name = data.draw(st.sampled_from(list(original.tensors)))
        whole = original.view(name).reshape(-1).view(np.uint8)
        start = data.draw(st.integers(0, whole.size))
        stop = data.draw(st.integers(start, whole.size))
        buffer = np.full(stop - start, 0xA5, np.uint8)
        original.read_into(name, start, buffer)
        np.testing.assert_array_equal(buffer, whole[start:stop])


def test_a_renamed_checkpoint_is_known_to_comfyui(
    request: pytest.FixtureRequest, family: str, tmp_path: Path
) -> None:
    with open_checkpoint(make(request, family, tmp_path, torch.bfloat16)) as checkpoint:
        assert "diffusers' names" in family_of(checkpoint).remark
        original = originally_named(checkpoint)
        assert original is not None
        found = family_of(original)
    assert "comfyui" in found.loaders


@pytest.fixture(scope="module")
def sd3_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SD3.5 transformer."""
    return make(request, "SD3.5", tmp_path_factory.mktemp("sd3"), torch.bfloat16)


def edited(folder: Path, output: Path, edit: Callable[[dict[str, np.ndarray]], object]) -> Path:
    """A copy of a checkpoint with its tensors changed."""
    output.mkdir()
    tensors = {
        name: array
        for path in sorted(folder.glob("*.safetensors"))
        for name, array in load_file(path).items()
    }
    edit(tensors)
    save_file(tensors, output / "model.safetensors")
    (output / "config.json").write_text((folder / "config.json").read_text())
    return output


QUERY = "transformer_blocks.1.attn.to_q.weight"
EDITS: dict[str, tuple[Callable[[dict[str, np.ndarray]], object], str]] = {
    "missing": (lambda t: t.pop(QUERY), "is missing beside"),
    "dtype": (lambda t: t.update({QUERY: t[QUERY].astype(np.float64)}), "cannot be one tensor"),
    "shape": (lambda t: t.update({QUERY: np.ascontiguousarray(t[QUERY][:, :128])}), "cannot be one tensor"),
    "halves": (
        lambda t: t.update({"norm_out.linear.bias": t["norm_out.linear.bias"][:-1].copy()}),
        "have no halves",
    ),
    "scalar": (lambda t: t.update({"norm_out.linear.bias": np.array(1.0, np.float32)}), "have no halves"),
    "nothing": (
        lambda t: [t.pop(name) for name in list(t)] and t.update({"x.weight": np.ones((4, 4), np.float32)}),
        "None of the 1 tensors has a place",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_what_does_not_fit_keeps_its_names_and_says_why(case: str, sd3_folder: Path, tmp_path: Path) -> None:
    edit, message = EDITS[case]
    with open_checkpoint(edited(sd3_folder, tmp_path / "edited", edit)) as checkpoint:
        with pytest.raises(ValidationError, match=message) as caught:
            originally_named(checkpoint)
        assert caught.value.context["tensor"] in {*checkpoint.tensors, QUERY}
        same, (note,) = named(checkpoint, None, "gguf")
        assert same is checkpoint
        assert "keep diffusers' names" in note
        with pytest.raises(ArgumentError, match=r"names=.checkpoint") as refused:
            named(checkpoint, "original", "gguf")
        assert refused.value.key == "names"
        assert ".." not in str(refused.value)
        remark = family_of(checkpoint).remark
        assert "use the original names" not in remark, "what cannot be had is not recommended"
        assert named_as(checkpoint, ["anything"]) is checkpoint


EXTRA = ("ip_adapter.weight", "transformer_blocks.9.norm1.x", "blocks_of_mine.0.weight", "mask")


def test_a_tensor_without_a_place_keeps_its_name_and_the_others_map(
    request: pytest.FixtureRequest, family: str, tmp_path: Path
) -> None:
    folder = make(request, family, tmp_path, torch.float32)
    with open_checkpoint(folder) as checkpoint:
        whole = originally_named(checkpoint)
        assert whole is not None
        expected = {*whole.tensors, *EXTRA}

    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors.update({name: np.full((4, 4), 7, np.float32) for name in EXTRA})

    with open_checkpoint(edited(folder, tmp_path / "more", add)) as checkpoint:
        found, notes = named(checkpoint, None, "gguf")
        assert set(found.tensors) == expected
        assert named(checkpoint, "original", "mlx")[0].tensors == found.tensors
        (note,) = [note for note in notes if "no place" in note]
        assert all(repr(name) in note for name in sorted(EXTRA)[:2])
        assert "and 1 more have no place" in note
        assert all((found.view(name) == 7).all() for name in EXTRA)
        assert named_as(checkpoint, [layer.name for layer in found.layers]).parts == found.parts
        assert "comfyui" in family_of(found).loaders
        back = converted_back(
            request, family, {name: tensor_of(found, name, 10_000) for name in found.tensors}
        )
        source = set(checkpoint.tensors) - set(EXTRA)
        assert source <= set(back), "diffusers passes over what it does not know"


def test_folds_and_names_go_together(sd3_folder: Path) -> None:
    rng = np.random.default_rng(0)
    with open_checkpoint(sd3_folder) as checkpoint:
        sites = find_sites(checkpoint).sites
        assert any(site.consumers[0].endswith("to_out.0.weight") for site in sites)
        folds = [
            Fold(site, 0.5, np.exp(rng.standard_normal(site.channels)).astype(np.float32))
            for site in sites[1::2]
        ]
        folded = FoldedCheckpoint(checkpoint, folds)
        original = originally_named(folded)
        assert original is not None
        assert original.files_fingerprint == folded.fingerprint
        mixed = 0
        for name, parts in (original.parts or {}).items():
            rows = [folded.read_rows(part.tensor, part.start, part.stop) for part in parts]
            mixed += len({array.dtype for array in rows}) > 1
            expected = (
                np.concatenate(rows)
                if len({array.dtype for array in rows}) == 1
                else np.concatenate([array.astype(np.float32) for array in rows])
            )
            found = original.read_rows(name, 0, len(expected))
            assert (found.dtype, found.tobytes()) == (expected.dtype, expected.tobytes()), name
            assert original.view(name).tobytes() == expected.tobytes()
            buffer = np.empty(min(found.nbytes - 3, 4097), np.uint8)
            original.read_into(name, 3, buffer)
            assert buffer.tobytes() == expected.tobytes()[3 : 3 + buffer.size]
        assert mixed, "where a fold has changed the values and not the queries"


def test_names_go_by_the_target_unless_told(sd3_folder: Path) -> None:
    with open_checkpoint(sd3_folder) as checkpoint:
        for names, target, is_original in (
            (None, "gguf", True), (None, "mlx", False), ("checkpoint", "gguf", False), ("original", "mlx", True),
        ):  # fmt: skip
            found, notes = named(checkpoint, names, target)
            assert (found.parts is not None, bool(notes)) == (is_original, is_original)
            assert named_as(checkpoint, [layer.name for layer in found.layers]).parts == found.parts
    with open_checkpoint("zoo:digits-dit") as checkpoint:
        assert named(checkpoint, None, "gguf") == (checkpoint, ())
        with pytest.raises(ArgumentError, match="DiTTransformer2DModel are not known"):
            named(checkpoint, "original", "gguf")


def test_plans_sessions_and_exports_agree_on_the_names(sd3_folder: Path, tmp_path: Path) -> None:
    fused = "joint_blocks.0.x_block.attn.qkv.weight"
    with wb.open(sd3_folder, "gguf", cache=tmp_path / "cache") as session:
        session.set_bits("*qkv*", 6)
        assert session.plan.choices[fused].scheme == "Q6_K"
        predicted = session.predict()
        report = session.export(tmp_path / "session").result()
        session.plan.save(tmp_path / "plan.yaml")
        assert fused in session.layers["name"].to_pylist()
    assert report.actual_bytes == predicted.nbytes
    plan = wb.Plan.load(tmp_path / "plan.yaml")
    again = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target="gguf")).run(
        sd3_folder, tmp_path / "again", plan=plan
    )
    assert again.actual_bytes == report.actual_bytes
    first, second = ((tmp_path / name / "model.gguf").read_bytes() for name in ("session", "again"))
    assert first == second
    assert verify(tmp_path / "again", sd3_folder).ok
    with wb.open(sd3_folder, "gguf", names="checkpoint", cache=tmp_path / "cache") as session:
        assert "transformer_blocks.0.attn.to_q.weight" in session.plan.choices
        session.export(tmp_path / "kept").result()
    assert verify(tmp_path / "kept", sd3_folder).ok


def test_a_calibration_of_the_model_prices_the_fused_layers(sd3_folder: Path, tmp_path: Path) -> None:
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel.from_pretrained(sd3_folder).eval()
    with torch.no_grad(), wb.live.capture(model, checkpoint=sd3_folder) as capture:
        for time in (900.0, 100.0):
            model(
                hidden_states=torch.randn(2, 16, 16, 16), encoder_hidden_states=torch.randn(2, 7, 256),
                pooled_projections=torch.randn(2, 256), timestep=torch.tensor([time, time]),
            )  # fmt: skip
    records = capture.records
    records.save(tmp_path / "calibration.parquet")
    fused, block = "joint_blocks.0.x_block.attn.qkv.weight", "transformer_blocks.0.attn."
    with open_checkpoint(sd3_folder) as checkpoint:
        assert records_for(records, checkpoint) is records
        original = originally_named(checkpoint)
        assert original is not None
        renamed = records_for(records, original)
        renamed.check_fit(original)
        assert records_for(renamed, original) is renamed
        assert len(renamed.layers) == len(original.layers)
        energies = [records.layers[f"{block}to_{part}.weight"].output_energy for part in "qkv"]
        np.testing.assert_allclose(renamed.layers[fused].output_energy, np.sum(energies, axis=0))
        np.testing.assert_array_equal(
            renamed.second_moment(fused), records.second_moment(f"{block}to_k.weight")
        )
    settings = {"target": "gguf", "min_accuracy": 0.0, "calibration": str(tmp_path / "calibration.parquet")}
    for output, folds in (("out", False), ("folded", True)):
        config = wb.DiffusionQuantConfig.model_validate({**settings, "enable_spatial": folds})
        wb.DiffusionOrchestrator(config).run(sd3_folder, tmp_path / output)
        assert fused in wb.load(tmp_path / output).plan.choices
        assert verify(tmp_path / output, sd3_folder).ok
    assert wb.load(tmp_path / "out").plan.weighted_by == renamed.digest
    tables = wb.load(tmp_path / "out").activation_tables
    assert tables is not None
    assert fused in tables.scales
