"""``workbench lab`` and ``app``: a fresh notebook for the model, and a server that asks for a token."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workbench.cli.serving import copy_quickstart


def sources(notebook: Path) -> str:
    document = json.loads(notebook.read_text())
    assert all(not cell.get("outputs") for cell in document["cells"])
    return "\n".join("".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code")


def test_each_copy_is_fresh_and_opens_the_model(tmp_path: Path) -> None:
    first = copy_quickstart("zoo:digits-dit", tmp_path)
    second = copy_quickstart("zoo:digits-dit", tmp_path)
    assert (first.name, second.name) == ("workbench-digits-dit.ipynb", "workbench-digits-dit-2.ipynb")
    own = copy_quickstart("models/my model", tmp_path / "new")
    assert own.name == "workbench-my-model.ipynb"
    assert f'wb.open("{Path("models/my model").absolute()}")' in sources(own)
    assert "zoo:digits-dit" not in sources(own)


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
