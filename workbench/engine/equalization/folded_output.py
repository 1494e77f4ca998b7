"""Writing a folded checkpoint as files: an ordinary checkpoint folder, with its calibration beside it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from workbench import system
from workbench.calibration.records import SHIPPED
from workbench.checkpoint import open_checkpoint
from workbench.checkpoint.blocks import blocks_of
from workbench.engine.equalization.spatial import SpatialQuantizer
from workbench.engine.output.partial_folder import PartialOutput, export_folder, refuse_existing
from workbench.engine.output.side_files import place_side_files, require_space, write_errors_explained
from workbench.errors import QuantizationError, ValidationError
from workbench.folds.folded import FoldedCheckpoint
from workbench.folds.records import fold_records
from workbench.formats import DEFAULTS
from workbench.formats.safetensors.layout import FORMAT, FORMAT_KEY, FileLayout, Piece, by_size, lay_out
from workbench.work import Progress, ProgressCallback

RECORD = "folds.json"
"""The file that says what was folded."""


@dataclass(frozen=True)
class FoldedOutput:
    """A folded checkpoint on disk."""

    path: Path
    """Its folder."""
    calibration: Path
    """Calibration records for it."""
    nbytes: int
    """Bytes of its weights files."""
    fingerprint: str
    """Its fingerprint."""


def write_folded(
    spatial: SpatialQuantizer,
    output_path: str | os.PathLike[str],
    *,
    callback: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> FoldedOutput:
    """Write a folded checkpoint into a new folder.

    The weights are safetensors in the source's layout and under its names, in shards where they are many; the tensors
    that a fold changed are float32, the others as they were. Beside them are the source's side files,
    ``folds.json`` with α and s of each fold, and ``calibration.parquet``, the records of the source as the folded
    checkpoint would have given them. Other components of a diffusers folder bring their side files only.

    Parameters
    ----------
    spatial : SpatialQuantizer
    output_path : path-like
        A folder that does not exist; it appears when all is done.
    callback : callable, optional
        Hears of the fraction done and a message, in this thread. An exception in it ends the work.
    cancel : threading.Event, optional
        Set it to end the work with a `CancelledError`; nothing is left.

    Raises
    ------
    QuantizationError
        If there is no fold to make, the source changed, or the disk is full.
    ValidationError
        If the output exists, or the source has a ``folds.json``: then it is folded already.
    """
    output = export_folder(output_path).absolute()
    folded = spatial.checkpoint
    refuse_existing(output)
    if not folded.folds:
        raise QuantizationError(
            f"{folded.path}: {spatial.summary}. {' '.join(spatial.remarks)}".rstrip(), path=folded.path
        )
    if any(side.relative == RECORD for side in folded.side_files):
        raise ValidationError(
            f"{folded.path} has a {RECORD}: it is folded already. Fold the checkpoint it was made from.",
            path=folded.path,
        )
    progress = Progress(folded.nbytes, callback, cancel)
    progress.message = "writing the folded checkpoint"
    with write_errors_explained(output, progress), PartialOutput(output, resume=False) as place:
        layout = _lay_out(folded)
        require_space(place.folder, layout.nbytes)
        component = folded.component or ""
        weights = place.folder / component
        weights.mkdir(exist_ok=True)
        layout.create(weights)
        _write(folded, layout, weights, progress)
        text = json.dumps(spatial.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        payload = {(Path(component) / name).as_posix() for name in layout.sizes}
        place_side_files(folded, place.folder, {RECORD: f"{text}\n".encode()}, payload)
        folded.check_unchanged()
        with open_checkpoint(place.folder, folded.component) as written:
            records = fold_records(spatial.source_records, folded, written.fingerprint)
            records.check_fit(written)
        records.save(place.folder / SHIPPED)
        progress.pump(finished=True)
        place.commit()
    return FoldedOutput(output, output / SHIPPED, layout.nbytes, records.fingerprint)


def _lay_out(folded: FoldedCheckpoint) -> FileLayout:
    pieces = [(Piece(name, info.dtype, info.shape),) for name, info in folded.tensors.items()]
    # What diffusers and transformers load from a folder.
    stem = "diffusion_pytorch_model" if "_class_name" in folded.config else "model"
    files = by_size(pieces, DEFAULTS.shard_bytes, stem)
    index = f"{stem}.safetensors.index.json" if len(files) > 1 else None
    return lay_out(files, {FORMAT_KEY: FORMAT, **folded.metadata}, index)


def _write(folded: FoldedCheckpoint, layout: FileLayout, folder: Path, progress: Progress) -> None:
    with _open_all(layout, folder) as files:
        for tensor in folded.tensors.values():
            shard, offset = layout.places[tensor.name]
            for block in blocks_of(tensor):
                rows = folded.read_rows(tensor.name, block.row_start, block.row_start + block.rows)
                system.write_at(files[shard], rows, offset)
                offset += rows.nbytes
                progress.advance(rows.nbytes)
                progress.pump()


@contextmanager
def _open_all(layout: FileLayout, folder: Path) -> Iterator[list[int]]:
    with ExitStack() as stack:
        files = []
        for shard in layout.shards:
            files.append(system.open_for_writing(folder / shard.name))
            stack.callback(system.close, files[-1])
        yield files
        for file in files:
            system.sync(file)
