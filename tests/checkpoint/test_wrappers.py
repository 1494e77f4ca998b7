"""Wrappers of training code are taken off the names: the same layers, roles and depths as of the clean model."""

from __future__ import annotations

import pytest
from safetensors.numpy import load_file

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.errors import ValidationError
from workbench.formats import target_names

CLEAN = {
    "x_embedder.weight": (16, 8),
    "transformer_blocks.0.attn.to_q.weight": (16, 16),
    "transformer_blocks.0.norm1.linear.weight": (32, 16),
    "transformer_blocks.1.attn.to_out.0.weight": (16, 16),
    "single_transformer_blocks.0.proj_out.weight": (16, 64),
    "proj_out.weight": (8, 16),
    "proj_out.bias": (8,),
}


def inside(part: str):
    """The wrapper around each block only."""

    def rename(name: str) -> str:
        parts = name.split(".")
        return ".".join([*parts[:2], part, *parts[2:]]) if "blocks" in parts[0] else name

    return rename


def before(prefix: str):
    return lambda name: prefix + name


WRAPPERS = {
    "torch.compile": before("_orig_mod."),
    "DataParallel": before("module."),
    "both": before("module._orig_mod."),
    "the other way": before("_orig_mod.module."),
    "FSDP": before("_fsdp_wrapped_module."),
    "Fabric": before("_forward_module."),
    "compiled blocks": inside("_orig_mod"),
    "checkpointed blocks": inside("_checkpoint_wrapped_module"),
    "several in blocks": inside("_fsdp_wrapped_module._checkpoint_wrapped_module"),
    "both, in blocks": inside("module._orig_mod"),
    "blocks in a wrapper": lambda name: "module." + inside("_orig_mod")(name),
    "model": before("model."),
    "net": before("net."),
    "EMA": before("ema_model."),
    "student": before("student."),
    "transformer": before("transformer."),
    "Lightning and compile": before("model._orig_mod."),
    "PEFT, merged": before("base_model.model."),
    "PEFT, its adapter elsewhere": lambda name: name.replace("to_q.", "to_q.base_layer."),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_layers_roles_and_depths_are_those_of_the_clean_model(write, wrapper):
    rename = WRAPPERS[wrapper]
    with (
        open_checkpoint(write("clean.safetensors", CLEAN)) as clean,
        open_checkpoint(
            write("m.safetensors", {rename(name): shape for name, shape in CLEAN.items()})
        ) as checkpoint,
    ):
        assert sorted(map(str, checkpoint.layers)) == sorted(map(str, clean.layers))
        assert dict(checkpoint.roles) == dict(clean.roles)
        assert [note for note in checkpoint.notes if "wrapper that no runtime knows" in note]
        assert not clean.notes
        for name in CLEAN:
            assert checkpoint.view(name).tobytes() == clean.view(name).tobytes()
            rows = clean.tensors[name].shape[0]
            assert checkpoint.read_rows(name, 1, rows).tobytes() == clean.read_rows(name, 1, rows).tobytes()
        assert checkpoint.fingerprint != clean.fingerprint, "the files are others"


@pytest.mark.parametrize("target", target_names())
def test_exports_have_the_clean_names_and_the_same_bytes(write, tmp_path, target):
    engine = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target=target, bit_width=8, min_accuracy=0.0))
    renamed = {f"module.{inside('_orig_mod')(name)}": name for name in CLEAN}
    clean = write("clean.safetensors", CLEAN)
    values = load_file(clean)
    wrapped = write("wrapped.safetensors", {old: values[name] for old, name in renamed.items()})
    for path in (clean, wrapped):
        engine.run(path, tmp_path / f"{path.stem}-out")
        assert wb.verify(tmp_path / f"{path.stem}-out", path).ok
    ours, theirs = (wb.load(tmp_path / f"{name}-out") for name in ("wrapped", "clean"))
    assert set(ours) == set(theirs) == set(CLEAN)
    for name in CLEAN:
        assert ours[name].tobytes() == theirs[name].tobytes(), name


def test_a_note_says_whose_the_wrapper_is_and_gives_an_example(write):
    renamed = {f"module._orig_mod.{name}": shape for name, shape in CLEAN.items()}
    with open_checkpoint(write("m.safetensors", renamed)) as checkpoint:
        (note,) = checkpoint.notes
    assert "module. of DataParallel, _orig_mod. of torch.compile" in note
    assert "proj_out.bias for module._orig_mod.proj_out.bias" in note
    assert ".." not in note


@pytest.mark.parametrize(
    "names",
    [
        ["model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.out.2.weight"],
        ["model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"],
        ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"],
        ["transformer.h.0.attn.c_attn.weight", "transformer.wte.weight"],
        ["model.transformer.blocks.0.q_proj.weight", "model.transformer.wte.weight"],
        ["net.hidden.0.weight", "net.hidden.2.weight"],
        ["blocks.0.module.weight", "blocks.1.module.weight"],
    ],
)
def test_names_that_runtimes_expect_or_that_are_the_model_s_own_stay(write, names):
    with open_checkpoint(write("m.safetensors", dict.fromkeys(names, (8, 8)))) as checkpoint:
        assert set(checkpoint.tensors) == set(names)


def test_the_names_of_transformers_stay_by_its_configuration(write, write_json, tmp_path):
    write("m/model.safetensors", {"model.blocks.0.q_proj.weight": (8, 8)})
    write_json("m/config.json", {"architectures": ["SomeForCausalLM"]})
    with open_checkpoint(tmp_path / "m") as checkpoint:
        assert set(checkpoint.tensors) == {"model.blocks.0.q_proj.weight"}


def test_two_tensors_of_one_clean_name_are_both_named(write):
    path = write("m.safetensors", {"_orig_mod.a.weight": (8, 8), "a.weight": (8, 8)})
    with pytest.raises(
        ValidationError, match=r"tensors '\S*a\.weight' and '\S*a\.weight' are both 'a\.weight'"
    ) as caught:
        open_checkpoint(path)
    assert "'_orig_mod.a.weight'" in str(caught.value)
