"""Guards the protocol of the kernels: what the compiled modules export, their twins in NumPy offer, and nothing more.

`differences` compares the sources as text with the twins; it is itself tested on modules with one thing wrong.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import pytest

from workbench.kernels import Form, Storage, load_portable
from workbench.kernels.forms import BlockForm, Minimum
from workbench.kernels.portable import MODULES

SOURCES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in (Path(__file__).parents[2] / "kernels_pythran").glob("*.py")
}
"""The sources of the kernels by module."""

Twins = Mapping[str, Mapping[str, Callable[..., Any]]]


def differences(sources: Mapping[str, str], twins: Twins) -> list[str]:
    """What the exports of the compiled modules and their twins do not agree on, a sentence each."""
    ours = {name: exports for name, text in sources.items() if (exports := _exports(text))}
    found = [f"{name} has no twin" for name in sorted(set(ours) - set(twins))]
    found += [f"{name} is a twin of nothing" for name in sorted(set(twins) - set(ours))]
    for name in sorted(set(ours) & set(twins)):
        kernels, twin = ours[name], twins[name]
        found += [f"the twin of {name} lacks {kernel}" for kernel in sorted(set(kernels) - set(twin))]
        found += [f"{name} does not export {kernel}" for kernel in sorted(set(twin) - set(kernels))]
        for kernel in sorted(set(kernels) & set(twin)):
            if not _is_twin(twin[kernel], kernels[kernel]):
                found.append(f"{name}.{kernel} has other parameters than its twin: {signature(twin[kernel])}")
    return found


def _exports(text: str) -> dict[str, list[str]]:
    """Parameters of each exported function of a source."""
    exported = set(re.findall(r"^#pythran export (\w+)\(", text, re.MULTILINE))
    defined = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    return {name: [argument.arg for argument in defined[name].args.args] for name in exported}


def _is_twin(function: Callable[..., Any], names: list[str]) -> bool:
    """Whether a function has parameters of these names; its ``*room`` stands for all that are left."""
    parameters = list(signature(function).parameters.values())
    ours = [one.name for one in parameters if one.kind is not Parameter.VAR_POSITIONAL]
    return ours == (names if len(ours) == len(parameters) else names[: len(ours)])


def test_every_kernel_has_a_twin_of_the_same_parameters() -> None:
    assert differences(SOURCES, MODULES) == []


def test_what_is_compiled_is_what_has_a_twin() -> None:
    script = Path(__file__).parents[2] / "kernels_pythran" / "record_build.py"
    listed = subprocess.run([sys.executable, script, "--list"], capture_output=True, text=True, check=True)
    compiled, inlined = (line.split(": ")[1].split() for line in listed.stdout.splitlines())
    assert compiled == sorted(MODULES)
    assert sorted([*compiled, *inlined]) == sorted(set(SOURCES) - {"__init__", script.stem})


def test_no_two_modules_export_the_same_name() -> None:
    names = [name for exports in MODULES.values() for name in exports]
    assert len(names) == len(set(names))


def _constants(module: str) -> dict[str, int]:
    found = re.findall(r"^([A-Z_]+) = (\d+)", SOURCES[module], re.MULTILINE)
    return {name: int(number) for name, number in found}


def test_the_forms_have_the_same_numbers_on_both_sides() -> None:
    assert _constants("forms") == {member.name: member.value for kind in (Form, Storage) for member in kind}
    fields = {name.upper(): place for place, name in enumerate(BlockForm._fields)}
    assert _constants("kform") == fields | {member.name: member.value for member in Minimum}


def test_a_name_that_is_no_kernel_is_an_error_that_lists_them() -> None:
    with pytest.raises(AttributeError, match=r"There is no kernel 'pack_bit'.*pack_bits"):
        _ = load_portable("for comparison").pack_bit


KERNEL = "#pythran export double(float32[], float32[])\ndef double(x, y):\n    y[:] = 2 * x\n"


def double(x: object, y: object) -> None:
    """A twin of KERNEL."""


def doubled(x: object, out: object) -> None:
    """Not quite."""


def with_room(x: object, *room: object) -> None:
    """A twin whose compiled kernel works in y."""


def shorter(x: object) -> None:
    """A parameter too few."""


@pytest.mark.parametrize(
    ("sources", "twins", "said"),
    [
        ({"a": KERNEL}, {"a": {"double": double}}, None),
        ({"a": KERNEL, "inlined": "def f():\n    pass\n"}, {"a": {"double": with_room}}, None),
        ({"a": KERNEL}, {}, "a has no twin"),
        ({}, {"a": {"double": double}}, "a is a twin of nothing"),
        ({"a": KERNEL}, {"a": {}}, "the twin of a lacks double"),
        ({"a": KERNEL}, {"a": {"double": double, "halve": double}}, "a does not export halve"),
        ({"a": KERNEL}, {"a": {"double": doubled}}, "a.double has other parameters"),
        ({"a": KERNEL}, {"a": {"double": shorter}}, "a.double has other parameters"),
    ],
)
def test_what_differs_is_found(sources: dict[str, str], twins: Twins, said: str | None) -> None:
    found = differences(sources, twins)
    assert (said is None and found == []) or any(said in one for one in found if said)
