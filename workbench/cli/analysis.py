"""``workbench analyze``: how the weights of the layers are distributed, and what each width costs them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench import terminal
from workbench.cli.ahead import look_ahead, open_ahead
from workbench.cli.arguments import (
    AllWidths,
    Calibration,
    Component,
    Effort,
    Exact,
    Groups,
    Json,
    Keep,
    Model,
    Names,
    Target,
    settings_from,
)
from workbench.text_file import FileKind, require_absent, write_text

Row = Mapping[str, Any]

HEADINGS: Mapping[str, str] = {
    "name": "layer",
    "role": "role",
    "params": "weights",
    "entropy": "Ĥ",
    "crest": "crest",
    "kurtosis": "kurtosis",
    "exponent_entropy": "H exp",
    "importance": "κ",
    "heterogeneity": "V",
}
"""Headings of the columns that the table may have, by their names in JSON and CSV."""

DIGITS: Mapping[str, int] = {
    "entropy": 3,
    "crest": 1,
    "kurtosis": 2,
    "exponent_entropy": 2,
    "heterogeneity": 2,
}
"""Decimals of the columns that are not shown in three digits."""

NAME_ROOM = 36
"""Characters of a layer's name for which columns are left out, of a wide terminal two fifths."""

NAMED = 3
"""How many layers a sentence names."""

CSV = FileKind("a table", lambda _: False)
"""What ``--csv`` writes; it never replaces a file."""


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(short_help="Show how the weights of the layers are distributed.")(analyze)


def analyze(
    model: Model,
    target: Target = None,
    top: Annotated[
        int, typer.Option(min=0, help="How many layers to show, the worst first; 0 shows all.", metavar="N")
    ] = 10,
    sort: Annotated[
        str | None,
        typer.Option(
            help="What to sort by: a heading such as crest or 'NSR 4', or its name in CSV. Numbers begin with the "
            "greatest. By default the error at 4 bits.",
            metavar="COLUMN",
        ),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="Write every layer and column as CSV; it must not exist.", metavar="FILE"),
    ] = None,
    component: Component = None,
    calibration: Calibration = None,
    time_groups: Groups = 10,
    keep: Keep = None,
    effort: Effort = None,
    names: Names = None,
    exact: Exact = False,
    all_widths: AllWidths = False,
    as_json: Json = False,
) -> None:
    """Show how the weights of the layers are distributed, and what each width would cost them.

    Ĥ is the normalised entropy of the histogram, crest the peak over σ, H exp the entropy of the exponent bits;
    NSR 4 is the noise-to-signal ratio of the best option of 4 bits. With a calibration it is D, the predicted
    error of the model's output; κ says how strongly the output feels the layer, V how unlike the time groups'
    activations are. A narrow terminal shows fewer columns; --csv and --json have all. Measurements are remembered.

    Example: workbench analyze zoo:digits-dit --sort crest --top 5
    """
    settings = settings_from(shard_size=None, all_widths=all_widths)
    if csv_file is not None:
        require_absent(csv_file)
    with look_ahead(model, component, target, names, patterns={"--keep": keep or []}) as ahead:
        if not as_json:
            ahead.say(model)
        session = open_ahead(
            ahead, model, component, exact, calibration, time_groups, effort, names, keep or [], settings,
            shown=not as_json,
        )  # fmt: skip
    with session:
        layers, options = session.layers.to_pylist(), session.options.to_pylist()
        path, nbytes, notes = str(session.checkpoint.path), session.checkpoint.nbytes, session.notes
    best = _best(options)
    rows: list[Row] = [{**layer, **best.get(layer["name"], {})} for layer in layers]
    error = "NSR" if calibration is None else "damage"
    headings = {**HEADINGS} | {f"damage_{bits}": f"{error} {bits}" for bits in range(2, 9)}
    rows = _sorted(rows, _column(sort, rows, headings))
    if csv_file is not None:
        _write_csv(csv_file, rows)
    if as_json:
        terminal.print_json(
            {"model": path, "target": ahead.target, "notes": notes, "layers": layers, "options": options}
        )
        return
    print(*_summary(model, ahead.target, nbytes, layers, options), sep="\n")
    terminal.print_table(_by_width(options, error))
    shown = rows[:top] if top else rows
    width = terminal.width()
    terminal.print_table(_table(shown, headings, width))
    if csv_file is not None:
        print(f"{csv_file}: {len(rows)} layers")
    elif len(shown) < len(rows):
        print(f"{len(rows) - len(shown)} more layers: --top 0 shows all, --csv FILE writes every column.")
    print(*notes, sep="\n", end="\n" if notes else "")


def _best(options: Sequence[Row]) -> dict[str, dict[str, float]]:
    """The least error of each layer at each width, as columns by layer."""
    from workbench.plan import KEEP

    found: dict[str, dict[str, float]] = {}
    for option in options:
        if option["scheme"] != KEEP:
            columns, key = found.setdefault(option["layer"], {}), f"damage_{option['bits']}"
            columns[key] = min(option["damage"], columns.get(key, option["damage"]))
    return found


