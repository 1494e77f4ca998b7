"""The engine: what it writes, what it refuses, and that nothing is left where it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.engine import InlineExecutor
from workbench.system import anonymous_bytes

Make = Callable[..., Path]


def run(source: Path, output: Path, config: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    settings = {"min_accuracy": 0.0, **(config or {})}
    return wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(**settings)).run(source, output, **kwargs)


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*.parquet")}


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "out" in path.name)


# ---- figures --------------------------------------------------------------------------------------------------


def test_the_report_is_what_the_file_decodes_to(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    report = run(source, tmp_path / "out", {"bit_width": 3})
    original, loaded = load_file(source / "model.safetensors"), wb.load(tmp_path / "out")
    assert {layer.name for layer in report.layers} == set(loaded.plan.choices)
    for layer in report.layers:
        w = original[layer.name].astype(np.float64).ravel()
        decoded = loaded[layer.name].astype(np.float64).ravel()
        assert layer.nsr == pytest.approx(((w - decoded) ** 2).sum() / (w**2).sum(), rel=1e-5)
        cosine = w @ decoded / np.linalg.norm(w) / np.linalg.norm(decoded)
        assert layer.cosine == pytest.approx(cosine, abs=1e-6)
        assert layer.bpw == pytest.approx(8 * layer.nbytes / w.size)
        counts, _ = np.histogram(w, bins=256)
        p = counts[counts > 0] / w.size
        assert layer.entropy == pytest.approx(-(p * np.log2(p)).sum() / 8, abs=0.02)
        assert 0 < layer.code_entropy <= 3
    weights = np.array([np.prod(layer.shape) for layer in report.layers])
    assert report.cosine_similarity == pytest.approx(
        (weights * [layer.cosine for layer in report.layers]).sum() / weights.sum()
    )
    assert report.nsr == pytest.approx(np.mean([layer.nsr for layer in report.layers]))
    written = sum(len(data) for data in parts(tmp_path / "out").values())
    assert report.actual_bytes == written
    assert report.model_size_mb == pytest.approx(written / 1e6)
    assert report.compression_ratio == pytest.approx(sum(a.nbytes for a in original.values()) / written)
    assert wb.load(tmp_path / "out").report == report.to_dict()


@pytest.mark.usefixtures("small_parts")
def test_the_payload_is_the_same_whatever_runs_it(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    run(source, tmp_path / "one", {"num_threads": 1})
    first = parts(tmp_path / "one")
    assert len(first) > 5
    run(source, tmp_path / "many", {"num_threads": 7})
    run(source, tmp_path / "whole", {"enable_streaming": False})
    inline = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(min_accuracy=0.0), executor=InlineExecutor())
    inline.run(source, tmp_path / "inline")
    with ThreadPoolExecutor(3) as executor:
        given = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(min_accuracy=0.0), executor=executor)
        given.run(source, tmp_path / "given")
    for name in ("many", "whole", "inline", "given"):
        assert parts(tmp_path / name) == first, name


def test_nothing_but_the_export_is_left(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    (source / "tokenizer.json").write_text("{}")
    run(source, tmp_path / "out")
    assert leftovers(tmp_path) == ["out"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["config.json", "part-00000.parquet", "tokenizer.json", "workbench.json"]


# ---- choosing widths ------------------------------------------------------------------------------------------


def test_a_layer_under_the_floor_falls_back_and_the_report_says_so(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    source = make_checkpoint(
        {
            # Two bits suit evenly spread weights, not normal ones.
            "blocks.0.attn.to_q.weight": rng.uniform(-1, 1, (64, 256)).astype(np.float32),
            "blocks.0.attn.to_k.weight": rng.standard_normal((64, 256)).astype(np.float32),
        }
    )
    report = run(source, tmp_path / "out", {"bit_width": 2, "min_accuracy": 0.94})
    by_name = {layer.name.split(".")[-2]: layer for layer in report.layers}
    assert (by_name["to_q"].bits, by_name["to_q"].fallback) == (2, ())
    assert by_name["to_k"].bits == 4
    assert by_name["to_k"].fallback[0].startswith("int2 (0.8")
    assert by_name["to_k"].cosine >= 0.94
    assert report.met


def test_the_last_fallback_keeps_the_source(make_checkpoint: Make, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 256)).astype(ml_dtypes.bfloat16)
    source = make_checkpoint({"blocks.0.attn.to_q.weight": weights})
    report = run(source, tmp_path / "out", {"min_accuracy": 1.0})
    (layer,) = report.layers
    assert (layer.bits, layer.scheme, layer.cosine) == (16, "keep", 1.0)
    assert [tried.split()[0] for tried in layer.fallback] == ["int4", "int8"]
    decoded = wb.load(tmp_path / "out")["blocks.0.attn.to_q.weight"]
    assert decoded.tobytes() == weights.tobytes()


def test_fail_fast_raises_instead_and_writes_nothing(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    with pytest.raises(
        wb.QuantizationError, match=r"cosine of 0\.\d+ at 2 bits, under min_accuracy 0.999"
    ) as caught:
        run(source, tmp_path / "out", {"bit_width": 2, "min_accuracy": 0.999, "fail_fast": True})
    assert caught.value.tensor in {layer.name for layer in open_checkpoint(source).layers}
    assert caught.value.cosine < 0.999
    assert leftovers(tmp_path) == []


def test_overrides_and_sensitive_layers(make_checkpoint: Make, tmp_path: Path) -> None:
    report = run(
        make_checkpoint(),
        tmp_path / "out",
        {
            "bit_width": 4,
            "layer_bit_widths": {
                "*.attn1.to_q.weight": 6,
                "transformer_blocks.1.attn1.to_q.weight": 8,
                "*nothing*": 3,
            },
            "skip_sensitive_layers": True,
            "sensitive_layer_patterns": [r"blocks\.2\.ff"],
        },
    )
    bits = {layer.name: layer.bits for layer in report.layers}
    assert bits["transformer_blocks.0.attn1.to_q.weight"] == 6
    assert bits["transformer_blocks.1.attn1.to_q.weight"] == 8
    assert bits["transformer_blocks.0.attn1.to_k.weight"] == 4
    assert bits["transformer_blocks.2.ff.net.2.weight"] == 16
    assert bits["transformer_blocks.0.norm1.linear.weight"] == 16  # modulation
    assert bits["pos_embed.proj.weight"] == 16  # embedding
    assert "layer_bit_widths: '*nothing*' matches no layer." in report.notes
    # Of settings that nobody touched there is one line, after all that matters.
    assert report.notes[-1] == "enable_time_aware and enable_spatial are off: there is no calibration."
    assert sum("is no calibration" in note for note in report.notes) == 1


def test_a_plan_is_executed_as_it_is(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    run(source, tmp_path / "first", {"bit_width": 2})
    wb.load(tmp_path / "first").plan.save(tmp_path / "plan.yaml")
    plan = wb.Plan.load(tmp_path / "plan.yaml")
    report = run(source, tmp_path / "out", {"min_accuracy": 0.99}, plan=plan)
    assert {layer.bits for layer in report.layers} == {2}
    assert not report.met
    assert parts(tmp_path / "out") == parts(tmp_path / "first")


def test_a_plan_for_something_else_is_refused(make_checkpoint: Make, tmp_path: Path) -> None:
    run(make_checkpoint(), tmp_path / "first")
    plan = wb.load(tmp_path / "first").plan
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    name = "proj_out.weight"
    changed = make_checkpoint(tensors | {name: tensors[name] + 1}, "changed")
    with pytest.raises(wb.ValidationError, match="other contents"):
        run(changed, tmp_path / "out", plan=plan)
    del tensors[name]
    smaller = make_checkpoint(tensors, "smaller")
    with pytest.raises(wb.ValidationError, match=r"lacks the plan's layer 'proj_out\.weight'"):
        run(smaller, tmp_path / "out", plan=plan)
    illegal = wb.Plan(
        plan.target, {**plan.choices, name: wb.Option(4, "asymmetric", 48, 1)}, plan.fingerprint
    )
    with pytest.raises(wb.ValidationError, match="not one that parquet offers") as caught:
        run(tmp_path / "model", tmp_path / "out", plan=illegal)
    assert caught.value.tensor == name
    assert leftovers(tmp_path) == []


# ---- refusals and interruptions: nothing is left --------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32, np.float64])
def test_not_finite_weights_are_named(
    make_checkpoint: Make, tmp_path: Path, value: float, dtype: Any
) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((300, 129)).astype(dtype)
    weights[213, 77] = value
    weights[214, 3] = value
    source = make_checkpoint(
        {"blocks.0.fc.weight": weights, "blocks.1.fc.weight": rng.standard_normal((8, 8)).astype(np.float32)}
    )
    with pytest.raises(
        wb.ValidationError, match=r"'blocks.0.fc.weight' has -?(nan|inf) at row 213, column 77"
    ) as caught:
        run(source, tmp_path / "out")
    assert caught.value.index == (213, 77)
    assert leftovers(tmp_path) == []


def test_a_layer_that_is_kept_may_be_anything(make_checkpoint: Make, tmp_path: Path) -> None:
    weights = np.full((8, 16), np.nan, np.float32)
    source = make_checkpoint({"blocks.0.fc.weight": weights})
    settings = {"skip_sensitive_layers": True, "sensitive_layer_names": ["blocks.0.fc.weight"]}
    report = run(source, tmp_path / "out", settings)
    assert report.layers[0].entropy is None
    assert wb.load(tmp_path / "out")["blocks.0.fc.weight"].tobytes() == weights.tobytes()
    json.loads((tmp_path / "out" / "workbench.json").read_text(), parse_constant=pytest.fail)


def test_an_output_that_exists_is_never_touched(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    with pytest.raises(wb.ValidationError, match="exists already, and nothing is ever overwritten"):
        run(source, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]
    with pytest.raises(wb.ValidationError, match="is not a folder"):
        run(source, tmp_path / "nowhere" / "out")


def test_two_runs_cannot_write_one_output(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    refused: list[str] = []

    def second(fraction: float, message: str) -> None:
        if not refused:
            with pytest.raises(wb.ValidationError) as caught:
                run(source, tmp_path / "out")
            refused.append(str(caught.value))

    run(source, tmp_path / "out", callback=second)
    assert "another run is writing it" in refused[0]
    assert leftovers(tmp_path) == ["out"]


def test_progress_rises_to_one(make_checkpoint: Make, tmp_path: Path) -> None:
    heard: list[tuple[float, str]] = []
    threads = set()

    def callback(fraction: float, message: str) -> None:
        heard.append((fraction, message))
        threads.add(threading.current_thread())

    run(make_checkpoint(), tmp_path / "out", callback=callback)
    fractions = [fraction for fraction, _ in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(fraction < 1.0 for fraction in fractions[:-1])
    assert threads == {threading.current_thread()}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("stage", ["looking", "writing"])
def test_an_exception_in_the_callback_ends_the_run(make_checkpoint: Make, tmp_path: Path, stage: str) -> None:
    source = make_checkpoint()

    def callback(fraction: float, message: str) -> None:
        if message.startswith(stage):
            raise ZeroDivisionError("mine")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.work.REFRESH_SECONDS", 0.0)
        with pytest.raises(ZeroDivisionError, match="mine"):
            run(source, tmp_path / "out", callback=callback)
    assert leftovers(tmp_path) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("workbench")]


@pytest.mark.usefixtures("small_parts")
def test_cancelling_leaves_nothing(make_checkpoint: Make, tmp_path: Path) -> None:
    cancel = threading.Event()
    with pytest.raises(wb.CancelledError):
        run(make_checkpoint(), tmp_path / "out", cancel=cancel, callback=lambda *_: cancel.set())
    assert leftovers(tmp_path) == []


@pytest.mark.usefixtures("small_parts")
def test_a_source_that_changes_is_noticed(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    weights = source / "model.safetensors"

    def change(fraction: float, message: str) -> None:
        if message.startswith("writing"):
            with weights.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\x01")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.work.REFRESH_SECONDS", 0.0)
        with pytest.raises(wb.QuantizationError, match=r"model\.safetensors.*changed"):
            run(source, tmp_path / "out", callback=change)
    assert leftovers(tmp_path) == []


def test_a_full_disk_is_explained_and_cleaned_up(make_checkpoint: Make, tmp_path: Path) -> None:
    """A limit on the size of files makes writes fail as a full disk does."""
    rng = np.random.default_rng(0)
    source = make_checkpoint({"blocks.0.fc.weight": rng.standard_normal((1024, 1024)).astype(np.float32)})
    program = f"""
