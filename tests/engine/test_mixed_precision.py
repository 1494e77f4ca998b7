"""``enable_mixed_precision``: the configuration calls the solver, and what comes out keeps to what was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.formats import target_named
from workbench.thermo import cost_table, measure_options, solve

Make = Callable[..., Path]
ZOO = "zoo:digits-dit"


def run(source: str | Path, output: Path, **settings: Any) -> wb.Report:
    config = wb.DiffusionQuantConfig(**{"enable_mixed_precision": True, "min_accuracy": 0.0, **settings})
    return wb.DiffusionOrchestrator(config).run(source, output)


@pytest.mark.parametrize("target", ["mlx", "parquet"])
def test_a_budget_is_kept_and_used(target: str, tmp_path: Path) -> None:
    report = run(ZOO, tmp_path / "out", target=target, target_model_size_mb=2.2)
    assert 0.97 * 2_200_000 < report.predicted_bytes <= 2_200_000
    assert report.actual_bytes <= report.predicted_bytes
    plan = wb.load(tmp_path / "out").plan
    assert (plan.made_by["method"], plan.made_by["target_model_size_mb"]) == ("mixed precision", 2.2)
    assert plan.predicted["nbytes"] == report.predicted_bytes
    assert plan.predicted["bpw"] == pytest.approx(report.bpw)
    assert plan.predicted["damage"] == pytest.approx(report.nsr * len(report.layers), rel=0.02)
    assert plan.predicted["gap"] is not None
    assert 0 <= plan.predicted["gap"] < 0.02
    assert any(note.startswith("enable_mixed_precision: a payload of ") for note in report.notes)
    assert len({layer.bits for layer in report.layers}) > 1
    assert all(layer.fallback == () for layer in report.layers)
    assert wb.verify(tmp_path / "out", ZOO).ok


@pytest.mark.parametrize("target", ["mlx", "parquet"])
@pytest.mark.parametrize("bit_width", [3, 4, 6])
def test_without_a_budget_it_is_that_of_the_uniform_width(
    target: str, bit_width: int, tmp_path: Path
) -> None:
    settings = {"target": target, "bit_width": bit_width, "group_size": 64}
    uniform = run(ZOO, tmp_path / "uniform", enable_mixed_precision=False, **settings)
    solved = run(ZOO, tmp_path / "solved", **settings)
    # What a payload says of its plan differs a little in length.
    assert solved.predicted_bytes <= uniform.predicted_bytes + 500
    assert solved.predicted_bytes > 0.98 * uniform.predicted_bytes
    assert solved.nsr < 0.8 * uniform.nsr


def test_it_is_the_solver_who_chooses(tmp_path: Path) -> None:
    run(ZOO, tmp_path / "out", target="mlx", target_model_size_mb=1.9)
    plan = wb.load(tmp_path / "out").plan
    with open_checkpoint(ZOO) as checkpoint:
        costs = cost_table(measure_options(checkpoint, target_named("mlx")), checkpoint.layers)
    assert solve(costs, nbytes=plan.nbytes).damage == pytest.approx(plan.predicted["damage"], rel=1e-9)


def test_layers_that_are_named_stay_and_sensitive_ones_are_kept(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    report = run(
        make_checkpoint(),
        tmp_path / "out",
        target_model_size_mb=0.4,
        group_size=32,
        layer_bit_widths={"*.attn1.to_q.weight": 7, "proj_out.weight": 2},
        skip_sensitive_layers=True,
        sensitive_layer_patterns=[r"blocks\.2\.ff", "^proj_out"],
    )
    layers = {layer.name: layer for layer in report.layers}
    for block in range(3):
        layer = layers[f"transformer_blocks.{block}.attn1.to_q.weight"]
        assert (layer.bits, layer.scheme, layer.group_size) == (7, "asymmetric", 32)
        assert layers[f"transformer_blocks.{block}.norm1.linear.weight"].scheme == "keep"  # modulation
    kept = {
        "transformer_blocks.2.ff.net.0.proj.weight",
        "transformer_blocks.2.ff.net.2.weight",
        "proj_out.weight",
    }
    assert {layers[name].scheme for name in kept} == {"keep"}
    free = {name for name in layers if ".to_k." in name or ".to_out." in name}
    plan = wb.load(tmp_path / "out").plan
    assert free.isdisjoint(plan.locks)
    assert plan.locks > kept


def test_every_free_layer_reaches_the_accuracy(tmp_path: Path) -> None:
    settings = {"target": "mlx", "target_model_size_mb": 2.4, "layer_bit_widths": {"*.attn1.to_q.weight": 2}}
    loose = run(ZOO, tmp_path / "loose", **settings)
    tight = run(ZOO, tmp_path / "tight", min_accuracy=0.985, **settings)
    assert min(layer.cosine for layer in loose.layers) < 0.97
    missed = {layer.name for layer in tight.layers if layer.cosine < 0.985 - 1e-3}
    assert missed == {layer.name for layer in tight.layers if layer.name.endswith("to_q.weight")}
    assert not tight.met


def test_a_budget_under_the_floor_states_the_floor(tmp_path: Path) -> None:
    def refused(**settings: Any) -> wb.ConfigurationError:
        with pytest.raises(wb.ConfigurationError) as caught:
            run(ZOO, tmp_path / "out", target="mlx", **settings)
        assert caught.value.key == "target_model_size_mb"
        assert f"{caught.value.floor:,} are the least" in str(caught.value)
        assert list(tmp_path.iterdir()) == []
        return caught.value

    bare = refused(target_model_size_mb=0.5)
    assert str(bare).startswith("target_model_size_mb is 0.5; allowed: at least 1.")
    accurate = refused(target_model_size_mb=0.5, min_accuracy=0.995)
    assert accurate.floor > 1.4 * bare.floor
    assert "the min_cosine on" in str(accurate)
    locked = refused(target_model_size_mb=0.5, layer_bit_widths={"proj_out_1.weight": 8})
    assert "the lock on 'proj_out_1.weight'" in str(locked)
    unreachable = refused(bit_width=2, min_accuracy=0.999)
    assert "uniform bit_width 2" in str(unreachable)
    least = float(str(bare).split("at least ")[1].split(". ")[0])
    assert run(ZOO, tmp_path / "least", target="mlx", target_model_size_mb=least).actual_bytes <= least * 1e6


def test_the_same_configuration_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = []
    for threads in (1, 3):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{threads}"))
        run(ZOO, tmp_path / f"out{threads}", target_model_size_mb=2.1, num_threads=threads)
        outputs.append(
            {path.name: path.read_bytes() for path in (tmp_path / f"out{threads}").glob("*.parquet")}
        )
    assert outputs[0] == outputs[1]


def test_progress_is_one_and_covers_the_pricing(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("workbench.work.REFRESH_SECONDS", 0.0)
    heard: list[tuple[float, str]] = []
    config = wb.DiffusionQuantConfig(enable_mixed_precision=True, target_model_size_mb=0.4)
    wb.DiffusionOrchestrator(config).run(
        make_checkpoint(), tmp_path / "out", callback=lambda *given: heard.append(given)
    )
    fractions = [fraction for fraction, _ in heard]
    assert fractions == sorted(fractions)
    assert fractions.count(1.0) == 1
    messages = list(dict.fromkeys(message for _, message in heard))
    assert messages[-3:] == ["pricing options", "looking at layers", "writing and reading back"]


def test_cancelling_while_pricing_leaves_nothing(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("workbench.work.REFRESH_SECONDS", 0.0)
    source = make_checkpoint()
    cancel = threading.Event()
    config = wb.DiffusionQuantConfig(enable_mixed_precision=True)

    def callback(fraction: float, message: str) -> None:
        if message == "pricing options":
            cancel.set()

    with pytest.raises(wb.CancelledError):
        wb.DiffusionOrchestrator(config).run(source, tmp_path / "out", callback=callback, cancel=cancel)

    def failing(fraction: float, message: str) -> None:
        raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        wb.DiffusionOrchestrator(config).run(source, tmp_path / "out", callback=failing)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_resumed_run_solves_the_same(make_checkpoint: Make, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("workbench.work.REFRESH_SECONDS", 0.0)
    source = make_checkpoint()
    config = wb.DiffusionQuantConfig(enable_mixed_precision=True, target_model_size_mb=0.4, target="mlx")
    engine = wb.DiffusionOrchestrator(config)

    def stop(fraction: float, message: str) -> None:
        if message.startswith("writing") and fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(source, tmp_path / "out", resume=True, callback=stop)
    assert (tmp_path / ".out.partial").is_dir()
    engine.run(source, tmp_path / "out", resume=True)
    engine.run(source, tmp_path / "whole")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def test_another_plan_of_the_same_choices_does_not_resume(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: Any
) -> None:
    """The payload states how its plan was made: a header of another length would move what is there already."""
    monkeypatch.setattr("workbench.work.REFRESH_SECONDS", 0.0)
    source = make_checkpoint()
    engine = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target="mlx", min_accuracy=0.0))
    engine.run(source, tmp_path / "first")
    plan = wb.load(tmp_path / "first").plan
    other = wb.Plan(plan.target, plan.choices, plan.fingerprint, made_by={"method": "by hand"})

    def stop(fraction: float, message: str) -> None:
        if message.startswith("writing") and fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(source, tmp_path / "out", plan=plan, resume=True, callback=stop)
    with pytest.raises(wb.ValidationError, match="had another plan"):
        engine.run(source, tmp_path / "out", plan=other, resume=True)


def test_a_plan_goes_before_the_solver(tmp_path: Path) -> None:
    run(ZOO, tmp_path / "first", enable_mixed_precision=False)
    plan = wb.load(tmp_path / "first").plan
    config = wb.DiffusionQuantConfig(enable_mixed_precision=True)
    report = wb.DiffusionOrchestrator(config).run(ZOO, tmp_path / "out", plan=plan)
    assert "enable_mixed_precision is off: a plan is executed as it is." in report.notes
    assert wb.load(tmp_path / "out").plan == plan


def test_a_checkpoint_without_layers_is_an_error(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint({"norm.weight": np.ones(8, np.float32)})
    with pytest.raises(wb.ValidationError, match="nothing to quantize here"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
