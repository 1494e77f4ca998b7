"""Guards the choice of kernels: whatever is wrong with the compiled ones is said once, and work goes on.

Each case is a fresh interpreter that finds a doctored copy of the installed package first on its path, as a
user with a broken installation would.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = """
import hashlib, json, sys, warnings
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from workbench.kernels import Form, KernelWarning, load_kernels
from workbench.quantize.patterns import room
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with ThreadPoolExecutor(4) as pool:
        kernels = set(map(id, pool.map(lambda _: load_kernels(), range(8))))
k = load_kernels()
source = np.random.default_rng(0).standard_normal((7, 1000), np.float32).view(np.uint32).ravel()
codes, scales, zeros = np.zeros(7 * 500, np.uint8), np.zeros(7 * 8, np.float32), np.zeros(7 * 8, np.float32)
k.affine_encode(source, False, 7, 1000, 4, 128, int(Form.ZERO), scales, zeros, codes, np.zeros((7, 3)), *room())
payload = hashlib.sha256(codes.tobytes() + scales.tobytes() + zeros.tobytes()).hexdigest()
warned = [str(w.message) for w in caught if w.category is KernelWarning]
json.dump([k.name, k.description, warned, len(kernels), len(caught), payload], sys.stdout)
"""


def run(folder: Path, **environment: str) -> tuple[str, str, list[str], str]:
    """Name, description and warnings of the kernels that a new Python with the folder first on its path takes."""
    variables = {k: v for k, v in os.environ.items() if k != "WORKBENCH_KERNELS"}
    variables |= {"PYTHONPATH": str(folder), **environment}
    # -P: not the current directory, which may be the source tree.
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        env=variables,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    name, description, warned, choices, caught, payload = json.loads(done.stdout)
    assert choices == 1, "every thread gets the same kernels"
    assert caught == len(warned), "no other warnings"
    return name, description, warned, payload


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the installed kernels, to be doctored."""
    spec = find_spec("kernels_pythran")
    assert spec is not None
    assert spec.origin is not None
    return Path(shutil.copytree(Path(spec.origin).parent, tmp_path / "kernels_pythran"))


@pytest.fixture
def edit(package: Path) -> Callable[..., None]:
    """Change entries of build.json."""

    def edit(**entries: object) -> None:
        path = package / "build.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return edit


def test_sound_kernels_are_used_without_a_word(package: Path) -> None:
    name, description, warned, _ = run(package.parent)
    assert (name, warned) == ("compiled", [])
    assert description.startswith("compiled (Pythran 0.19")
    assert "\n" not in description


def test_the_payload_does_not_depend_on_the_kernels(package: Path) -> None:
    compiled, portable = run(package.parent), run(package.parent, WORKBENCH_KERNELS="portable")
    assert (compiled[0], portable[0]) == ("compiled", "portable")
    assert compiled[3] == portable[3]


def test_the_reference_can_be_asked_for_without_a_warning(package: Path) -> None:
    name, description, warned, _ = run(package.parent, WORKBENCH_KERNELS="portable")
    assert (name, warned) == ("portable", [])
    assert "WORKBENCH_KERNELS" in description


def test_the_old_name_of_the_portable_kernels_says_the_new_one(package: Path) -> None:
    name, _, (warning,), _ = run(package.parent, WORKBENCH_KERNELS="reference")
    assert name == "portable"
    assert "WORKBENCH_KERNELS=portable" in warning


def test_another_value_of_the_variable_is_an_error(package: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run(package.parent, WORKBENCH_KERNELS="portble")
    assert "ConfigurationError: WORKBENCH_KERNELS=portble" in failure.value.stderr


def remove_extension(package: Path) -> None:
    (package / f"entropy{EXTENSION_SUFFIXES[0]}").unlink()


def remove_all(package: Path) -> None:
    for path in package.iterdir():
        if path.suffix in (".so", ".pyd", ".json"):
            path.unlink()


def damage_extension(package: Path) -> None:
    (package / f"affine{EXTENSION_SUFFIXES[0]}").write_bytes(b"not a shared object")


def change_source(package: Path) -> None:
    path = package / "blocks.py"
    path.write_text(path.read_text() + "# changed\n")


def remove_source(package: Path) -> None:
    (package / "moments.py").unlink()


def become_a_source_tree(package: Path) -> None:
    remove_all(package)
    (package / "meson.build").touch()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove_extension, "kernels_pythran.entropy is not compiled for this Python"),
        (remove_all, "are not compiled (no build.json)"),
        (damage_extension, "kernels_pythran.affine cannot be loaded"),
        (change_source, "stale: "),
        (remove_source, "stale: "),
        (become_a_source_tree, "imported from a bare source tree"),
    ],
)
def test_a_damaged_package(package: Path, damage: Callable[[Path], None], reason: str) -> None:
    damage(package)
    name, description, (warning,), payload = run(package.parent)
    assert name == "portable"
    assert reason in warning
    assert reason in description
    assert "pip install ." in warning
    assert payload == run(package.parent, WORKBENCH_KERNELS="portable")[3]


@pytest.mark.parametrize(
    "record", ["", "{", "[]", "null", '{"sources": 3}', "\x00\xff", '{"cpu_flags": [[]], "sources": {}}']
)
def test_a_broken_record(package: Path, record: str) -> None:
    (package / "build.json").write_text(record, encoding="latin-1")
    name, _, (warning,), _ = run(package.parent)
    assert name == "portable"
    assert "build.json" in warning


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux lists the processor's flags")
def test_instructions_this_processor_lacks(package: Path, edit: Callable[..., None]) -> None:
    edit(cpu_flags=["sse9"], instruction_set="native")
    # Nothing may be loaded before the flags are compared: it could end the process.
    damage_extension(package)
    name, _, (warning,), _ = run(package.parent)
    assert name == "portable"
    assert "lacks sse9" in warning


def test_another_kind_of_machine(package: Path, edit: Callable[..., None]) -> None:
    edit(machine="pdp11")
    name, _, (warning,), _ = run(package.parent)
    assert name == "portable"
    assert "built for another processor" in warning
    assert "pdp11" in warning


def test_a_record_without_the_hash_of_a_kernel(package: Path, edit: Callable[..., None]) -> None:
    edit(sources={})
    name, _, (warning,), _ = run(package.parent)
    assert name == "portable"
    assert "stale" in warning
