"""JSON that a checkpoint carries, parsed without trusting it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from workbench.errors import MetadataError

MAX_JSON_BYTES = 100_000_000
"""Limit of the safetensors library for a header, taken for index and configuration files too."""


def parse_object(data: bytes, path: Path, what: str, *, allow_constants: bool = False) -> dict[str, Any]:
    """Parse a JSON object, refusing duplicate keys at every level.

    Parameters
    ----------
    data : bytes
        The JSON text, UTF-8.
    path : Path
        The file it comes from, for messages.
    what : str
        What it is, for messages, such as ``"header"``.
    allow_constants : bool, optional
        Accept ``NaN`` and ``Infinity``, which Python writes into configuration files although JSON has none.

    Returns
    -------
    dict
        The object.

    Raises
    ------
    MetadataError
        If the bytes are not UTF-8, not JSON, not an object, nested too deeply or carry a key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise MetadataError(
                    f"{path}: the {what} has the key {quote(key)} twice, so its meaning is not certain; "
                    "the file is damaged or was tampered with, get it again from its source.",
                    path=path,
                    key=key,
                )
            result[key] = value
        return result

    def refuse_constant(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_constant=None if allow_constants else refuse_constant,
        )
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MetadataError(f"{path}: the {what} is not valid JSON: {reason}.", path=path) from error
    if not isinstance(value, dict):
        raise MetadataError(
            f"{path}: the {what} must be a JSON object, not a {type(value).__name__}.", path=path
        )
    return value


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object from a file of at most `MAX_JSON_BYTES`.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it is, for messages, such as ``"index"``.

    Returns
    -------
    dict
        The object; ``NaN`` and ``Infinity`` are accepted as values.

    Raises
    ------
    MetadataError
        If the file cannot be read, is too large, or is not an acceptable JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise MetadataError(
                f"{path}: the {what} has {path.stat().st_size:,} bytes, more than {MAX_JSON_BYTES:,}.",
                path=path,
            )
        data = path.read_bytes()
    except OSError as error:
        raise MetadataError(f"{path}: the {what} cannot be read: {error.strerror}.", path=path) from error
    return parse_object(data, path, what, allow_constants=True)


def quote(text: str) -> str:
    """Quote a string from a file for a message: escaped, and shortened when absurdly long."""
    return repr(text) if len(text) <= 120 else f"{text[:100]!r}… ({len(text):,} characters)"
