"""Guards the rings of ARCHITECTURE.md: who may import whom, what the lower rings stay free of, where files belong.

`breaches` reads the sources without running them, so an import inside a function or under TYPE_CHECKING
counts too. It is itself tested on small trees, each with one thing wrong.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def _rings() -> dict[str, tuple[int, int]]:
    """Ring and place of each module or folder of workbench, from the table in ARCHITECTURE.md."""
    text = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| `([\w.*]+)` \|", text, re.MULTILINE)
    return {name: (int(ring), place) for place, (ring, name) in enumerate(rows)}


ORDER = _rings()
"""Each is free to import what is smaller. ``zoo`` is only its own ``__init__``; ``__init__`` is the package's."""

HEAVY = {"torch", "IPython", "ipywidgets", "plotly", "dask"}
"""What rings 0 and 1 never import."""

VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
"""Words that no file or folder is called by."""

MAX_LINES = 600

MAX_MODULES = 12
"""Most modules of a folder."""

DUNDER = {"__init__", "__main__"}
"""Modules that do not count."""

LISTS = {"workbench/architectures"}
"""Folders that may have more, for they are lists: a module for each family."""

BUILD_SCRIPTS = {"record_build.py"}
"""What meson runs; not kernels."""


def breaches(root: Path) -> list[str]:
    """What is wrong with the tree under root, one sentence each; empty when all is well."""
    files = {_module(path, root): path for path in sorted((root / "workbench").rglob("*.py"))}
    kernels = sorted(
        path for path in (root / "kernels_pythran").rglob("*.py") if path.name not in BUILD_SCRIPTS
    )
    imports = {name: set(_imports(path, name)) for name, path in files.items()}
    graph = {
        name: {_resolve(target, files) for target in targets} - {None} for name, targets in imports.items()
    }
    return [
        *_misplaced(files),
        *_upward(graph),
        *_circles(graph),
        *_heavy(imports),
        *_kernel_imports(kernels, root),
        *_vague_or_long([*files.values(), *kernels], root),
        *_crowded(list(files.values()), root),
    ]


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _unit(module: str) -> str:
    """The name under which a module stands in the rings."""
    _, *parts = module.split(".")
    if not parts:
        return "__init__"
    return "zoo.*" if parts[0] == "zoo" and len(parts) > 1 else parts[0]


