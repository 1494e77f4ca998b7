"""The public names are typed for whoever uses them, and a session shows itself whichever name its class came by."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.engine import verify
from workbench.session import open_session

PACKAGE = Path(wb.__file__).parent
STUB = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))


def public_imports() -> dict[str, str]:
    """Where the stub imports each public name from."""
    return {
        alias.asname: str(node.module)
        for node in STUB.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }


def functions() -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}


def test_the_stub_names_what_the_package_offers() -> None:
    assert {*public_imports(), *functions()} == set(wb.__all__)
    for name, module in public_imports().items():
        assert module in ("workbench", vars(wb)["_HOME_OF"].get(name)), name
    assert all(getattr(wb, name) is not None for name in wb.__all__)


@pytest.mark.parametrize(
    ("name", "made", "more"),
    [("open", open_session, ["fresh"]), ("verify", verify, [])],
    ids=["open", "verify"],
)
def test_the_stub_takes_the_arguments_of_the_function(
    name: str, made: Callable[..., Any], more: list[str]
) -> None:
    arguments = functions()[name].args
    expected = inspect.signature(made).parameters
    assert [one.arg for one in (*arguments.args, *arguments.kwonlyargs)] == [*expected, *more]
    assert [one.arg for one in arguments.kwonlyargs if one.arg not in more] == [
        key for key, one in expected.items() if one.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        assert default is not None
        if ast.unparse(default) != "..." and argument.arg in expected:
            assert ast.literal_eval(default) == expected[argument.arg].default, argument.arg


SCRIPT = """
import workbench as wb

s = wb.open("model.safetensors", target="mlx")
reveal_type(s)
reveal_type(s.solve(size="2.5GB", min_cosine=0.9))
reveal_type(s.layers)
reveal_type(s.plan.choices)
reveal_type(s.export("out").result())
reveal_type(wb.verify("out", "model.safetensors"))
reveal_type(wb.load("out").plan)
reveal_type(wb.figures.front(s))
wb.open("model.safetensors", targt="mlx")
"""


def test_a_users_script_is_typed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    # An installed package is found by its py.typed; mypy refuses the place it is in as a path of its own.
    installed = PACKAGE.parent == Path(sysconfig.get_path("platlib"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(Path(__file__).parents[1] / "pyproject.toml"), "script.py"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=dict(os.environ) if installed else {**os.environ, "MYPYPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    assert re.findall(r'Revealed type is "([^"]*)"', done.stdout.replace("builtins.", "")) == [
        "workbench.session.session.Session",
        "workbench.session.state.Totals",
        "workbench.table.Table",
        "typing.Mapping[str, workbench.plan.Option]",
        "workbench.engine.report.Report",
        "workbench.engine.verification.verify.Verification",
        "workbench.plan.Plan",
        "Any",
    ], done.stdout
    (error,) = (line for line in done.stdout.splitlines() if ": error: " in line)
    assert 'Unexpected keyword argument "targt" for "open"' in error


SHOWN = """
import sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.kernel = object()
from workbench.session import Session
assert shell.display_formatter.ipython_display_formatter.lookup_by_type(Session)
loaded = {"workbench.ui", "workbench.figures", "workbench.live", "anywidget", "plotly"} & set(sys.modules)
sys.exit(", ".join(sorted(loaded)) or 0)
"""


def test_a_session_shows_as_the_panel_whichever_name_it_came_by(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOWN], capture_output=True, text=True, check=False,
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
