"""What differs between systems is in one module, and files are read and written by position through it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from workbench import system

PACKAGE = Path(system.__file__).parent

ELSEWHERE = {"kernels/loading.py", "cli/serving.py"}
"""What asks for the processor that kernels were built for, and for the ports of servers."""

SYSTEM_CALLS = re.compile(
    r"os\.(?:posix_\w+|p(?:read|write)v?|preadv|pwritev|fsync|fstat|open|sched_\w+|getloadavg|statvfs|name|O_\w+)"
    r"|sys\.platform|platform\.\w+|shutil\.disk_usage"
)
"""What only `workbench.system` does."""


def test_only_one_module_asks_the_system() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if (
            path.relative_to(PACKAGE).as_posix() in ELSEWHERE
            or path == Path(system.__file__)
            or "zoo" in path.parts
        ):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            used = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if {"fcntl", "mmap", "msvcrt"} & set(modules) or SYSTEM_CALLS.fullmatch(used):
                found.append(f"{path.relative_to(PACKAGE)}: {used or modules}")
    assert found == []


def test_arrays_are_written_and_read_back_by_position(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as created:
        system.reserve(created, 64)
    assert path.stat().st_size == 64
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    file = system.open_for_writing(path)
    system.write_at(file, values.T, 16)  # not contiguous
    system.sync(file)
    system.release(file)
    system.close(file)
    found = np.zeros(48, np.uint8)
    file = system.open_for_reading(path)
    assert system.read_at(file, found.data, 16) == 48
    assert system.read_at(file, found.data, 64) == 0, "the end of the file"
    system.close(file)
    np.testing.assert_array_equal(found.view(np.float32).reshape(4, 3), values.T)


def test_a_locked_file_is_refused_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first:
        assert system.lock(first)
        with path.open("w") as second:
            assert not system.lock(second)
    with path.open("w") as third:
        assert system.lock(third)


def test_a_file_that_was_written_to_is_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a")
    before = system.identity(path.stat())
    assert system.identity(path.stat()) == before
    path.write_bytes(b"ab")
    assert system.identity(path.stat()) != before


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    new.write_text("new")
    system.replace_file(old, new)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "new")]


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert system.cache_folder("program") == tmp_path / "program"
