"""Guards the command line as scripts use it: exit codes, one JSON document on stdout, one message and nothing left
behind when something is wrong.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import workbench as wb
from workbench.__main__ import run
from workbench.cli import DEMO_RUNS

Make = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


def payload(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def start(*arguments: object, **kwargs: Any) -> subprocess.Popen[str]:
    """Run the command line in a process of its own, in which Ctrl-C does what it does in a terminal."""
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from workbench.__main__ import main; main()"
    )
    # -P, for Python otherwise looks into the folder it is started in, where nothing is compiled.
    command = [sys.executable, "-P", "-c", program, *map(str, arguments)]
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, **kwargs)


@pytest.fixture(params=["generated", "zoo"])
def model(request: pytest.FixtureRequest, make_checkpoint: Make) -> str:
    return "zoo:digits-dit" if request.param == "zoo" else str(make_checkpoint())


@pytest.fixture
def large_model(tmp_path: Path) -> Path:
    """A model that takes seconds."""
    rng = np.random.default_rng(0)
    block = np.tile(rng.standard_normal((256, 1024)).astype(np.float32), (16, 1))
    folder = tmp_path / "large"
    folder.mkdir()
    save_file({f"blocks.{i}.mlp.fc1.weight": block for i in range(24)}, folder / "model.safetensors")
    return folder


def test_demo_compares_four_verified_exports(capsys: Capture, tmp_path: Path) -> None:
    assert run(["demo", "--out", str(tmp_path / "kept"), "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert printed.err == ""
    assert document["ok"] is True
    assert [entry["name"] for entry in document["runs"]] == ["8-bit", "4-bit", "2-bit", "mixed"]
    ratios = {entry["name"]: entry["report"]["compression_ratio"] for entry in document["runs"]}
    assert 1.7 < ratios["8-bit"] < ratios["4-bit"] < ratios["mixed"] < ratios["2-bit"] < 8
    for entry in document["runs"]:
        assert entry["verification"]["ok"]
        assert entry["report"]["min_accuracy"] == 0
        bits, overrides = DEMO_RUNS[entry["name"]]
        found = {layer["bits"] for layer in entry["report"]["layers"] if layer["scheme"] != "keep"}
        assert found == {bits, *overrides.values()}
        # Rows of four weights take no fewer bytes with a scale and a zero point each.
        kept = [layer["name"] for layer in entry["report"]["layers"] if layer["scheme"] == "keep"]
        assert kept == ["pos_embed.proj.weight"]
        assert wb.verify(tmp_path / "kept" / entry["name"], "zoo:digits-dit").ok
        assert not [note for note in entry["report"]["notes"] if "matches no layer" in note]


def test_demo_prints_a_table_and_leaves_nothing(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run(["demo"]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if " yes " in line}
    assert list(rows) == ["8-bit", "4-bit", "2-bit", "mixed"]
    assert rows["4-bit"][3] == "4.503"  # 4 bits and 8 bytes of scale and zero point in 128 weights
    assert "kernels: " in printed
    assert "*.norm1.linear.weight 2" in printed
    assert list(tmp_path.iterdir()) == []


def test_an_unsound_demo_fails(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = wb.Verification(("Something is wrong.",), "nobody", 0, 0, None, float("nan"), float("nan"))
    monkeypatch.setattr("workbench.engine.verify", lambda *_, **__: bad)
    assert run(["demo"]) == 1
    printed = capsys.readouterr().out
    assert "NO" in printed
    assert "Something is wrong." in printed
    assert run(["demo", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["runs"][0]["verification"]["nsr"] is None


def test_quantize_inspect_and_verify_agree(model: str, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "out")
    assert run(["quantize", model, out, "--bit-width", "8", "--override", "*attn1*=4", "--json"]) == 0
    quantized = json.loads(capsys.readouterr().out)
    assert quantized.pop("output") == out
    assert "archive" in quantized.pop("readers")[0]
    assert f"wb.load({json.dumps(out)})" in quantized.pop("loading")
    assert quantized == wb.load(out).report
    for layer in quantized["layers"]:
        if (
            layer["name"] != "pos_embed.proj.weight" or model != "zoo:digits-dit"
        ):  # kept: rows of four weights
            assert layer["bits"] == (4 if "attn1" in layer["name"] else 8)

    assert run(["inspect", out, "--json"]) == 0
    inspected = json.loads(capsys.readouterr().out)
    assert inspected["report"] == quantized
    assert inspected["payload_bytes"] == quantized["actual_bytes"]
    narrow = [layer for layer in quantized["layers"] if layer["scheme"] != "keep"]
    assert inspected["tensors"] - inspected["kept_tensors"] == len(narrow)

    assert run(["verify", out, "--source", model, "--json"]) == 0
    verified = json.loads(capsys.readouterr().out)
    assert verified["ok"] is True
    assert verified["nsr"] == pytest.approx(quantized["nsr"], rel=1e-4)


def test_the_tables_can_be_read(make_checkpoint: Make, tmp_path: Path, capsys: Capture) -> None:
    source, out = str(make_checkpoint()), str(tmp_path / "out")
    options = ["--bit-width", "2", "--min-accuracy", "0.95", "--override", "*attn*=3"]
    assert run(["quantize", source, out, *options]) == 0
    printed = capsys.readouterr()
    assert "target parquet, the default for this model" in printed.err
    for text in (
        "attention.out",
        "mlp.in",
        "ratio",
        "To load it:",
        "has 4 bits: int2 (0.9",
    ):
        assert text in printed.out
    assert run(["inspect", out]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    for layer in wb.load(out).report["layers"]:
        (line,) = (
            line for line in lines if line.split()[:1] == [layer["name"]] and " " + layer["role"] in line
        )
        assert f"{layer['cosine']:.6f}" in line
        assert "×".join(map(str, layer["shape"])) in line
    assert run(["verify", out, "--source", source]) == 0
    assert "verified. All 28 tensors" in capsys.readouterr().out


def test_arguments_count_before_the_environment_the_file_and_the_profile(
    make_checkpoint: Make, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(make_checkpoint())
    config = tmp_path / "config.yaml"
    config.write_text("bit_width: 3\nlayer_bit_widths: {'*ff*': 7}\nmin_accuracy: 0.0\n")

    def bits(*options: str) -> tuple[int, ...]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        assert run(["quantize", source, str(out), "--json", *options]) == 0
        by_name = {layer["name"]: layer["bits"] for layer in json.loads(capsys.readouterr().out)["layers"]}
        return tuple(by_name[f"transformer_blocks.0.{name}.weight"] for name in ("attn1.to_q", "ff.net.2"))

    assert bits("--profile", "cloud") == (8, 8)
    assert bits("--profile", "cloud", "--config", str(config)) == (3, 7)
    monkeypatch.setenv("ARROW_QUANT_BIT_WIDTH", "5")
    assert bits("--profile", "cloud", "--config", str(config)) == (5, 7)
    assert bits("--bit-width", "6", "--config", str(config)) == (6, 7)
    assert bits("--bit-width", "6", "--config", str(config), "--override", "*to_q*=2") == (2, 6)


def test_the_solver_and_the_entropy_rule_come_from_file_environment_and_profile(
    make_checkpoint: Make, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(make_checkpoint())
    config = tmp_path / "config.yaml"
    config.write_text("enable_mixed_precision: true\ntarget_model_size_mb: 0.3\nmin_accuracy: 0.0\n")

    def made_by(code: int, *options: str) -> Any:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        assert run(["quantize", source, str(out), "--json", *options]) == code
        printed = json.loads(capsys.readouterr().out)
        return wb.load(out).plan.made_by if code == 0 else printed["error"]

    solved = made_by(0, "--config", str(config), "--profile", "edge")
    assert solved["method"] == "mixed precision"
    assert (solved["target_model_size_mb"], solved["deployment_profile"], solved["bit_width"]) == (
        0.3,
        "edge",
        2,
    )
    monkeypatch.setenv("ARROW_QUANT_TARGET_MODEL_SIZE_MB", "0.1")
    error = made_by(2, "--config", str(config))
    assert "target_model_size_mb is 0.1; allowed: at least 0.12" in error["message"]
    monkeypatch.setenv("ARROW_QUANT_ENABLE_ENTROPY_ADAPTATION", "true")
    assert "ARROW_QUANT_ENABLE_ENTROPY_ADAPTATION" in made_by(2, "--config", str(config))["message"]
    assert made_by(0, "--profile", "cloud")["method"] == "entropy rule"


def test_a_plan_is_executed_as_it_is(make_checkpoint: Make, tmp_path: Path, capsys: Capture) -> None:
    source, first, again = str(make_checkpoint()), tmp_path / "first", tmp_path / "again"
    assert run(["quantize", source, str(first), "--bit-width", "3", "--min-accuracy", "0", "--json"]) == 0
    plan = tmp_path / "plan.yaml"
    wb.load(first).plan.save(plan)
    assert run(["quantize", source, str(again), "--plan", str(plan), "--threads", "1", "--json"]) == 0
    assert payload(first) == payload(again)
    capsys.readouterr()
    for options in (["--bit-width", "4"], ["--config", str(plan)], ["--fail-fast"], ["--override", "a=2"]):
        assert run(["quantize", source, str(tmp_path / "no"), "--plan", str(plan), *options]) == 2
        assert "a plan is executed as it is" in capsys.readouterr().err


def test_a_component_can_be_named(make_checkpoint: Make, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "pipeline"
    folder.mkdir()
    index = {"_class_name": "P", "transformer": ["diffusers", "T"], "vae": ["diffusers", "V"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    for component, columns in (("transformer", 64), ("vae", 32)):
        (folder / component).mkdir()
        weights = np.random.default_rng(0).standard_normal((8, columns)).astype(np.float32)
        save_file({"mid.fc.weight": weights}, folder / component / "diffusion_pytorch_model.safetensors")
        (folder / component / "config.json").write_text("{}")
    out = str(tmp_path / "out")
    assert run(["quantize", str(folder), out, "--component", "vae", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["shape"] == [8, 32]
    assert run(["verify", out, "--source", str(folder), "--component", "vae"]) == 0
    assert run(["verify", out, "--source", str(folder)]) == 1


def spoil(folder: Path, what: str) -> None:
    weights = folder / "model.safetensors"
    match what:
        case "missing":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "header":
            weights.write_bytes(struct.pack("<Q", 10**9) + b"{}")
        case "nan":
            save_file({"a.fc1.weight": np.full((8, 64), np.nan, np.float32)}, weights)
        case "pickle":
            weights.rename(folder / "pytorch_model.bin")


WRONG_USAGE = {
    "no command": [],
    "unknown command": ["quantise", "{model}", "{out}"],
    "unknown option": ["quantize", "{model}", "{out}", "--bits", "4"],
    "missing argument": ["quantize", "{model}"],
    "not a number": ["quantize", "{model}", "{out}", "--bit-width", "four"],
    "override without bits": ["quantize", "{model}", "{out}", "--override", "attn"],
    "override without a number": ["quantize", "{model}", "{out}", "--override", "attn=x"],
    "bits out of range": ["quantize", "{model}", "{out}", "--bit-width", "9"],
    "override out of range": ["quantize", "{model}", "{out}", "--override", "attn=1"],
    "group size": ["quantize", "{model}", "{out}", "--group-size", "100"],
    "unknown profile": ["quantize", "{model}", "{out}", "--profile", "moon"],
    "unknown target": ["quantize", "{model}", "{out}", "--target", "onnx"],
    "missing configuration": ["quantize", "{model}", "{out}", "--config", "{model}/nothing.yaml"],
    "plan that is none": ["quantize", "{model}", "{out}", "--plan", "{model}/config.json"],
    "verify without source": ["verify", "{model}"],
}

FAILURES = {
    "no model": ["quantize", "{model}/nothing", "{out}"],
    "unknown zoo model": ["quantize", "zoo:nothing", "{out}"],
    "output exists": ["quantize", "{model}", "{model}"],
    "output in no folder": ["quantize", "{model}", "{out}/deeper/out"],
    "missing": ["quantize", "{model}", "{out}"],
    "truncated": ["quantize", "{model}", "{out}"],
    "header": ["quantize", "{model}", "{out}"],
    "nan": ["quantize", "{model}", "{out}"],
    "pickle": ["quantize", "{model}", "{out}"],
    "under the floor": ["quantize", "{model}", "{out}", "--min-accuracy", "1", "--fail-fast"],
    "unknown component": ["quantize", "{model}", "{out}", "--component", "vae"],
    "inspecting a model": ["inspect", "{model}"],
    "inspecting nothing": ["inspect", "{out}"],
    "verifying a model": ["verify", "{model}", "--source", "{model}"],
    "demo in no folder": ["demo", "--out", "{out}/deeper"],
}


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        *(pytest.param(arguments, 2, what, id=what) for what, arguments in WRONG_USAGE.items()),
        *(pytest.param(arguments, 1, what, id=what) for what, arguments in FAILURES.items()),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_left(
    arguments: list[str], code: int, what: str, make_checkpoint: Make, tmp_path: Path, capsys: Capture
) -> None:
    model = make_checkpoint()
    spoil(model, what)
    before = sorted(tmp_path.rglob("*"))
    filled = [argument.format(model=model, out=tmp_path / "out") for argument in arguments]

    assert run(filled) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    *before_work, last = printed.err.splitlines()
    assert last.startswith("Error: ")
    assert not any("Error" in line for line in before_work)
    assert "Traceback" not in printed.err
    assert "This is a bug" not in printed.err

    assert run([*filled, "--json"]) == code
    printed = capsys.readouterr()
    error = json.loads(printed.out)["error"]
    assert error["message"] in printed.err
    assert error["type"] not in ("Exception", "KeyError")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_error_carries_its_facts_as_json(make_checkpoint: Make, tmp_path: Path, capsys: Capture) -> None:
    model = make_checkpoint()
    spoil(model, "nan")
    assert run(["quantize", str(model), str(tmp_path / "out"), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["type"], error["tensor"], error["index"]) == ("ValidationError", "a.fc1.weight", [0, 0])
    assert run(["quantize", str(model), str(tmp_path / "out"), "--bit-width", "9", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["type"], error["key"], error["value"]) == ("ConfigurationError", "bit_width", 9)


def test_a_bug_is_not_hidden(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("workbench.engine.load", broken)
    assert run(["inspect", "out", "--json"]) == 1
    printed = capsys.readouterr()
    assert "Traceback" in printed.err
    assert "This is a bug" in json.loads(printed.out)["error"]["message"]


def test_verify_fails_where_the_file_is_damaged(
    make_checkpoint: Make, tmp_path: Path, capsys: Capture
) -> None:
    model, out = make_checkpoint(), tmp_path / "out"
    assert run(["quantize", str(model), str(out)]) == 0
    part = out / "part-00000.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    capsys.readouterr()
    assert run(["verify", str(out), "--source", str(model)]) == 1
    assert "NOT verified" in capsys.readouterr().out
    assert run(["verify", str(out), "--source", str(model), "--json"]) == 1
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["ok"] is False
    assert outcome["problems"]


@pytest.mark.parametrize("damage", [{}, {"layers": 3}, {"model_size_mb": "large"}, {"notes": None}])
def test_inspect_refuses_a_malformed_report(
    damage: dict[str, Any], make_checkpoint: Make, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert run(["quantize", str(make_checkpoint()), str(out)]) == 0
    record = json.loads((out / "workbench.json").read_text())
    record["report"] = {**record["report"], **damage} if damage else {}
    (out / "workbench.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert run(["inspect", str(out)]) == 1
    assert "malformed" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "quantize", "inspect", "verify", "equalize"])
def test_help_teaches_by_example(command: str, capsys: Capture) -> None:
    assert run([command, "--help"]) == 0
    assert f"Example: workbench {command}" in capsys.readouterr().out
    assert run(["--help"]) == 0
    assert "Exit codes: 0 done" in capsys.readouterr().out


def test_the_version_names_the_kernels(capsys: Capture) -> None:
    from workbench.kernels import load_kernels

    assert run(["--version"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "arrowquant-workbench 0.1.0",
        f"kernels: {load_kernels().description}",
    ]


def test_the_commands_are_quick_to_start() -> None:
    program = (
        "import sys, workbench.__main__; heavy = {'numpy', 'pyarrow', 'pydantic', 'torch'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_warning_is_a_line_on_stderr(make_checkpoint: Make, tmp_path: Path) -> None:
    """Python started in a bare source tree finds kernels there that are not compiled."""
    program = "from workbench.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "quantize", str(make_checkpoint()), str(tmp_path / "out"), "--json"],
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kernels"].startswith("portable (NumPy)")
    assert done.stderr.startswith("Warning: kernels_pythran was imported from a bare source tree")
    assert done.stderr.count("\n") == 1


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def interrupt(source: Path, out: Path, *options: str) -> tuple[int, str, str]:
    """Quantize, press Ctrl-C when the journal has begun, and wait for the end."""
    process = start("quantize", source, out, *options)
    wait_until((out.parent / f".{out.name}.partial" / "journal.jsonl").exists, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def test_ctrl_c_leaves_nothing(large_model: Path, tmp_path: Path) -> None:
    code, stdout, stderr = interrupt(large_model, tmp_path / "out", "--json")
    assert code == 130
    assert stderr == "Error: Interrupted. Nothing was left behind.\n"
    assert json.loads(stdout)["error"]["type"] == "CancelledError"
    assert [path.name for path in tmp_path.iterdir()] == ["large"]


def test_ctrl_c_with_resume_leaves_what_the_next_run_goes_on_from(large_model: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    code, _, stderr = interrupt(large_model, out, "--resume")
    assert code == 130
    assert "The same command goes on from here." in stderr
    assert (tmp_path / ".out.partial").is_dir()
    assert run(["quantize", str(large_model), str(out), "--resume"]) == 0
    assert not (tmp_path / ".out.partial").exists()
    assert run(["quantize", str(large_model), str(whole)]) == 0
    assert payload(out) == payload(whole)


def test_ctrl_c_ends_verify_too(large_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["quantize", str(large_model), str(out)]) == 0
    process = start("verify", out, "--source", large_model, "--json")
    wait_until(lambda: "part-00000.parquet" in open_files(process.pid), process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "Error: Interrupted.\n")
    assert json.loads(stdout)["error"]["message"] == "Interrupted."


def open_files(pid: int) -> str:
    folder = Path(f"/proc/{pid}/fd")
    names = []
    for descriptor in folder.iterdir():
        try:
            names.append(str(descriptor.readlink()))
        except OSError:
            continue
    return " ".join(names)


@pytest.mark.parametrize("json_too", [False, True])
def test_a_terminal_shows_a_bar_with_rate_and_time_left(
    json_too: bool, large_model: Path, tmp_path: Path
) -> None:
    leader, follower = pty.openpty()
    options = ["--json"] if json_too else []
    process = start(
        "quantize",
        large_model,
        tmp_path / "out",
        *options,
        stderr=follower,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    if json_too:
        assert shown == b""
        assert json.loads(stdout)["target"] == "parquet"
    else:
        assert b"MB/s" in shown
        assert b"0:00:0" in shown
        assert "MB/s" not in stdout
