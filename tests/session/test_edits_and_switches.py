"""What was set by hand survives a solve that is told to leave it, and a switch of target or names can be undone.

On a small Flux whose query, key and value are one layer under the original names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.session import Session


@pytest.fixture(scope="module")
def flux(flux_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flux") / "tiny-flux"
    flux_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def session(flux: Path, cache: Path) -> Iterator[Session]:
    with wb.open(flux, target="mlx", group_size=64, cache=cache) as session:
        yield session


def bits(session: Session, pattern: str) -> set[int]:
    return {session.plan.choices[name].bits for name in session.select(pattern)}


def test_a_solve_can_leave_what_was_set_by_hand(session: Session) -> None:
    size = int(session.totals.nbytes * 0.9)
    session.set_bits("*attn.to_q*", 8)
    session.keep("proj_out.weight")
    assert set(session.edited) == {*session.select("*attn.to_q*"), "proj_out.weight"}
    session.solve(size, lock_edits=True)
    assert bits(session, "*attn.to_q*") == {8}
    assert session.plan.choices["proj_out.weight"].is_kept
    assert set(session.locked) == {*session.select("*attn.to_q*"), "proj_out.weight"}
    assert session.edited == (), "what is locked is in no danger"
    assert session.totals.nbytes <= size
    assert session.script[-1] == f"s.solve({size}, lock_edits=True)"
    session.unlock("proj_out.weight")
    assert session.edited == ("proj_out.weight",)
    session.solve(size)
    assert session.edited == (), "the solver decided"
    assert session.undo()
    assert session.edited == ("proj_out.weight",)
    session.follow("uniform")
    assert session.edited == ()


def test_what_is_given_instead_is_said(session: Session) -> None:
    row = session.select("*attn.to_q*")
    assert session.set_bits(row, 7) == (f"7 → 8 bits affine 64 for {len(row)} layers",)
    assert session.script[-1].endswith(f"7)  # 7 → 8 bits affine 64 for {len(row)} layers")
    exec(session.script[-1], {"s": session})
    assert session.set_bits(row, 6) == ()
    assert "#" not in session.script[-1]
    assert session.lock(row[0], bits=7) == ("7 → 8 bits affine 64 for 1 layer",)


def test_group_size_and_scheme_can_be_chosen(session: Session, flux: Path, cache: Path) -> None:
    session.set_bits("*attn.to_q*", 3)
    session.set_bits("*attn.to_q*", group_size=32)
    assert {
        (option.bits, option.group_size)
        for option in map(session.plan.choices.__getitem__, session.select("*attn.to_q*"))
    } == {(3, 32)}
    before = session.plan
    with pytest.raises(
        wb.ConfigurationError, match=r"cannot have bits 4, group size 512 in mlx.*affine of 2, 3, 4"
    ):
        session.set_bits("*attn.to_q*", 4, group_size=512)
    with pytest.raises(wb.ConfigurationError, match="bits, group_size or scheme"):
        session.set_bits("*attn.to_q*")
    assert session.plan == before
    with wb.open(flux, target="gguf", cache=cache) as ggml:
        names = ggml.select("*attn.qkv*")
        ggml.set_bits(names, scheme="q5_1")
        assert {ggml.plan.choices[name].scheme for name in names} == {"Q5_1"}, "which says the width"
        ggml.set_bits(names, 4, scheme="Q4_0")
        assert {ggml.plan.choices[name].scheme for name in names} == {"Q4_0"}
        with pytest.raises(wb.ConfigurationError, match="bits 5, scheme Q4_0"):
            ggml.set_bits(names, 5, scheme="Q4_0")
        fresh = wb.open(flux, target="gguf", cache=cache)
        for line in ggml.script:
            exec(line, {"s": fresh})
        assert fresh.plan == ggml.plan
        fresh.close()


def test_names_go_with_the_target_unless_they_are_asked_for(session: Session) -> None:
    assert session.possible_names == ("checkpoint", "original")
    session.set_bits("*attn.to_q*", 8)
    session.lock("*attn.to_k*")
    session.keep("*single*proj_out*")
    before = session.plan
    notes = session.retarget("gguf")
    assert session.names == "original"
    assert notes[0] == "The plan is now for gguf. Undo goes back to mlx."
    said = " ".join(notes)
    assert "ComfyUI" in said
    assert "widest of their widths" in said
    assert bits(session, "double_blocks.*img_attn.qkv*") == {8}, "the widest of query, key and value"
    assert all(session.plan.choices[name].is_kept for name in session.select("single_blocks.*linear2*"))
    assert set(session.select("*qkv*")) & set(session.locked)
    assert set(session.select("*img_attn.qkv*")) <= {*session.edited, *session.locked}

    session.retarget("gguf", names="checkpoint")
    assert session.names == "checkpoint"
    assert bits(session, "*attn.to_q*") == {8}
    assert session.plan.choices.keys() == before.choices.keys()
    session.retarget("parquet")
    session.retarget("gguf")
    assert session.names == "checkpoint", "once asked for it stays"
    while session.undo():
        pass
    assert session.target.name == "mlx"
    while session.redo():
        pass
    assert (session.target.name, session.names) == ("gguf", "checkpoint")


def test_names_that_cannot_be_had_change_nothing(make_checkpoint: Callable[..., Path], cache: Path) -> None:
    with wb.open(make_checkpoint(), target="mlx", cache=cache) as session:
        assert session.possible_names == ("checkpoint",)
        before = session.plan, session.version
        with pytest.raises(wb.ConfigurationError, match="original names cannot be had"):
            session.retarget("gguf", names="original")
        assert (session.plan, session.version) == before


def test_what_was_learnt_goes_with_the_names_and_is_a_step_of_undo(session: Session) -> None:
    before = session.totals.damage
    session.learn(dict.fromkeys(session.select("*"), 3.0))
    assert session.totals.damage == pytest.approx(3 * before)
    assert session.undo()
    assert session.totals.damage == before
    assert not session.learnt
    assert session.redo()
    session.retarget("gguf")
    assert set(session.learnt.values()) == {3.0}
    assert session.learnt.keys() == set(session.select("*"))


def test_the_script_of_all_that_was_done_does_it_again(
    session: Session, flux: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    first = tmp_path / "first"
    first.mkdir()
    monkeypatch.chdir(first)
    session.set_bits("*attn.to_q*", 7)
    session.save_plan("plan.yaml")
    session.solve(bpw=5, lock_edits=True)
    session.save_plan("plan.yaml", overwrite=True)
    session.retarget("gguf")
    session.save_rules("rules.txt", "stable-diffusion.cpp")
    session.export("exported").result(120)
    assert len(session.script) == session.version
    assert session.script[-1] == f"s.export({str(first / 'exported')!r}).result()"
    assert session.opening == f"wb.open({str(flux)!r}, target='mlx', group_size=64)"
    script = "\n".join([f"s = {session.opening}", *session.script]).replace(
        str(first), str(tmp_path / "again")
    )
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    names: dict[str, Any] = {"wb": wb}
    exec(script, names)
    assert names["s"].plan == session.plan
    for name in ("plan.yaml", "rules.txt", "exported/model.gguf"):
        assert (tmp_path / "again" / name).read_bytes() == (first / name).read_bytes()
    assert names["s"].script == tuple(
        line.replace(str(first), str(tmp_path / "again")) for line in session.script
    )
    names["s"].close()


def test_an_export_with_settings_is_a_line_too(session: Session, tmp_path: Path) -> None:
    config = wb.DiffusionQuantConfig(target="mlx", num_threads=1)
    session.export(tmp_path / "out", config=config).result(120)
    line = session.script[-1]
    assert line == (
        f"s.export({str(tmp_path / 'out')!r}, config=wb.DiffusionQuantConfig(**{{'target': 'mlx', 'num_threads': 1}}))"
        ".result()"
    )
    with pytest.raises(wb.ValidationError, match="exists already"):
        session.export(tmp_path / "out").result(120)
    assert session.script[-1] == line, "what did not come about is no line"


def test_what_an_export_needs_to_be_loaded(session: Session, tmp_path: Path) -> None:
    assert "no program is known that runs this architecture" in " ".join(session.readers)
    assert "mx.load" in session.loading_lines(tmp_path)
    session.retarget("gguf")
    assert "ComfyUI" in " ".join(session.readers)
    assert str(tmp_path / "model.gguf") in session.loading_lines(tmp_path)
