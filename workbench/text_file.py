"""Writing a text file whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from workbench.config_sources import error_at


def replace_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in one step: it is either as it was before, or whole.

    Raises
    ------
    ConfigurationError
        If it cannot be written; the file that was there stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise error_at(f"cannot be written: {error.strerror}; choose another place", path=path) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
