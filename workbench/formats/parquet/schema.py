"""Extended Parquet V2: the columns, and what a file says of itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from workbench.errors import MetadataError, UsageError
from workbench.plan import Plan

FORMAT = "extended-parquet"
FORMAT_VERSION = "2.0"
MAJOR = 2

SCHEMA = pa.schema(
    [
        pa.field("layer_name", pa.string(), nullable=False),
        pa.field("block_index", pa.int32(), nullable=False),
        pa.field("row_start", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("shape", pa.list_(pa.int64()), nullable=False),
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("num_params", pa.int64(), nullable=False),
        pa.field("quant_type", pa.string(), nullable=False),
        pa.field("bit_width", pa.int32(), nullable=False),
        pa.field("quant_axis", pa.int32()),
        pa.field("group_size", pa.int32()),
        pa.field("packing", pa.string()),
        pa.field("data", pa.large_binary(), nullable=False),
        pa.field("scales", pa.list_(pa.float32()), nullable=False),
        pa.field("zero_points", pa.list_(pa.float32()), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("is_diffusion_model", pa.bool_(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("time_aware_quant_json", pa.string()),
        pa.field("spatial_quant_json", pa.string()),
        pa.field("activation_stats_json", pa.string()),
    ]
)
"""One row a block of consecutive rows of a tensor. ``num_params`` counts the block's weights, so that it can be
summed; quant_axis, group_size and packing are null in a block that is not quantized, the JSON columns where
there is nothing to say."""

_PREFIX = "arrowquant."


def part_name(index: int) -> str:
    """File name of a part."""
    return f"part-{index:05d}.parquet"


def stored_bytes(rows: int, cols: int, bits: int, group_size: int) -> int:
    """Bytes of a quantized block before it is compressed."""
    scales_and_zero_points = 8 * math.ceil(cols / group_size)
    return rows * ((cols * bits + 7) // 8 + scales_and_zero_points)


def export_metadata(plan: Plan) -> dict[str, str]:
    """Key/value metadata of every part file of an export."""
    return {
        _PREFIX + "format": FORMAT,
        _PREFIX + "format_version": FORMAT_VERSION,
        _PREFIX + "writer": f"arrowquant-workbench {version('arrowquant-workbench')}",
        _PREFIX + "fingerprint": plan.fingerprint,
        _PREFIX + "plan": json.dumps(plan.recipe, separators=(",", ":"), ensure_ascii=False),
    }


def part_metadata(part: int, parts: int) -> dict[str, str]:
    """Key/value metadata of a part file besides."""
    return {_PREFIX + "part": str(part), _PREFIX + "parts": str(parts)}


def read_file_metadata(metadata: Mapping[bytes, bytes] | None, where: str) -> tuple[Plan, int, int]:
    """Plan, part and number of parts that a part file's metadata states.

    Raises
    ------
    MetadataError
        If the file is not Extended Parquet of a known major version, or its metadata is malformed.
    """
    values: dict[str, Any] = {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for key, value in (metadata or {}).items()
    }

    def get(key: str) -> str:
        try:
            return str(values[_PREFIX + key])
        except KeyError:
            raise MetadataError(
                f"{where}: its metadata lacks {_PREFIX + key!r}; this is not a part of an Extended Parquet export.",
                path=where,
            ) from None

    if get("format") != FORMAT:
        raise MetadataError(f"{where}: the format {get('format')!r} is not {FORMAT!r}.", path=where)
    stated = get("format_version")
    if stated.split(".")[0] != str(MAJOR):
        raise MetadataError(
            f"{where}: format version {stated!r} is unknown; this release reads version {MAJOR}. Use the "
            "release of ArrowQuant Workbench that wrote it, or a newer one.",
            path=where,
            version=stated,
        )
    try:
        return _plan_of(get("plan")), int(get("part")), int(get("parts"))
    except (ValueError, RecursionError, UsageError) as error:
        raise MetadataError(f"{where}: its metadata is malformed: {error}", path=where) from error


@lru_cache(maxsize=1)
def _plan_of(text: str) -> Plan:
    """The plan that a text states; all parts of an export have the same."""
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("the plan is not an object")
    return Plan.from_dict(document)
