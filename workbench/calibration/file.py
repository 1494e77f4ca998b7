"""Calibration records as one Parquet file.

Two kinds of rows: ``scope`` "step" holds a layer's scalars at one step, "bucket" the moments of its input channels
in one bucket of time; see `SCHEMA`. Steps at which a layer did not run have no row. The file's metadata has the
format's name and version, the checkpoint's fingerprint, and both axes of time as JSON.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench.calibration.layer_record import (
    MAX_BUCKETS,
    MAX_STEPS,
    STEP_FIELDS,
    FloatArray,
    LayerRecord,
    StepStatistics,
)
from workbench.errors import MetadataError, ModelNotFoundError, ValidationError
from workbench.text_file import FileKind, new_file

FORMAT = "arrowquant-calibration"
VERSION = 1

CHANNEL_FIELDS = ("mean", "second_moment", "absmax")

SCHEMA = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # linear, conv or embedding
        pa.field("scope", pa.string(), nullable=False),  # step or bucket
        pa.field("index", pa.int32(), nullable=False),  # place on the axis of time
        pa.field("count", pa.int64(), nullable=False),  # values of a step, vectors of a bucket
        *(pa.field(name, pa.float64()) for name in STEP_FIELDS[1:]),  # of a step; of all its values together
        *(pa.field(f"channel_{name}", pa.list_(pa.float32())) for name in CHANNEL_FIELDS),  # of a bucket
        pa.field("output_energy", pa.float64()),  # of a bucket: E‖Wx‖² without the bias
        pa.field("sensitivity", pa.map_(pa.string(), pa.float64())),  # of a bucket, by estimator
    ]
)
"""Columns of the file. What does not belong to a row's scope is null in it."""

KINDS = ("linear", "conv", "embedding")

NOT_NEGATIVE = ("variance", "absmax_p99", "absmax_p999")
"""Scalars of a step that are never negative."""


Axes = dict[str, FloatArray]
"""``steps`` and ``buckets``, [n, 2], ``step_calls`` and ``bucket_calls``, [n]."""

_AXES = (("steps", "step_calls", MAX_STEPS), ("buckets", "bucket_calls", MAX_BUCKETS))


def write_file(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    axes: Axes,
    layers: Mapping[str, LayerRecord],
    *,
    overwrite: bool = False,
) -> None:
    """Write a file of records.

    Parameters
    ----------
    path : path-like
    metadata : mapping
        ``fingerprint`` and ``time``, text, and ``made_by``, plain values.
    axes, layers
        What is written.
    overwrite : bool
        Replace the records that are there; another file is never replaced.

    Raises
    ------
    ValidationError
        If there is a file already that is not to be replaced, or it cannot be written; nothing is left half-written.
    """
    path = Path(path)
    text = {
        "format": FORMAT,
        "version": str(VERSION),
        "writer": f"arrowquant-workbench {version('arrowquant-workbench')}",
        **metadata,
        "made_by": json.dumps(metadata["made_by"], ensure_ascii=False),
        **{name: json.dumps(values.tolist()) for name, values in axes.items()},
    }
    schema = SCHEMA.with_metadata(text)
    try:
        with (
            new_file(path, RECORDS_FILE, overwrite=overwrite) as temporary,
            pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
        ):
            for name, record in layers.items():  # a row group a layer, so that memory stays bounded
                writer.write_table(pa.Table.from_pylist(_rows(name, record), schema))
    except OSError as error:
        raise ValidationError(
            f"{path} cannot be written: {error.strerror}. Choose another place.", path=path
        ) from error


def _is_records(path: Path) -> bool:
    try:
        with pq.ParquetFile(path) as file:
            return (file.schema_arrow.metadata or {}).get(b"format") == FORMAT.encode()
    except (pa.ArrowException, OSError):
        return False


