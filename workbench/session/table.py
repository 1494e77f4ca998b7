"""A session as a table, where no widget runs."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from workbench.session.study import Study
from workbench.session.tuning import Tuning
from workbench.session.values import Totals

SHOWN = 60
"""Layers shown at most."""

_HEADINGS = ("layer", "role", "shape", "weights", "Ĥ", "bits", "scheme", "bpw", "NSR", "")


def _rows(study: Study, tuning: Tuning) -> list[Sequence[str]]:
    chosen = study.starts[:SHOWN] + np.array(tuning.choice[:SHOWN], np.int64)
    damage = study.prices["nsr"].take(chosen).to_pylist()
    rows: list[Sequence[str]] = []
    for row, layer in enumerate(study.profile.slice(0, SHOWN).to_pylist()):
        name = layer["name"]
        option = study.options[row][tuning.choice[row]]
        nsr = damage[row]
        entropy = layer["entropy"]
        rows.append(
            (
                name,
                layer["role"],
                "×".join(map(str, layer["shape"])),
                f"{layer['params']:,}",
                "" if entropy is None else f"{entropy:.3f}",
                str(option.bits),
                option.scheme if option.is_kept else f"{option.scheme} g{option.group_size}",
                f"{8 * option.nbytes / layer['params']:.3f}",
                f"{nsr:.2e}",
                "locked" if row in tuning.locks else "",
            )
        )
    return rows


def _caption(study: Study, totals: Totals) -> str:
    return (
        f"{study.checkpoint.path.name} → {study.target.name}: {totals.nbytes / 1e6:,.3f} MB "
        f"({totals.ratio:.2f}× smaller), {totals.bpw:.3f} bits a weight, ΣD {totals.nsr:.4g}, "
        f"at most {totals.gap:.2%} from the best plan of these bytes"
    )


def _rest(study: Study) -> str:
    hidden = len(study.layers) - SHOWN
    return f"… and {hidden} more layers" if hidden > 0 else ""


def text_table(study: Study, tuning: Tuning, totals: Totals) -> str:
    """The session in plain text."""
    rows = [_HEADINGS, *_rows(study, tuning)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(filter(None, [_caption(study, totals), *lines, _rest(study)]))


def html_table(study: Study, tuning: Tuning, totals: Totals) -> str:
    """The session as an HTML table; every text of the checkpoint is escaped."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in _rows(study, tuning))
    return (
        f"<table><caption>{html.escape(_caption(study, totals))}</caption><thead>{line(_HEADINGS, 'th')}</thead>"
        f"<tbody>{body}</tbody></table><p>{_rest(study)}</p>"
    )