import resource, signal, workbench as wb
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    wb.DiffusionOrchestrator().run({str(source)!r}, {str(tmp_path / "out")!r})
except wb.QuantizationError as error:
    print("explained:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "explained:" in done.stdout
    assert "cannot be written" in done.stdout
    assert "Free some space" in done.stdout
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"enable_mixed_precision": True, "target_model_size_mb": 1},
        {"enable_spatial": True, "calibration": "of-another-model.parquet"},
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_anything_is_measured(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    source = make_checkpoint({"model.layers.0.mlp.up_proj.weight": np.ones((64, 64), np.float32)})
    (source / "config.json").write_text(json.dumps({"architectures": ["DreamModel"], "model_type": "Dream"}))

    def read_rows(*_: Any) -> Any:
        raise AssertionError("a weight was read")

    monkeypatch.setattr("workbench.checkpoint.Checkpoint.read_rows", read_rows)
    with pytest.raises(wb.ValidationError, match="how many layers and heads"):
        run(source, tmp_path / "out", {"target": "gguf", **settings})
    assert leftovers(tmp_path) == []


def test_a_payload_larger_than_the_disk_is_refused_beforehand(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.system.free_bytes", lambda _: 1000)
    with pytest.raises(wb.QuantizationError, match="0 MB free, and the payload may need"):
        run(make_checkpoint(), tmp_path / "out")
    assert leftovers(tmp_path) == []


# ---- memory ---------------------------------------------------------------------------------------------------


def test_too_little_memory_is_a_configuration_error(make_checkpoint: Make, tmp_path: Path) -> None:
    with pytest.raises(
        wb.ConfigurationError, match="max_memory_limit_mb is 10; one worker needs 296 MB"
    ) as caught:
        run(make_checkpoint(), tmp_path / "out", {"max_memory_limit_mb": 10})
    assert caught.value.key == "max_memory_limit_mb"


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """Four times the weights, the same anonymous memory: measured in processes of their own."""
    peaks = []
    for count in (2, 8):
        source = tmp_path / f"{count}.safetensors"
        rng = np.random.default_rng(0)
        block = rng.standard_normal((4096, 4096)).astype(ml_dtypes.bfloat16)
        save_file({f"blocks.{i}.fc.weight": block for i in range(count)}, source)
        program = f"""
import workbench as wb
config = wb.DiffusionQuantConfig(num_threads=2)
report = wb.DiffusionOrchestrator(config).run({str(source)!r}, {str(tmp_path / f"o{count}")!r})
print(report.peak_anon_mb)
"""
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
        )
        peaks.append(float(done.stdout))
        source.unlink()
    if anonymous_bytes():
        assert peaks[0] > 0
    assert peaks[1] < peaks[0] + 60
    assert peaks[1] < 400
