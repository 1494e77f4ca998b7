"""Nothing that the workbench writes replaces what it does not stand for.

A plan could be saved over any file, a checkpoint among them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.formats.rules import rules_file, syntaxes
from workbench.plan import PLAN_FILE
from workbench.text_file import FileKind, new_file, require_absent, write_text

PLAN = wb.Plan("mlx", {"a": wb.Option(4, "affine", 64, 36)}, "f" * 64)
OTHER = wb.Plan("mlx", {"a": wb.Option(8, "affine", 64, 68)}, "f" * 64)

FOREIGN: dict[str, bytes] = {
    "model.safetensors": b"\x10\0\0\0\0\0\0\0{}              weights",
    "notes.md": b"format: arrowquant-plan is the first line of a plan\n",
    "config.json": b'{"_class_name": "FluxTransformer2DModel", "format": "other"}',
    "empty.yaml": b"",
    "list.yaml": b"- format: arrowquant-plan\n",
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_plan_never_replaces_what_is_not_a_plan(name: str, overwrite: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FOREIGN[name])
    writers: list[Callable[[], Any]] = [
        lambda: PLAN.save(path, overwrite=overwrite),
        lambda: wb.DiffusionQuantConfig().to_yaml(path, overwrite=overwrite),
        *(partial(write_text, path, "x=q4_0\n", rules_file(one), overwrite=overwrite) for one in syntaxes()),
    ]
    for write in writers:
        with pytest.raises(wb.ValidationError, match="exists already and is not") as caught:
            write()
        assert caught.value.path == path
        assert not caught.value.replaceable
    assert path.read_bytes() == FOREIGN[name]
    assert list(tmp_path.iterdir()) == [path]


def test_a_plan_replaces_a_plan_when_it_is_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    PLAN.save(path)
    PLAN.save(path)  # what is there already, to the byte
    with pytest.raises(wb.ValidationError, match=r"is a plan already.*overwrite=True") as caught:
        OTHER.save(path)
    assert caught.value.replaceable
    assert wb.Plan.load(path) == PLAN
    OTHER.save(path, overwrite=True)
    assert wb.Plan.load(path) == OTHER
    # Also one that a person has written a remark into.
    path.write_text("# mine\n" + path.read_text())
    PLAN.save(path, overwrite=True)
    assert wb.Plan.load(path) == PLAN


def test_folders_and_links_that_lead_nowhere_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(wb.PlanError, match="cannot be written: Is a directory"):
        PLAN.save(tmp_path / "folder", overwrite=True)
    with pytest.raises(wb.ValidationError, match="exists already and is not a plan"):
        PLAN.save(tmp_path / "link", overwrite=True)
    for name in ("folder", "link"):
        with pytest.raises(wb.ValidationError, match="exists already, and nothing is ever overwritten"):
            require_absent(tmp_path / name)
    require_absent(tmp_path / "free")


def test_a_configuration_replaces_a_configuration_only(tmp_path: Path) -> None:
    path, plan = tmp_path / "config.yaml", tmp_path / "plan.yaml"
    path.write_text("bit_width: 3\n")
    with pytest.raises(wb.ValidationError, match="is a configuration already"):
        wb.DiffusionQuantConfig().to_yaml(path)
    assert path.read_text() == "bit_width: 3\n"
    wb.DiffusionQuantConfig(bit_width=2).to_yaml(path, overwrite=True)
    assert wb.DiffusionQuantConfig.from_yaml(path).bit_width == 2
    PLAN.save(plan)
    with pytest.raises(wb.ValidationError, match="is not a configuration"):
        wb.DiffusionQuantConfig().to_yaml(plan, overwrite=True)
    with pytest.raises(wb.ValidationError, match="is not a plan"):
        PLAN.save(path, overwrite=True)


RULES = {
    "llama-quantize": ("blk\\.0\\.attn_q=q4_K\nblk\\.0\\.attn_k=q8_0\n", "HOME=/root\n"),
    "stable-diffusion.cpp": ("attn_q=q4_0,attn_k=f16\n", "a,b,c\n"),
    "mlx": (
        json.dumps({"group_size": 64, "bits": 4, "mode": "affine", "a": False, "b": {"group_size": 32, "bits": 8}}),
        json.dumps({"model_type": "qwen2", "quantization": {"group_size": 64, "bits": 4}}),
    ),
    "compressed-tensors": (
        json.dumps({"quant_method": "compressed-tensors", "config_groups": {}}),
        json.dumps({"model_type": "llama", "quantization_config": {"config_groups": {}}}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_rules_replace_rules_of_their_format_only(name: str, tmp_path: Path) -> None:
    ours, foreign = RULES[name]
    path = tmp_path / "rules"
    path.write_text(ours)
    for one in RULES:
        alike = {name, one} <= {"llama-quantize", "stable-diffusion.cpp"}
        assert rules_file(one).found_at(path) == (one == name) or alike
    with pytest.raises(wb.ValidationError, match="is a file of rules for"):
        write_text(path, "new", rules_file(name))
    write_text(path, "new", rules_file(name), overwrite=True)
    assert path.read_text() == "new"
    path.write_text(foreign)
    with pytest.raises(wb.ValidationError, match="is not a file of rules for"):
        write_text(path, "new", rules_file(name), overwrite=True)
    assert path.read_text() == foreign


def test_a_huge_file_is_not_read_to_learn_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(10**12)  # sparse
    with pytest.raises(wb.ValidationError, match="is not a plan"):
        PLAN.save(path, overwrite=True)
    assert not PLAN_FILE.found_at(path)


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    anything = FileKind("a file", lambda _: True)
    with pytest.raises(RuntimeError), new_file(path, anything, overwrite=True) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