def _imports(path: Path, module: str) -> Iterator[str]:
    """Full names of what a file imports, wherever in it; ``from a import b`` gives ``a.b``."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                above = package[: len(package) - level + 1] if level else []
                base = ".".join([*above, *([source] if source else [])])
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.Constant(value=str(target))]
            ):
                if name in ("import_module", "__import__"):
                    yield target


def _resolve(target: str, files: dict[str, Path]) -> str | None:
    """The module of workbench that an imported name is, or lives in."""
    if target.split(".")[0] != "workbench":
        return None
    while target not in files and "." in target:
        target = target.rpartition(".")[0]
    return target


def _misplaced(files: dict[str, Path]) -> Iterator[str]:
    for name in files:
        if _unit(name) not in ORDER:
            yield f"{name} stands in no ring; put it in the table of ARCHITECTURE.md, or elsewhere"


def _upward(graph: dict[str, set[str | None]]) -> Iterator[str]:
    for name, targets in graph.items():
        for target in sorted(filter(None, targets)):
            ours, theirs = ORDER.get(_unit(name)), ORDER.get(_unit(target))
            if ours and theirs and ours < theirs:
                yield f"{name} (ring {ours[0]}) imports {target} (ring {theirs[0]}), which comes after it"


def _circles(graph: dict[str, set[str | None]]) -> Iterator[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"a circle of imports: {' <- '.join(error.args[1])}"


def _heavy(imports: dict[str, set[str]]) -> Iterator[str]:
    for name, targets in imports.items():
        ring = ORDER.get(_unit(name), (0, 0))[0]
        for target in sorted(targets):
            if ring <= 1 and target.split(".")[0] in HEAVY:
                yield f"{name} (ring {ring}) imports {target}; rings 0 and 1 must not"


def _kernel_imports(kernels: list[Path], root: Path) -> Iterator[str]:
    for path in kernels:
        targets = set(_imports(path, _module(path, root)))
        others = sorted(
            target for target in targets if target.split(".")[0] not in ("numpy", "kernels_pythran")
        )
        if others:
            yield f"{path.relative_to(root)} imports {', '.join(others)}; a kernel imports NumPy and its siblings only"


def _vague_or_long(paths: list[Path], root: Path) -> Iterator[str]:
    for path in paths:
        relative = path.relative_to(root)
        words = {word for part in relative.with_suffix("").parts for word in part.strip("_").split("_")}
        if words & VAGUE:
            yield f"{relative} is called {', '.join(sorted(words & VAGUE))}; name it by what it holds"
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES:
            yield f"{relative} has {lines} lines, more than {MAX_LINES}; it wants a wall"


def _crowded(paths: list[Path], root: Path) -> Iterator[str]:
    modules = Counter(path.parent.relative_to(root).as_posix() for path in paths if path.stem not in DUNDER)
    for folder, count in modules.items():
        if count > MAX_MODULES and folder not in LISTS:
            yield f"{folder} has {count} modules, more than {MAX_MODULES}; it wants a folder for some of them"


def test_the_tree_keeps_its_rings() -> None:
    assert breaches(REPOSITORY) == []


def test_the_table_is_of_the_tree() -> None:
    sources = (REPOSITORY / "workbench").rglob("*.py")
    names = {path.relative_to(REPOSITORY / "workbench").with_suffix("").parts[0] for path in sources}
    assert {name.removesuffix(".*") for name in ORDER} == names
    assert list(ORDER.values()) == sorted(ORDER.values())


def test_there_is_a_tree_to_check() -> None:
    assert (REPOSITORY / "workbench" / "errors.py").exists()
    assert list((REPOSITORY / "kernels_pythran").glob("*.py"))


SOUND = {
    "workbench/__init__.py": "def __getattr__(name):\n    from workbench import cli, arrowquant\n",
    "workbench/errors.py": "import typing\n",
    "workbench/config.py": "import pydantic\nfrom workbench.errors import ConfigurationError\n",
    "workbench/checkpoint/__init__.py": "from workbench.checkpoint.layers import layers\n",
    "workbench/checkpoint/layers.py": "from .. import config\nfrom ..errors import MetadataError\n",
    "workbench/formats/parquet.py": "from workbench.checkpoint import layers\nfrom . import target\n",
    "workbench/formats/target.py": "",
    "workbench/live/capture.py": "import torch\n",
    "workbench/cli.py": "from workbench import zoo\n",
    "workbench/arrowquant.py": "",
    "workbench/zoo/__init__.py": "from pathlib import Path\n",
    "workbench/zoo/digits/train.py": "import torch\nfrom workbench import zoo, cli\n",
    "kernels_pythran/affine.py": "import numpy as np\n",
}
"""A tree in which all is well."""


def grow(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_a_sound_tree_passes(tmp_path: Path) -> None:
    assert breaches(grow(tmp_path, SOUND)) == []


@pytest.mark.parametrize(
    ("name", "text", "breach"),
    [
        (
            "workbench/errors.py",
            "import workbench.cli",
            "workbench.errors (ring 0) imports workbench.cli (ring 3)",
        ),
        (
            "workbench/errors.py",
            "from workbench import config",
            "errors (ring 0) imports workbench.config (ring 0)",
        ),
        (
            "workbench/errors.py",
            "def f():\n    from .live import capture",
            "imports workbench.live.capture (ring 2)",
        ),
        ("workbench/errors.py", "import workbench", "errors (ring 0) imports workbench (ring 4)"),
        (
            "workbench/plan.py",
            "from workbench.zoo.digits import train",
            "plan (ring 0) imports workbench.zoo.digits",
        ),
        (
            "workbench/quantize/a.py",
            "from ..formats.target import T",
            "(ring 1) imports workbench.formats.target",
        ),
        (
            "workbench/session/a.py",
            "from workbench.live.capture import c",
            "(ring 2) imports workbench.live.capture",
        ),
        (
            "workbench/formats/target.py",
            "from .parquet import write",
            "a circle of imports: workbench.formats.",
        ),
        (
            "workbench/checkpoint/layers.py",
            "from . import Layer",
            "a circle of imports: workbench.checkpoint",
        ),
        (
            "workbench/formats/target.py",
            "def f():\n    import torch.nn",
            "formats.target (ring 1) imports torch.nn",
        ),
        (
            "workbench/config.py",
            "from plotly import graph_objects",
            "config (ring 0) imports plotly.graph_objects",
        ),
        ("workbench/config.py", "import_module('dask')", "workbench.config (ring 0) imports dask"),
        (
            "workbench/config.py",
            "import importlib as i\ni.import_module('IPython')",
            "(ring 0) imports IPython",
        ),
        ("workbench/zoo/__init__.py", "import torch", "workbench.zoo (ring 0) imports torch"),
        ("workbench/extras/a.py", "", "workbench.extras.a stands in no ring"),
        ("workbench/tables.py", "", "workbench.tables stands in no ring"),
        ("workbench/formats/utils.py", "", "workbench/formats/utils.py is called utils"),
        ("workbench/ui/common/a.py", "", "workbench/ui/common/a.py is called common"),
        ("workbench/ui/job_manager.py", "", "workbench/ui/job_manager.py is called manager"),
        ("workbench/cli.py", "x = 1\n" * 601, "workbench/cli.py has 601 lines"),
        ("kernels_pythran/affine.py", "import math", "kernels_pythran/affine.py imports math"),
        ("kernels_pythran/helpers.py", "", "kernels_pythran/helpers.py is called helpers"),
    ],
)
def test_one_thing_wrong_is_found(name: str, text: str, breach: str, tmp_path: Path) -> None:
    found = breaches(grow(tmp_path, {**SOUND, name: text}))
    assert any(breach in sentence for sentence in found), found


def test_a_crowded_folder_is_found(tmp_path: Path) -> None:
    modules = {f"workbench/session/part_{number}.py": "" for number in range(13)}
    found = breaches(grow(tmp_path, {**SOUND, **modules}))
    assert found == ["workbench/session has 13 modules, more than 12; it wants a folder for some of them"]
    families = {f"workbench/architectures/family_{number}.py": "" for number in range(13)}
    assert breaches(grow(tmp_path / "other", {**SOUND, **families})) == []
