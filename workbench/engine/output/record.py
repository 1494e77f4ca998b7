"""A written export: what its workbench.json says, and its tensors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from workbench.calibration import ActivationTables
from workbench.engine.output.partial_folder import export_folder
from workbench.errors import MetadataError, ModelNotFoundError, UsageError, action
from workbench.formats import Payload, target_named
from workbench.plan import KEEP, OLD_KEEP, Plan

RECORD = "workbench.json"
VERSION = 1


@dataclass(frozen=True)
class Record:
    """What workbench.json says of an export."""

    target: str
    """The export format."""
    plan: Plan
    """What became of every layer."""
    config: Mapping[str, Any]
    """The configuration it was made with."""
    report: Mapping[str, Any]
    """What was measured."""
    activation_tables: ActivationTables | None
    """Scales of 8-bit activations; None where there was no calibration."""
    folds: Mapping[str, Any] | None
    """What was folded before it was quantized; None where nothing was."""


def write_record(
    folder: Path,
    plan: Plan,
    config: Mapping[str, Any],
    report: Mapping[str, Any],
    activation_tables: Mapping[str, Any] | None,
    folds: Mapping[str, Any] | None,
) -> None:
    """Write workbench.json."""
    document = {
        "format": "arrowquant-export",
        "version": VERSION,
        "writer": f"arrowquant-workbench {version('arrowquant-workbench')}",
        "target": plan.target,
        "fingerprint": plan.fingerprint,
        "config": config,
        "plan": plan.to_dict(),
        "activation_tables": activation_tables,
        "folds": folds,
        "report": report,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> Record:
    """Read workbench.json.

    Raises
    ------
    ModelNotFoundError
        If the folder is missing or is no export of this workbench.
    MetadataError
        If the file is malformed or of an unknown version.
    """
    path = folder / RECORD
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"{folder} is not a folder; give the output folder of an export. To look at a checkpoint: "
            f"{action('open', folder)}.",
            path=folder,
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelNotFoundError(
            f"{folder} has no {RECORD}: it is not an export of this workbench. To look at a checkpoint: "
            f"{action('open', folder)}.",
            path=folder,
        ) from None
    except (ValueError, RecursionError, OSError) as error:
        raise MetadataError(f"{path} cannot be read: {error}. Export again.", path=path) from error
    if not isinstance(document, dict) or document.get("format") != "arrowquant-export":
        raise MetadataError(f"{path} is not the record of an export.", path=path)
    if document.get("version") != VERSION:
        raise MetadataError(
            f"{path}: version {document.get('version')!r} is unknown; this release reads version {VERSION}.",
            path=path,
        )
    for key in ("plan", "config", "report"):
        if not isinstance(document.get(key), dict):
            raise MetadataError(f"{path}: {key!r} is missing or not an object.", path=path, key=key)
    try:
        plan = Plan.from_dict(document["plan"], f"{path}: plan")
    except UsageError as error:
        raise MetadataError(str(error), path=path) from error
    given = document.get("activation_tables")
    tables = None if given is None else ActivationTables.from_dict(given, f"{path}: activation_tables")
    folds = document.get("folds")
    if folds is not None and not isinstance(folds, dict):
        raise MetadataError(f"{path}: 'folds' is not an object.", path=path, key="folds")
    report = {**document["report"], "layers": _in_present_words(document["report"].get("layers"))}
    return Record(plan.target, plan, document["config"], report, tables, folds)


def _in_present_words(layers: Any) -> Any:
    """The layers of a report with the scheme of kept ones as it is called now."""
    if not isinstance(layers, list):
        return layers
    return [
        {**layer, "scheme": KEEP} if isinstance(layer, dict) and layer.get("scheme") == OLD_KEEP else layer
        for layer in layers
    ]


class Export(Mapping[str, NDArray[Any]]):
    """An export, opened: a mapping from tensor names to arrays, decoded when they are asked for.

    Layers that were quantized come as float32, everything else in its own dtype, under the source's names.
    """

    def __init__(self, folder: Path) -> None:
        record = read_record(folder)
        self.path = folder
        self.plan = record.plan
        self.config = record.config
        self.report = record.report
        self.activation_tables = record.activation_tables
        self.folds = record.folds
        self.payload: Payload = target_named(record.target).open(folder)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.payload.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.payload.tensors)

    def __len__(self) -> int:
        return len(self.payload.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.payload.tensors

    def __repr__(self) -> str:
        return f"<Export {str(self.path)!r}: {len(self)} tensors, target {self.plan.target}>"


def load(path: str | os.PathLike[str]) -> Export:
    """Open an export for reading.

    Parameters
    ----------
    path : path-like
        The output folder of an export.

    Returns
    -------
    Export
        A lazy mapping from tensor names to arrays, with ``plan`` and ``report``.

    Raises
    ------
    ModelNotFoundError
        If the folder is missing or is no export of this workbench.
    MetadataError
        If the record or the payload is malformed, damaged, incomplete or of an unknown version.
    """
    return Export(export_folder(path))
