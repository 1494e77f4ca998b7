"""The table of a plan: the option of each layer, its cost, its local temperatures and its entropy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from workbench.session.state import State
from workbench.table import Table
from workbench.thermo import gibbs, local_temperatures


def thermodynamics_table(state: State) -> Table:
    """The option of each layer, what it costs, and how settled it is.

    Parameters
    ----------
    state : State

    Returns
    -------
    Table
        A row a layer: name; bits, scheme, group_size and nbytes of its option, bpw (bits per weight, scales
        included), nsr, damage (D), error_by_group and cosine, code_entropy (H(q) in bits per weight, null where the
        layer is kept); temperature_up (the layer's heat: damage that each bit more would save; above the
        plan's T it deserves more bits) and temperature_down (damage that each bit less would cost,
        `workbench.thermo.local_temperatures`); entropy (S of the choice in nats: high where several widths are about
        equally good, 0 where one is clearly best) and heat_capacity at the plan's T.
    """
    measured = state.measurements
    choice = np.array(state.choice, np.int64)
    rows = np.arange(len(choice))
    present = measured.option_table.take(state.option_rows)
    up, down = local_temperatures(measured.costs, choice)
    ensemble = gibbs(measured.costs, state.totals.temperature)
    nbytes = measured.costs.nbytes[rows, choice]
    return Table(
        pa.table(
            {
                "name": [layer.name for layer in measured.layers],
                **{column: present[column] for column in ("bits", "scheme", "group_size", "nbytes")},
                "bpw": 8 * nbytes / measured.costs.params,
                "nsr": present["nsr"],
                "damage": present["damage"],
                "error_by_group": present["error_by_group"],
                "cosine": present["cosine"],
                "code_entropy": present["code_entropy"],
                "temperature_up": up,
                "temperature_down": down,
                "entropy": ensemble.entropy,
                "heat_capacity": ensemble.heat_capacity,
            }
        )
    )
