"""``workbench lab`` and ``app``: what is refused beforehand, what is opened, and a server that asks for a token."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from workbench import zoo
from workbench.__main__ import run

LAYERS = {f"blocks.{n}.attn.to_q.weight": np.ones((64, 128), np.float16) for n in range(2)}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of servers, which are not started."""
    found: list[list[str]] = []

    def note(
        command: list[str], check: bool = False, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        found.append(command)
        if "voila" in command:
            found.append([Path(command[3]).read_text()])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("workbench.cli.serving.subprocess.run", note)
    return found


def cells(notebook: Path) -> str:
    document = json.loads(notebook.read_text())
    assert all(not cell.get("outputs") for cell in document["cells"])
    return "\n".join(cell["source"] for cell in document["cells"] if cell["cell_type"] == "code")


def test_each_notebook_is_new_and_opens_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    save_file(LAYERS, tmp_path / "models" / "my model.safetensors")
    for _ in range(2):
        assert run(["lab", "models/my model.safetensors", "--no-browser"]) == 0
    assert run(["lab", "zoo:digits-dit", "--folder", "a/b"]) == 0
    assert [Path(command[3]) for command in commands] == [
        tmp_path / "workbench-my-model.ipynb",
        tmp_path / "workbench-my-model-2.ipynb",
        tmp_path / "a" / "b" / "workbench-digits-dit.ipynb",
    ]
    first, second, zoo = (cells(Path(command[3])) for command in commands)
    assert first == second
    assert repr(str(tmp_path / "models" / "my model.safetensors")) in first
    assert "'zoo:digits-dit'" in zoo


GIVEN = {"target": "mlx", "effort": "normal", "calibration": "zoo:digits-dit", "names": "checkpoint"}


@pytest.mark.parametrize("command", ["lab", "app"])
def test_what_was_asked_for_is_in_the_notebook(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [word for key, value in GIVEN.items() for word in (f"--{key}", value)] + ["--keep", "role:head"]
    assert run([command, "zoo:digits-dit", "--folder", "here", *options]) == 0
    source = (
        cells(Path(commands[0][3])) if command == "lab" else json.loads(commands[1][0])["cells"][0]["source"]
    )
    for key, value in {**GIVEN, "keep": ["role:head"]}.items():
        assert f"{key}={value!r}" in source


@pytest.mark.parametrize(("theme", "option"), [("light", "--theme=light"), ("dark", "--theme=dark")])
def test_the_app_is_light_or_dark_when_asked(
    theme: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["app", "zoo:digits-dit", "--theme", theme]) == 0
    assert option in commands[0]


def test_a_component_and_records_beside_it_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]
) -> None:
    """The kernel runs in the notebook's folder: what was given is made absolute."""
    monkeypatch.chdir(tmp_path)
    pipeline = tmp_path / "pipeline"
    for part in ("transformer", "text_encoder"):
        (pipeline / part).mkdir(parents=True)
        save_file(LAYERS, pipeline / part / "model.safetensors")
    (pipeline / "model_index.json").write_text(
        json.dumps({"transformer": ["diffusers", "A"], "text_encoder": ["transformers", "B"]})
    )
    shutil.copy(zoo.locate("digits-dit") / "calibration.parquet", tmp_path / "records.parquet")
    assert run(["lab", "pipeline", "--component", "text_encoder", "--target", "mlx"]) == 0
    assert Path(commands[0][3]).name == "workbench-pipeline-text_encoder.ipynb"
    assert "component='text_encoder'" in cells(Path(commands[0][3]))
    assert run(["lab", "zoo:digits-dit", "--calibration", "records.parquet", "--target", "mlx"]) == 0
    assert f"calibration={str(tmp_path / 'records.parquet')!r}" in cells(Path(commands[1][3]))


REFUSED = {
    "nothing there": (["gone"], 1, "gone"),
    "a pickle": (["pickle"], 1, "pickle"),
    "no such model of the zoo": (["zoo:gone"], 1, "digits-dit"),
    "no such target": (["model", "--target", "gguv"], 2, "gguv"),
    "no such component": (["model", "--component", "vae"], 1, "vae"),
    "no such names": (["model", "--names", "orignal"], 2, "orignal"),
    "names that are not known": (["model", "--names", "original"], 2, "original"),
    "no such effort": (["model", "--effort", "hard"], 2, "hard"),
    "no records": (["model", "--calibration", "gone.parquet"], 1, "gone.parquet"),
    "another model's records": (["model", "--calibration", "zoo:digits-dit"], 1, "other weights"),
    "a file of no records": (["model", "--calibration", "model/model.safetensors"], 1, "model.safetensors"),
    "a folder in a file": (["model", "--folder", "model/model.safetensors/x"], 1, "is a file"),
    "nothing to keep": (["model", "--keep", "*nowhere*"], 2, "nowhere"),
    "a port that is no port": (["model", "--port", "70000"], 2, "65535"),
}


@pytest.mark.parametrize("command", ["lab", "app"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_opened_is_refused_before_a_server_starts(
    command: str,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    commands: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("model", "pickle"):
        (tmp_path / folder).mkdir()
    save_file(LAYERS, tmp_path / "model" / "model.safetensors")
    (tmp_path / "pickle" / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    before = sorted(tmp_path.rglob("*"))
    arguments, code, word = REFUSED[what]
    options = [] if "--folder" in arguments else ["--folder", "new/folder"]
    assert run([command, *arguments, *options]) == code
    message = capsys.readouterr().err
    assert word in message
    assert len(message.splitlines()) == 1, "one message, no traceback"
    assert commands == []
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"


@pytest.mark.parametrize("command", ["lab", "app"])
def test_a_port_in_use_is_refused_before_a_server_starts(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    commands: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert run([command, "zoo:digits-dit", "--port", str(port)]) == 2
    assert f"Port {port} is in use" in capsys.readouterr().err
    assert commands == []
    assert list(tmp_path.iterdir()) == []
    assert run([command, "zoo:digits-dit", "--port", str(port)]) == 0
    assert any(word.endswith(f"port={port}") for word in commands[0])


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """Run a command until it prints the address that it serves, with its token."""
    own = {
        name: str(folder / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    log = folder / "log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "workbench", *arguments], env={**os.environ, **own}, cwd=folder,
            stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + 90
        while not (
            found := re.search(r"http://(?:127\.0\.0\.1|localhost):\d+/\S*token=\w+", log.read_text())
        ):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield found[0]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answer(address: str) -> tuple[int, str]:
    """Status and, where it leads elsewhere, the address of the answer."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=60) as found:
                return int(found.status), found.url
        except urllib.error.HTTPError as error:
            return error.code, address
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.2)


@pytest.mark.parametrize("command", ["lab", "app"])
def test_the_server_wants_its_token(tmp_path: Path, command: str) -> None:
    with serving(tmp_path, command, "zoo:digits-dit", "--no-browser") as address:
        bare = re.sub(r"[?&]token=\w+", "", address)
        inside = bare if command == "app" else re.sub(r"/lab.*", "/api/contents", bare)
        code, where = answer(inside)
        assert code == 403 or "/login" in where
        token = re.search(r"token=(\w+)", address)
        assert token
        code, where = answer(f"{inside}?token={token[1]}")
        assert code == 200
        assert "/login" not in where
