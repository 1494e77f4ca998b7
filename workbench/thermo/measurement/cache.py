"""What was measured of checkpoints, remembered in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workbench import system
from workbench.checkpoint import Checkpoint

FOLDER = "arrowquant-workbench"


class CacheWarning(UserWarning):
    """The cache folder cannot be written; measurements are made, but not remembered."""


def cache_folder() -> Path:
    """Where measurements are remembered: under ``XDG_CACHE_HOME`` if that is set, else where the platform has it."""
    return system.cache_folder(FOLDER)


@dataclass(frozen=True)
class Entry:
    """One table in the cache, and the journal of those of its layers that are done while it is made.

    What is damaged, of whatever kind, counts as not there.
    """

    path: Path
    """The table's Parquet file."""
    schema: pa.Schema
    """What the table has to look like."""

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        kind: str,
        version: int,
        parameters: Mapping[str, Any],
        schema: pa.Schema,
        folder: str | os.PathLike[str] | None = None,
    ) -> Entry:
        """The entry of a measurement.

        Its name covers the checkpoint's fingerprint and layers, the sizes and modification times of its files (a
        fingerprint samples a tensor, an edit may fall between the samples), the parameters and the version.

        Parameters
        ----------
        kind, version
            What is measured, and a number that changes with how.
        parameters
            Plain values that decide the outcome.
        folder
            By default `cache_folder()`.

        Raises
        ------
        QuantizationError
            If the checkpoint changed since it was opened.
        """
        checkpoint.check_unchanged()
        files = sorted({info.path for info in checkpoint.tensors.values()})
        stats = [(status.st_size, status.st_mtime_ns) for status in map(Path.stat, files)]
        layers = [astuple(layer) for layer in checkpoint.layers]
        covered = [kind, version, checkpoint.fingerprint, stats, layers, parameters]
        key = hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
        root = cache_folder() if folder is None else Path(folder)
        return cls(root / f"{kind}-{key[:40]}.parquet", schema)

    def load(self) -> pa.Table | None:
        """The table, or None where there is none."""
        try:
            table = pq.read_table(self.path, page_checksum_verification=True)
        except (OSError, pa.ArrowException):
            return None
        return table if table.schema.equals(self.schema) else None

    def done(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the layers that an interrupted measurement finished, by layer."""
        found = {}
        try:
            lines = self._journal.read_bytes().splitlines()
        except OSError:
            return {}
        for line in lines:
            with suppress(ValueError, TypeError):  # the last line of a killed run
                layer, rows = json.loads(line)
                found[layer] = pa.Table.from_pylist(rows, self.schema).to_pylist()
        return found

    def note(self, layer: str, rows: list[dict[str, Any]]) -> None:
        """Add a layer's rows to the journal."""
        line = json.dumps([layer, rows]).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._journal.open("ab") as file:
                file.write(line)
        except OSError as error:
            self._warn(error)

    def save(self, table: pa.Table) -> None:
        """Put the whole table in place of the journal, in one step."""
        temporary = self.path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
            system.replace_file(self.path, temporary)
            self._journal.unlink(missing_ok=True)
        except OSError as error:
            self._warn(error)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    @property
    def _journal(self) -> Path:
        return self.path.with_suffix(".jsonl")

    def _warn(self, error: OSError) -> None:
        warnings.warn(
            f"Measurements are not remembered: {self.path.parent} cannot be written ({error.strerror}). Set "
            "XDG_CACHE_HOME to a folder that can.",
            CacheWarning,
            stacklevel=2,
        )
