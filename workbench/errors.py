"""The exceptions that ArrowQuant Workbench raises, all under `ArrowQuantError`.

Every message says what was wrong, where, and what to do. The facts in it are also attributes, so that a
program need not parse the sentence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class ArrowQuantError(Exception):
    """Base of all errors that this package raises on purpose.

    Parameters
    ----------
    message : str
        What was wrong, where, and the way out.
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
        super().__init__(message)
        self.path = None if path is None else Path(path)
        self.tensor = tensor
        self.context: dict[str, Any] = {"path": self.path, "tensor": tensor, **context}

    def __getattr__(self, name: str) -> Any:
        # Reached only for names that are not ordinary attributes; __dict__ avoids recursion while unpickling.
        context = self.__dict__.get("context", {})
        if name in context:
            return context[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.context)


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


class ConfigurationError(ArrowQuantError):
    """A configuration key, value or combination that is not allowed; carries ``key`` and ``value``."""


class QuantizationError(ArrowQuantError):
    """Quantizing failed: accuracy under the floor with ``fail_fast``, a changed source, a full disk."""


class CancelledError(ArrowQuantError):
    """The work was cancelled on request; nothing was left half-written."""
