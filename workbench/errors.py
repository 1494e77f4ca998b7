"""The exceptions that ArrowQuant Workbench raises, all under `ArrowQuantError`.

Every message says what was wrong, where, and what to do. The facts in it are also attributes, so that a
program need not parse the sentence. A setting or a call in a message is marked by `setting` or `action`, so that each
surface spells it as its reader writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Spelling = Callable[[str, str | None], str]
"""Spells a setting, or a call whose name ends in ``()``, with its value if any."""

ANY = "…"
"""Stands for a value that the reader has to fill in."""

# Control characters, which no quoted name or path in a message has.
_MARK = re.compile("\x02([^\x1f\x03]*)(?:\x1f([^\x03]*))?\x03")


def setting(name: str, value: object = None) -> str:
    """A setting for a message: ``names='original'`` in Python, ``--names original`` on the command line.

    Parameters
    ----------
    name : str
        As in `workbench.DiffusionQuantConfig` or `workbench.open`.
    value : object, optional
        `ANY` for one that the reader has to fill in.
    """
    return f"\x02{name}\x03" if value is None else f"\x02{name}\x1f{value}\x03"


def action(name: str, value: object = ANY) -> str:
    """A call of a public function for a message: ``workbench.load('out')``, or the command that does it."""
    return setting(f"{name}()", value)


def in_python(name: str, value: str | None) -> str:
    """The spelling of a setting or a call in Python."""
    shown = value if value in (None, ANY) else repr(value)
    if name.endswith("()"):
        return f"workbench.{name.removesuffix('()')}({shown or ''})"
    return name if shown is None else f"{name}={shown}"


def spelled(message: str, spelling: Spelling = in_python) -> str:
    """A message with its settings and calls spelled."""
    return _MARK.sub(lambda mark: spelling(mark[1], mark[2]), message)


class ArrowQuantError(Exception):
    """Base of all errors that this package raises on purpose.

    Parameters
    ----------
    message : str
        What was wrong, where, and the way out; `setting` and `action` mark what surfaces spell differently.
    path : path-like, optional
        The file or folder concerned.
    tensor : str, optional
        The tensor concerned, by its name in the checkpoint.
    **context
        Further facts, kept as attributes of the same names.

    Attributes
    ----------
    path : Path or None
    tensor : str or None
    context : dict
        All the facts given, by name.
    """

    def __init__(
        self, message: str, *, path: str | Path | None = None, tensor: str | None = None, **context: Any
    ) -> None:
        super().__init__(spelled(message))
        self._message = message
        self.path = None if path is None else Path(path)
        self.tensor = tensor
        self.context: dict[str, Any] = {"path": self.path, "tensor": tensor, **context}

    def said(self, spelling: Spelling) -> str:
        """The message in another spelling than Python's."""
        return spelled(self._message, spelling)

    def __getattr__(self, name: str) -> Any:
        # Reached only for names that are not ordinary attributes; __dict__ avoids recursion while unpickling.
        context = self.__dict__.get("context", {})
        if name in context:
            return context[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._message, self.context)


def _rebuild(kind: type[ArrowQuantError], message: str, context: dict[str, Any]) -> ArrowQuantError:
    return kind(message, **context)


class ModelNotFoundError(ArrowQuantError):
    """No model at the path, or nothing in the folder that can be read as one."""


class MetadataError(ArrowQuantError):
    """A header, index or configuration file of a checkpoint or an export is malformed or inconsistent."""


class ShapeMismatchError(ArrowQuantError):
    """A tensor's shape disagrees with its data, its index or the tensor it is compared with."""


class ValidationError(ArrowQuantError):
    """The data cannot be used as asked: NaN or Inf, a pickle, an already-quantized file, an existing output."""


class UsageError(ArrowQuantError):
    """Base of the errors of a request: a setting, a plan, an expression or an argument. The commands exit with 2."""


class ConfigurationError(UsageError):
    """A configuration key, value or combination that is not allowed; carries ``key`` and ``value``."""


class PlanError(UsageError):
    """A plan, or rules for one, that cannot be read or made: malformed, of another model, too small a size."""


class ExpressionError(UsageError):
    """A filter or formula over the layers' columns that cannot be read or evaluated."""


class ArgumentError(UsageError):
    """An argument of a function, or an option of a command, that is not allowed; carries ``key`` and ``value``."""


class QuantizationError(ArrowQuantError):
    """Quantizing failed: accuracy under the floor with ``fail_fast``, a changed source, a full disk."""


class CancelledError(ArrowQuantError):
    """The work was cancelled on request; nothing was left half-written."""
