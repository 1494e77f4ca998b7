"""What follows from the present plan, layer by layer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from workbench.session.study import Study
from workbench.session.tuning import Tuning
from workbench.thermo import gibbs, local_temperatures


def present_table(study: Study, tuning: Tuning, temperature: float) -> pa.Table:
    """The option of each layer, what it costs, and how settled it is.

    Parameters
    ----------
    study : Study
    tuning : Tuning
    temperature : float
        The plan's price of a bit, of its totals.

    Returns
    -------
    pyarrow.Table
        A row a layer: name; bits, scheme, group_size and nbytes of its option, bpw (bits per weight, scales
        included), nsr, weight_nsr,
        nsr_by_group and cosine as they were priced, distortion (D), code_entropy (H(q) in bits per weight, null
        where the layer is kept); temperature_up (the layer's heat: damage that each bit more would save; above the
        plan's T it deserves more bits) and temperature_down (damage that each bit less would cost,
        `workbench.thermo.local_temperatures`); entropy (S of the choice in nats: high where several widths are about
        equally good, 0 where one is clearly best) and heat_capacity at the plan's T.
    """
    choice = np.array(tuning.choice, np.int64)
    rows = np.arange(len(choice))
    present = study.prices.take(study.starts + choice)
    up, down = local_temperatures(study.costs, choice)
    ensemble = gibbs(study.costs, temperature)
    nbytes = study.costs.nbytes[rows, choice]
    return pa.table(
        {
            "name": [layer.name for layer in study.layers],
            **{column: present[column] for column in ("bits", "scheme", "group_size", "nbytes")},
            "bpw": 8 * nbytes / study.costs.params,
            "nsr": present["nsr"],
            "weight_nsr": present["weight_nsr"],
            "nsr_by_group": present["nsr_by_group"],
            "distortion": study.costs.distortion[rows, choice],
            "cosine": present["cosine"],
            "code_entropy": present["code_entropy"],
            "temperature_up": up,
            "temperature_down": down,
            "entropy": ensemble.entropy,
            "heat_capacity": ensemble.heat_capacity,
        }
    )