def _column(asked: str | None, rows: Sequence[Row], headings: Mapping[str, str]) -> str:
    """The column to sort by, by its name or its heading."""
    known = [key for key in {**dict.fromkeys(rows[0] if rows else ()), **headings} if key != "shape"]
    there = {key for row in rows for key in row}
    known = [key for key in known if key in there]
    if asked is None:
        widths = [key for key in known if key.startswith("damage_")]
        return next((key for key in widths if key >= "damage_4"), widths[-1] if widths else "params")
    by_word = {headings.get(key, key).lower(): key for key in known} | {key.lower(): key for key in known}
    by_word |= {key.replace("damage_", "nsr_"): key for key in known}  # their names in version 0.1
    if asked.lower() in by_word:
        return by_word[asked.lower()]
    from workbench.config_sources import did_you_mean

    shown = [headings.get(key, key) for key in known]
    near = did_you_mean(asked, [*shown, *known])
    raise typer.BadParameter(
        f"there is no column {asked!r}; {near or 'there are: ' + ', '.join(shown) + '.'}", param_hint="--sort"
    )


def _sorted(rows: Sequence[Row], column: str) -> list[Row]:
    """Rows with the greatest number first and those without one last; texts in natural order."""
    texts = [row for row in rows if isinstance(row.get(column), str)]
    if texts:
        return sorted(rows, key=lambda row: _natural(str(row[column])))
    with_value = [row for row in rows if row.get(column) is not None]
    without = [row for row in rows if row.get(column) is None]
    return sorted(with_value, key=lambda row: -float(row[column])) + without


def _natural(text: str) -> list[tuple[int, int | str]]:
    """A key by which 2 comes before 10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part]


def _summary(
    model: str, target: str, nbytes: int, layers: Sequence[Row], options: Sequence[Row]
) -> Iterator[str]:
    from workbench.plan import KEEP

    weights = sum(layer["params"] for layer in layers)
    yield f"{model}: {len(layers)} layers, {weights:,} weights, {nbytes / 1e6:.3f} MB with all tensors"
    quantizable = {option["layer"] for option in options if option["scheme"] != KEEP}
    kept = [layer["name"] for layer in layers if layer["name"] not in quantizable]
    if kept:
        more = f" and {len(kept) - NAMED} more" if len(kept) > NAMED else ""
        names = ", ".join(kept[:NAMED])
        have = "1 layer has" if len(kept) == 1 else f"{len(kept)} layers have"
        yield f"{have} no option in {target} but to keep the dtype: {names}{more}."
    yield "All layers at one width, each in its best option:"


def _by_width(options: Sequence[Row], error: str) -> list[dict[str, str]]:
    """What all layers come to at each width: the best option of it, else of the next wider, else kept."""
    from workbench.plan import KEEP

    by_layer: dict[str, list[Row]] = {}
    for option in options:
        by_layer.setdefault(option["layer"], []).append(option)
    rows = []
    widths = {option["bits"] for option in options if option["scheme"] != KEEP}
    for bits in sorted(widths & set(range(2, 9))):
        chosen = [
            min(
                found, key=lambda one: (one["scheme"] == KEEP, one["bits"] < bits, one["bits"], one["damage"])
            )
            for found in by_layer.values()
        ]
        worst = max(chosen, key=lambda one: float(one["damage"]))
        rows.append(
            {
                "bits": f"{bits}",
                "MB": f"{sum(one['nbytes'] for one in chosen) / 1e6:.3f}",
                f"mean {error}": terminal.number(sum(one["damage"] for one in chosen) / len(chosen)),
                f"worst {error}": terminal.number(worst["damage"]),
                "worst layer": terminal.elided([worst["layer"]], NAME_ROOM)[0],
            }
        )
    return rows


def _table(rows: Sequence[Row], headings: Mapping[str, str], width: int) -> list[dict[str, str]]:
    """The rows as cells, with as many columns as the width has room for beside the names."""
    there = {key for row in rows for key in row}
    wanted = ["name", "damage_4", "damage_2", "damage_8", "damage_3", "crest", "importance", "params", "role"]
    wanted += ["kurtosis", "entropy", "damage_6", "damage_5", "damage_7", "exponent_entropy", "heterogeneity"]
    cells = {key: [_cell(row, key) for row in rows] for key in wanted if key in there and key in headings}
    sizes = (
        {key: 3 + max(len(headings[key]), *map(len, found)) for key, found in cells.items()} if rows else {}
    )
    name_room = max(NAME_ROOM, 2 * width // 5)
    room = width - min(sizes.get("name", 0), name_room)
    chosen = {"name"}
    for key in list(cells)[1:]:
        if sizes[key] <= room:
            chosen.add(key)
            room -= sizes[key]
    names = name_room + room - 3 if sizes.get("name", 0) > name_room else 0
    if names:
        cells["name"] = terminal.elided(cells["name"], names)
    order = [key for key in headings if key in chosen]
    return [{headings[key]: cells[key][place] for key in order} for place in range(len(rows))]


def _cell(row: Row, key: str) -> str:
    value = row.get(key)
    if isinstance(value, str):
        return value
    if key == "params":
        return f"{value:,}"
    if key in DIGITS:
        return "–" if value is None else f"{value:.{DIGITS[key]}f}"
    return terminal.number(value)


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    columns.sort(key=lambda key: (key.startswith("damage_"), key if key.startswith("damage_") else ""))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_plain(terminal.finite(row.get(key))) for key in columns)
    write_text(path, text.getvalue(), CSV)


def _plain(value: Any) -> Any:
    return "x".join(map(str, value)) if isinstance(value, list) else "" if value is None else value
