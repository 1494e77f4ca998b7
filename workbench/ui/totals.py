"""The line of totals: size, ratio, width, predicted error, the certificate."""

from __future__ import annotations

import ipywidgets as widgets

from workbench.session import Session

LABELS = {
    "size": "bytes of the payload",
    "ratio": "bytes of the source over those of the payload",
    "bpw": "bits of the layers' data per weight, scales included",
    "ΣD": "predicted error, summed over the layers",
    "gap": "by how much another plan of these bytes could be better, at most",
    "T": "price of a bit: distortion saved per bit more",
}


class TotalsLine:
    """The totals of the present plan.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.widget = widgets.HTML()
        self.widget.add_class("aq-totals")
        self.follow()

    def follow(self) -> None:
        """Show the present totals."""
        totals = self.session.totals
        sign = "" if self.session.target.is_exact else "≤ "
        values = (
            f"{sign}{totals.nbytes / 1e6:,.3f} MB", f"{totals.ratio:.2f}×", f"{totals.bpw:.3f}",
            f"{totals.nsr:.4g}", f"{totals.gap:.2%}", f"{totals.temperature:.2e}",
        )  # fmt: skip
        cells = "".join(
            f'<span title="{LABELS[name]}" style="margin-right: 22px">{name} '
            f'<b style="font-variant-numeric: tabular-nums">{value}</b></span>'
            for name, value in zip(LABELS, values, strict=True)
        )
        self.widget.value = f'<div style="font-size: 13px">{cells}</div>'
