"""What the layer table ships of a session: columns that stay, menus, and the present plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.layer_names import natural_order
from workbench.plan import KEEP
from workbench.session import Snapshot
from workbench.thermo import Front

Arrays = dict[str, NDArray[Any]]


class Columns:
    """A session's columns as arrays for the browser.

    Parameters
    ----------
    now : Snapshot
        Of the session; the columns hold for every later one with the same options.
    """

    def __init__(self, now: Snapshot) -> None:
        measured = now.measurements
        layers, options = measured.profile, measured.option_table
        self.options = options
        self.names: list[str] = layers["name"].to_pylist()
        self.shapes = ["×".join(map(str, shape)) for shape in layers["shape"].to_pylist()]
        self.roles, role = _coded(layers["role"])
        self.schemes, scheme = _coded(options["scheme"])
        self._options: Arrays = {
            "bits": _numbers(options["bits"], "u1"),
            "scheme": scheme.astype("u1"),
            "group": _numbers(options["group_size"], "u4"),
            "nbytes": _numbers(options["nbytes"], "f8"),
            "damage": _numbers(options["damage"], "f8"),
            "cosine": _numbers(options["cosine"], "f8"),
            "code_entropy": _numbers(options["code_entropy"], "f4"),
        }
        self.fixed: Arrays = {
            "order": np.array(natural_order(self.names), "u4"),
            "params": _numbers(layers["params"], "f8"),
            "role": role.astype("u1"),
            "entropy": _numbers(layers["entropy"], "f4"),
        }
        for name in ("heterogeneity", "importance"):
            if name in layers.column_names:
                self.fixed[name] = _numbers(layers[name], "f4")
        self.fixed |= self._menus(measured.menu)
        self._starts = measured.starts

    def _menus(self, menu: NDArray[np.int64]) -> Arrays:
        """The different options of each layer's menu, layer by layer, and which of them a width is."""
        distinct = [np.unique(row) for row in menu]
        places = [np.searchsorted(found, row) for found, row in zip(distinct, menu, strict=True)]
        flat = np.concatenate([*distinct, np.zeros(0, np.int64)])
        return {
            "menu_start": np.cumsum([0, *map(len, distinct)]).astype("u4"),
            "width_place": np.array(places, "u1").reshape(-1, 8),
            **{f"menu_{name}": values[flat] for name, values in self._options.items()},
        }

    def variants(self, now: Snapshot, row: int) -> list[dict[str, Any]]:
        """The options of a layer that have the width of its present one, and other schemes or group sizes."""
        stop = self._starts[row + 1] if row + 1 < len(self._starts) else self.options.num_rows
        places = np.arange(self._starts[row], stop)
        bits, scheme, group = (self._options[name] for name in ("bits", "scheme", "group"))
        kept = [self.schemes[code] == KEEP for code in scheme[places].tolist()]
        alike = places[(bits[places] == bits[now.rows[row]]) & ~np.array(kept, np.bool_)]
        return [
            {
                "bits": int(bits[place]),
                "scheme": self.schemes[scheme[place]],
                "group": int(group[place]),
                "nbytes": float(self._options["nbytes"][place]),
                "damage": float(self._options["damage"][place]),
                "present": bool(place == now.rows[row]),
            }
            for place in alike.tolist()
        ]

    def steps(self, front: Front) -> Arrays:
        """The way along the hulls from the fewest bytes on: the first option of each layer, then what each step takes.

        Parameters
        ----------
        front : Front
            Of the session without any limits.

        Returns
        -------
        dict of str to array
            rows, and the option that each gets: bits, scheme, group, nbytes, damage, cosine, code_entropy,
            [layers + steps].
        """
        rows = np.concatenate([np.arange(len(front.start)), front.row])
        places = np.concatenate([front.start, front.place])
        chosen = self._starts[rows] + places
        return {"rows": rows.astype("u4"), **{name: values[chosen] for name, values in self._options.items()}}

    def present(self, now: Snapshot, layers: NDArray[np.int64]) -> Arrays:
        """What the plan makes of some layers, by index, and of all together.

        Returns
        -------
        dict of str to array
            rows, and of these bits, scheme, group, nbytes, damage, cosine, code_entropy, heat and locked; of all layers
            choice_entropy; totals: nbytes, ratio, bpw, damage, gap, temperature.
        """
        chosen = now.rows[layers]
        totals = now.totals
        return {
            "rows": layers.astype("u4"),
            **{name: values[chosen] for name, values in self._options.items()},
            "heat": _numbers(now.present["temperature_up"], "f8")[layers],
            "locked": now.locked[layers].astype("u1"),
            "choice_entropy": _numbers(now.present["entropy"], "f4"),
            "totals": np.array(
                [totals.nbytes, totals.ratio, totals.bpw, totals.damage, totals.gap, totals.temperature], "f8"
            ),
        }


def changed(before: Snapshot, after: Snapshot) -> NDArray[np.int64]:
    """Layers, by index, whose option or lock is another."""
    return np.flatnonzero((before.rows != after.rows) | (before.locked != after.locked))


def _numbers(column: pa.ChunkedArray, kind: str) -> NDArray[Any]:
    """A column as numbers; null is NaN."""
    values = column.to_numpy()
    return np.asarray(values, np.float64).astype(kind)


def _coded(column: pa.ChunkedArray) -> tuple[list[str], NDArray[Any]]:
    """The different texts of a column, and which each entry is."""
    coded = column.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy()
