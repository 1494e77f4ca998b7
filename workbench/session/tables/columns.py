"""The columns that expressions speak of: what is known of every layer, and what the present plan makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.plan import KEEP
from workbench.table import Table

PROFILE = (
    "params", "entropy", "sigma", "crest", "kurtosis", "outlier_share", "differential_entropy", "exponent_entropy",
    "eta_squared", "heterogeneity", "scale_jump", "importance",
)  # fmt: skip
"""Numbers of `Session.layers` that have their own names; those of time are there with a calibration."""

PRESENT = {
    "bits": "bits",
    "group_size": "group_size",
    "nbytes": "nbytes",
    "bpw": "bpw",
    "damage": "damage",
    "nsr": "nsr",
    "cosine": "cosine",
    "code_entropy": "code_entropy",
    "heat": "temperature_up",
    "cold": "temperature_down",
    "choice_entropy": "entropy",
}
"""Numbers of `Session.thermodynamics`, by their names in expressions, where ``entropy`` is Ĥ of the weights and
``choice_entropy`` S of the width."""

UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
"""Units in which a layer's bytes can be spoken of, as in ``MB > 2``."""

HEADINGS = {
    "layer": "name",
    "lock": "locked",
    "weights": "params",
    "Ĥ": "entropy",
    "H(q)": "code_entropy",
    "S": "choice_entropy",
    "V": "heterogeneity",
    "κ": "importance",
    "kappa": "importance",
    "D": "damage",
    "weight_nsr": "nsr",
    "bytes": "nbytes",
    "group": "group_size",
}
"""Other names of the columns: what stands above them in the table, and what formulas call them."""


def layer_columns(profile: Table, present: Table, locked: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """The columns by name, an entry a layer.

    Parameters
    ----------
    profile : Table
        Of `Session.layers`.
    present : Table
        Of `Session.thermodynamics`.
    locked : bool [layers]

    Returns
    -------
    dict of str to array
        Texts name, role, dtype, scheme and shape, such as ``"64×32"``; conditions locked and kept; else float64: depth,
        rows and cols of the layer, `PROFILE` and `PRESENT`, and its bytes as kB, MB and GB. What is not known is NaN,
        as the depth outside the blocks.
    """
    shapes = profile["shape"].to_pylist()
    schemes = present["scheme"].to_numpy()
    return {
        "name": profile["name"].to_numpy(),
        "role": profile["role"].to_numpy(),
        "dtype": profile["dtype"].to_numpy(),
        "scheme": schemes,
        "shape": np.array(["×".join(map(str, shape)) for shape in shapes], object),
        "locked": locked,
        "kept": schemes == KEEP,
        "depth": _numbers(profile["depth"]),
        "rows": np.array([shape[0] for shape in shapes], np.float64),
        "cols": np.array([np.prod(shape[1:]) for shape in shapes], np.float64),
        **{name: _numbers(profile[name]) for name in PROFILE if name in profile.column_names},
        **{name: _numbers(present[column]) for name, column in PRESENT.items()},
        **{unit: _numbers(present["nbytes"]) / size for unit, size in UNITS.items()},
    }


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    return values
