"""Which kernels do the arithmetic: the compiled ones of `kernels_pythran`, or the portable ones in NumPy.

The choice is made once, on first use. Compiled kernels are taken only when all are there, were built from the
sources that lie beside them, and ask nothing of the processor that it lacks; otherwise one `KernelWarning`
says why, and the portable ones compute the same results more slowly. ``WORKBENCH_KERNELS=portable`` asks for
them, without a warning.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import platform
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ExtensionFileLoader
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workbench.errors import ConfigurationError
from workbench.kernels import portable

VARIABLE = "WORKBENCH_KERNELS"
"""The environment variable that can ask for the portable kernels."""

OLD_NAME = "reference"
"""What the portable kernels were called."""

PACKAGE = "kernels_pythran"

CPU_INFO = Path("/proc/cpuinfo")


class KernelWarning(UserWarning):
    """Kernels other than the compiled ones are used, or were asked for by an old name."""


@dataclass(frozen=True)
class Kernels:
    """The numeric kernels in use, each a method; `kernels_pythran` documents them."""

    name: str
    """``"compiled"`` or ``"portable"``."""
    description: str
    """One line on what they were built for, or on why they are the portable ones."""
    functions: Mapping[str, Callable[..., Any]] = field(repr=False)
    """The kernels by name."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        functions = self.__dict__["functions"]
        if name not in functions:
            raise AttributeError(f"There is no kernel {name!r}; there are {', '.join(sorted(functions))}.")
        found: Callable[..., Any] = functions[name]
        return found


class _UnfitError(Exception):
    """The compiled kernels cannot be used; the message says why and what to do."""


def load_kernels() -> Kernels:
    """Return the kernels to use, the same ones at every call.

    Raises
    ------
    ConfigurationError
        ``WORKBENCH_KERNELS`` has a value other than ``portable`` or ``auto``.

    Warns
    -----
    KernelWarning
        Once, when the compiled kernels cannot be used, or when the variable has an old value.
    """
    with _choosing:
        return _choose()


# Else two threads on first use would choose, and warn, twice.
_choosing = threading.Lock()


@functools.cache
def _choose() -> Kernels:
    asked = os.environ.get(VARIABLE) or "auto"
    if asked == OLD_NAME:
        warnings.warn(
            f"{VARIABLE}={OLD_NAME} is an old name: set {VARIABLE}=portable.", KernelWarning, stacklevel=4
        )
        asked = "portable"
    if asked == "portable":
        return load_portable(f"asked for by {VARIABLE}")
    if asked != "auto":
        raise ConfigurationError(
            f"{VARIABLE}={asked} is not a choice of kernels; set it to portable or auto, or unset it.",
            key=VARIABLE,
            value=asked,
        )
    try:
        return _compiled()
    except _UnfitError as unfit:
        warnings.warn(
            f"{unfit} Until then NumPy does the work, many times slower.", KernelWarning, stacklevel=4
        )
        return load_portable(str(unfit))


def load_portable(why: str) -> Kernels:
    """Return the portable kernels, whatever else there is."""
    functions = {name: kernel for exports in portable.MODULES.values() for name, kernel in exports.items()}
    return Kernels("portable", f"portable (NumPy): {why}", functions)


def _compiled() -> Kernels:
    try:
        folder = files(PACKAGE)
    except ModuleNotFoundError:
        raise _UnfitError(f"The compiled kernels are not installed. {_remedy()}") from None
    if (folder / "meson.build").is_file():
        raise _UnfitError(
            f"{PACKAGE} was imported from a bare source tree, {folder}, where nothing is compiled. "
            "Run pip install . there and start Python in another folder (or by an installed command, such as "
            "workbench or pytest), so that the installed package is found."
        )
    build = _read_build(folder)
    _check_sources(folder, build["sources"])
    _check_machine(build)
    functions: dict[str, Callable[..., Any]] = {}
    for name, wanted in portable.MODULES.items():
        module = _load(f"{PACKAGE}.{name}")
        for function in wanted:
            if not hasattr(module, function):
                raise _UnfitError(f"The compiled module {PACKAGE}.{name} lacks {function}. {_remedy()}")
            functions[function] = getattr(module, function)
    return Kernels(
        "compiled",
        f"compiled (Pythran {build['pythran']}, {build['compiler']}, "
        f"{build['instruction_set']}: {_widest(build['cpu_flags']) or build['machine']})",
        functions,
    )


def _remedy() -> str:
    return "Install again from the sources, with a C++ compiler (g++ or clang++): pip install ."


def _read_build(folder: Traversable) -> dict[str, Any]:
    """The record that the build left beside the kernels, with every key checked."""
    record = folder / "build.json"
    try:
        build = json.loads(record.read_bytes())
    except FileNotFoundError:
        raise _UnfitError(f"The kernels in {folder} are not compiled (no build.json). {_remedy()}") from None
    except (OSError, ValueError) as error:
        raise _UnfitError(f"{record} cannot be read ({error}). {_remedy()}") from None
    text = {"instruction_set", "compiler", "pythran", "machine"}
    if not (
        isinstance(build, dict)
        and all(isinstance(build.get(key), str) for key in text)
        and isinstance(build.get("cpu_flags"), list)
        and all(isinstance(flag, str) for flag in build["cpu_flags"])
        and isinstance(build.get("sources"), dict)
    ):
        raise _UnfitError(f"{record} is not the record of a build. {_remedy()}")
    return build


def _check_sources(folder: Traversable, recorded: Mapping[str, Any]) -> None:
    for name in sorted({*recorded, *(f"{module}.py" for module in portable.MODULES)}):
        source = folder / name
        found = hashlib.sha256(source.read_bytes()).hexdigest() if source.is_file() else None
        if found is None or recorded.get(name) != found:
            raise _UnfitError(
                f"The compiled kernels are stale: {source} is not what they were built from. {_remedy()}"
            )


def _check_machine(build: Mapping[str, Any]) -> None:
    """Refuse kernels with instructions this processor lacks, before loading one could end the process."""
    wanted, present = set(build["cpu_flags"]), _cpu_flags()
    lacking = [] if present is None else sorted(wanted - present)
    if build["machine"] != platform.machine():
        lacking = [build["machine"]]
    if lacking:
        raise _UnfitError(
            "The compiled kernels were built for another processor "
            f"(instruction_set={build['instruction_set']}); this one lacks {', '.join(lacking)}. {_remedy()}"
        )


def _cpu_flags() -> set[str] | None:
    """Linux's names for the instruction sets of this processor, or None where it does not tell."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    # The line is called Features on ARM, where no flags are recorded.
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)


def _widest(flags: list[str]) -> str:
    return next((flag for flag in ("avx512f", "avx2", "avx", "sse4_2") if flag in flags), "")


def _load(name: str) -> Any:
    spec = find_spec(name)
    if spec is None or not isinstance(spec.loader, ExtensionFileLoader):
        raise _UnfitError(f"{name} is not compiled for this Python. {_remedy()}")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise _UnfitError(f"{name} cannot be loaded ({error}). {_remedy()}") from None
    if not hasattr(module, "__pythran__"):
        raise _UnfitError(f"{name} was not compiled by Pythran. {_remedy()}")
    return module
