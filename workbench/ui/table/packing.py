"""Arrays on their way to the browser: one buffer, and a layout that says what is where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("u1", "u2", "u4", "f4", "f8")
"""What `frontend/src/packing.js` can read, little-endian."""

Layout = list[list[str | int]]
"""Name, kind, offset in bytes and number of items of each array."""


def pack(arrays: Mapping[str, NDArray[Any]]) -> tuple[Layout, bytes]:
    """Arrays one after the other, each at a multiple of 8 bytes.

    Parameters
    ----------
    arrays : mapping of str to array
        Of dtypes in `KINDS`; more than one axis is flattened in C order.

    Returns
    -------
    layout : Layout
    blob : bytes
    """
    layout: Layout = []
    pieces: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        kind = array.dtype.str[1:]
        if kind not in KINDS:
            raise TypeError(f"{name} is of {array.dtype}, not one of {', '.join(KINDS)}.")
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        layout.append([name, kind, offset, array.size])
        pieces += [data, bytes(-len(data) % 8)]
        offset += len(data) + -len(data) % 8
    return layout, b"".join(pieces)


def unpack(layout: Layout, blob: bytes | memoryview) -> dict[str, NDArray[Any]]:
    """The arrays again, flat; what the browser does, for tests and other readers."""
    return {
        str(name): np.frombuffer(blob, f"<{kind}", int(count), int(offset))
        for name, kind, offset, count in layout
    }
