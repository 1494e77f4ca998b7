"""The kernels in NumPy: the same names, arguments and results as the compiled ones in `kernels_pythran`.

They run where nothing could be compiled, and they say what the compiled kernels must compute. Codes, scales,
zero points, decoded weights and counts are equal bit for bit, because every float32 operation happens here in
the same order; sums are taken in float64 and agree to about 1e-6. The docstrings of `kernels_pythran` say
what the arguments are; arrays that only the compiled kernels work in are ``*room`` here.

A module with ``__all__`` is the twin of the compiled module of its name, and together these lists are what kernels must
offer. To add a kernel, write its module in `kernels_pythran`, its twin here, and a function that calls it, by
`workbench.kernels.load_kernels`, where it belongs: nothing else lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any


def exports_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The functions by name that a module lists in ``__all__``; none where it has no such list."""
    return {name: getattr(module, name) for name in getattr(module, "__all__", ())}


_ALL = {info.name: exports_of(import_module(f"{__name__}.{info.name}")) for info in iter_modules(__path__)}

MODULES: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    name: found for name, found in _ALL.items() if found
}
"""What each twin exports, by the name of the module."""