RECORDS_FILE = FileKind("a file of calibration records", _is_records, largest=2**63)
"""The kind of file that `write_file` writes."""


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `write_file` wrote: the values of its metadata and axes by name, and ``layers``.

    Raises
    ------
    ModelNotFoundError
        If there is no such file.
    MetadataError
        If it is no file of calibration records, of an unknown version, or inconsistent; names the layer.
    ValidationError
        If a value in it is NaN or Inf, or negative where that cannot be; names the layer.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFoundError(
            f"{path}: there are no calibration records. Make them with workbench.live.capture.", path=path
        )
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata, axes = _read_metadata(path, file.schema_arrow)
            layers: dict[str, LayerRecord] = {}
            for group in range(file.num_row_groups):
                for name, rows in _by_layer(file.read_row_group(group)).items():
                    if name in layers:
                        raise _wrong(path, f"the layer {name!r} stands in it twice", name)
                    layers[name] = _record(path, name, rows, len(axes["steps"]), len(axes["buckets"]))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # names may be damaged too
        raise _wrong(path, f"it cannot be read ({error})") from error
    return {**metadata, **axes, "layers": layers}


def _rows(name: str, record: LayerRecord) -> list[dict[str, Any]]:
    base = {"layer": name, "kind": record.kind}
    steps = record.steps
    rows = [
        base
        | {"scope": "step", "index": int(index)}
        | {field: getattr(steps, field)[index].item() for field in STEP_FIELDS}
        for index in np.flatnonzero(steps.count > 0)
    ]
    for index in np.flatnonzero(record.count > 0):
        known = {key: float(values[index]) for key, values in record.sensitivity.items()}
        rows.append(
            base
            | {"scope": "bucket", "index": int(index), "count": int(record.count[index])}
            | {f"channel_{field}": getattr(record, field)[index] for field in CHANNEL_FIELDS}
            | {
                "output_energy": float(record.output_energy[index]),
                "sensitivity": [item for item in known.items() if math.isfinite(item[1])],
            }
        )
    return rows


def _read_metadata(path: Path, schema: pa.Schema) -> tuple[dict[str, Any], Axes]:
    raw = schema.metadata or {}
    text = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in raw.items()}
    if text.get("format") != FORMAT:
        raise _wrong(path, f"its metadata does not say format={FORMAT}")
    if text.get("version") != str(VERSION):
        raise _wrong(
            path, f"its version is {text.get('version')!r} and this release reads {VERSION}; capture again"
        )
    if not schema.equals(SCHEMA, check_metadata=False):
        raise _wrong(path, "its columns are not those of the format")
    axes: Axes = {}
    for axis, calls, most in _AXES:
        ranges, counts = _numbers(path, text, axis), _numbers(path, text, calls)
        if counts.ndim != 1 or ranges.shape != (len(counts), 2) or not 1 <= len(counts) <= most:
            raise _wrong(path, f"the axis {axis!r} has the shape {ranges.shape} with {counts.shape} counts")
        low, high = ranges.T
        if (low > high).any() or (low[1:] <= high[:-1]).any() or (counts <= 0).any():
            raise _wrong(path, f"the axis {axis!r} does not ascend, or has an interval without calls")
        axes |= {axis: ranges, calls: counts}
    try:
        made_by = json.loads(text.get("made_by", "{}"))
    except (ValueError, RecursionError) as error:
        raise _wrong(path, "its made_by is not JSON") from error
    if not isinstance(made_by, dict):
        raise _wrong(path, "its made_by is not a mapping")
    metadata = {key: text.get(key, "") for key in ("fingerprint", "time")}
    return {**metadata, "made_by": made_by}, axes


def _numbers(path: Path, metadata: Mapping[str, str], key: str) -> FloatArray:
    try:
        array = np.array(json.loads(metadata[key]), np.float64)
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _wrong(path, f"its {key!r} is not a list of numbers") from error
    if not np.isfinite(array).all():
        raise _wrong(path, f"its {key!r} has a value that is NaN or Inf")
    return array


