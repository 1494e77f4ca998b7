"""A session as a table, where no widget runs."""

from __future__ import annotations

import html
from collections.abc import Sequence

from workbench.plan import Plan
from workbench.session.study import Study
from workbench.session.values import Totals

SHOWN = 60
"""Layers shown at most."""

_HEADINGS = ("layer", "role", "shape", "weights", "Ĥ", "bits", "scheme", "bpw", "NSR", "")


def _rows(study: Study, plan: Plan) -> list[Sequence[str]]:
    priced = {
        (row["layer"], row["bits"], row["scheme"], row["group_size"]): row["nsr"]
        for row in study.prices.select(["layer", "bits", "scheme", "group_size", "nsr"]).to_pylist()
    }
    rows: list[Sequence[str]] = []
    for layer in study.profile.slice(0, SHOWN).to_pylist():
        name = layer["name"]
        option = plan.choices[name]
        nsr = priced[name, option.bits, option.scheme, option.group_size]
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
                "locked" if name in plan.locks else "",
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


def text_table(study: Study, plan: Plan, totals: Totals) -> str:
    """The session in plain text."""
    rows = [_HEADINGS, *_rows(study, plan)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(filter(None, [_caption(study, totals), *lines, _rest(study)]))


def html_table(study: Study, plan: Plan, totals: Totals) -> str:
    """The session as an HTML table; every text of the checkpoint is escaped."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in _rows(study, plan))
    return (
        f"<table><caption>{html.escape(_caption(study, totals))}</caption><thead>{line(_HEADINGS, 'th')}</thead>"
        f"<tbody>{body}</tbody></table><p>{_rest(study)}</p>"
    )