def _by_layer(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    columns = table.to_pydict() | {
        f"channel_{field}": [
            None if value is None else np.asarray(value, np.float32)
            for value in (
                scalar.values.to_numpy(zero_copy_only=False) if scalar.is_valid else None
                for scalar in table[f"channel_{field}"]
            )
        ]
        for field in CHANNEL_FIELDS
    }
    for place, name in enumerate(columns["layer"]):
        found.setdefault(name, []).append({key: values[place] for key, values in columns.items()})
    return found


def _record(path: Path, name: str, rows: list[dict[str, Any]], steps: int, buckets: int) -> LayerRecord:
    kinds = {row["kind"] for row in rows}
    if len(kinds) != 1 or not kinds <= set(KINDS):
        raise _wrong(path, f"the layer {name!r} has the kinds {sorted(kinds)}", name)
    scalars = _select(path, name, rows, "step", steps)
    vectors = _select(path, name, rows, "bucket", buckets)
    if len(scalars) + len(vectors) != len(rows) or not scalars or not vectors:
        raise _wrong(path, f"the layer {name!r} lacks steps or buckets, or has a row of neither", name)
    found: dict[str, Any] = {
        field: np.full(steps, 0 if field == "count" else np.nan, np.int64 if field == "count" else np.float64)
        for field in STEP_FIELDS
    }
    for index, row in scalars.items():
        for field in STEP_FIELDS:
            least = 0.0 if field in NOT_NEGATIVE else -math.inf
            found[field][index] = _finite(path, name, field, row[field], least)
        if row["minimum"] > row["maximum"]:
            raise ValidationError(
                f"{path}: minimum of {name!r} is above its maximum.", path=path, tensor=name
            )
    sizes = {len(row[f"channel_{field}"]) for row in vectors.values() for field in CHANNEL_FIELDS}
    if len(sizes) != 1 or 0 in sizes:
        raise _wrong(path, f"the layer {name!r} has channels of several numbers, {sorted(sizes)}", name)
    channels = {field: np.zeros((buckets, *sizes), np.float32) for field in CHANNEL_FIELDS}
    count, energy = np.zeros(buckets, np.int64), np.zeros(buckets)
    sensitivity: dict[str, NDArray[np.float64]] = {}
    for index, row in vectors.items():
        count[index] = row["count"]
        energy[index] = _finite(path, name, "output_energy", row["output_energy"], least=0.0)
        for field in CHANNEL_FIELDS:
            values = row[f"channel_{field}"]
            least = -np.inf if field == "mean" else 0.0
            if not np.isfinite(values).all() or (values < least).any():
                raise ValidationError(
                    f"{path}: channel_{field} of {name!r} has a value that is NaN, Inf or negative.",
                    path=path,
                    tensor=name,
                )
            channels[field][index] = values
        for estimator, value in row["sensitivity"] or ():
            values = sensitivity.setdefault(estimator, np.full(buckets, np.nan))
            values[index] = _finite(path, name, f"sensitivity {estimator!r}", value, least=0.0)
    return LayerRecord(
        kind=kinds.pop(),
        steps=StepStatistics(**found),
        count=count,
        output_energy=energy,
        sensitivity=sensitivity,
        **channels,
    )


def _select(
    path: Path, name: str, rows: list[dict[str, Any]], scope: str, size: int
) -> dict[int, dict[str, Any]]:
    """Rows of a scope by their place on its axis; every place is checked."""
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["scope"] != scope:
            continue
        index = row["index"]
        lacking = scope == "bucket" and any(row[f"channel_{field}"] is None for field in CHANNEL_FIELDS)
        if not 0 <= index < size or index in found or row["count"] < 1 or lacking:
            raise _wrong(
                path, f"the row of {name!r} for {scope} {index} is doubled, out of place or empty", name
            )
        found[index] = row
    return found


def _finite(path: Path, name: str, field: str, value: float | None, least: float = -math.inf) -> float:
    if value is None or not math.isfinite(value) or value < least:
        raise ValidationError(f"{path}: {field} of {name!r} is {value}.", path=path, tensor=name)
    return value


def _wrong(path: Path, problem: str, layer: str | None = None) -> MetadataError:
    return MetadataError(f"{path}: not usable as calibration records: {problem}.", path=path, tensor=layer)
