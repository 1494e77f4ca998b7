"""What the command line prints: progress on stderr, tables or one JSON document on stdout."""

from __future__ import annotations

import json
import math
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from workbench.errors import ArrowQuantError
from workbench.layer_names import natural_order

if TYPE_CHECKING:
    from workbench.engine import Report, Verification
    from workbench.session.prediction import Prediction

WIDTH_OF_FILES = 200
"""Columns of a table that goes to a file or another program, which cannot say how wide it is."""

_NUMBERS = (
    "bits",
    "group",
    "layers",
    "weights",
    "MB",
    "ratio",
    "bpw",
    "NSR",
    "cosine",
    "seconds",
    "Δ",
    "bytes",
    "Ĥ",
    "crest",
    "kurtosis",
    "H exp",
    "κ",
    "V",
)
_ERRORS = ("NSR ", "D ", "mean ", "worst N", "worst D", "lowest ")
"""How headings of other columns of numbers begin."""


@contextmanager
def progress_bar(
    title: str, nbytes: int, shown: bool = True
) -> Iterator[Callable[[float, str], None] | None]:
    """A bar on stderr with the rate and the time left, driven by the callback that it yields.

    Parameters
    ----------
    title : str
        Stands before the bar.
    nbytes : int
        Bytes of source that a fraction of 1 means.
    shown : bool
        Without it, or where stderr is not a terminal, there is no bar, and None is yielded.
    """
    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(escape(title), total=nbytes)

        def report(fraction: float, message: str) -> None:
            bar.update(task, completed=fraction * nbytes, description=escape(f"{title}: {message}"))

        yield report


@contextmanager
def ctrl_c() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that work ends where it can clean up; a second Ctrl-C interrupts at once."""
    cancel = threading.Event()
    previous = signal.getsignal(signal.SIGINT)

    def set_once(number: int, frame: object) -> None:
        cancel.set()
        signal.signal(signal.SIGINT, previous)

    if previous is not signal.default_int_handler:  # somebody else handles it, or it is to be ignored
        yield cancel
        return
    signal.signal(signal.SIGINT, set_once)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, previous)


def print_json(document: Mapping[str, Any]) -> None:
    """Print the one JSON document of a command; a figure that is not finite is null."""
    print(json.dumps(finite(document), indent=1, allow_nan=False))


def finite(value: Any) -> Any:
    """A value of a JSON document with None for every figure that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def print_error(error: BaseException | str, message: str, as_json: bool) -> None:
    """Print a message to stderr, and as JSON the error (or just its kind) with its facts to stdout."""
    print(f"Error: {message}", file=sys.stderr)
    if as_json:
        kind = error if isinstance(error, str) else type(error).__name__
        facts = error.context if isinstance(error, ArrowQuantError) else {}
        plain = {key: _plain(value) for key, value in facts.items() if value is not None}
        print_json({"error": {**plain, "type": kind, "message": message}})


def _plain(value: object) -> Any:
    """A fact of an error as JSON has it: text where it has nothing like it."""
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


def print_table(rows: Sequence[Mapping[str, str]]) -> None:
    """Print rows as a table; the keys of the first are its columns."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in rows[0] if rows else ():
        is_number = column in _NUMBERS or column.startswith(_ERRORS)
        table.add_column(column, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row.values()))
    Console(width=width(), highlight=False).print(table)


def width() -> int:
    """Columns that stdout has: of its terminal or by COLUMNS, else `WIDTH_OF_FILES`."""
    return shutil.get_terminal_size((WIDTH_OF_FILES, 24)).columns


def elided(names: Sequence[str], room: int) -> list[str]:
    """Distinct names in so many characters each, with a part left out where they are longer; they stay distinct.

    As they are where that cannot be, so that a table folds them.
    """
    for head in range((room - 1) // 3, room):
        shown = [_elided(name, room, head) for name in names]
        if len(set(shown)) == len(set(names)):
            return shown
    return list(names)


def _elided(name: str, room: int, head: int) -> str:
    if len(name) <= room:
        return name
    while head < room - 1 and name[head - 1 : head + 1].isdecimal():
        head += 1  # not half a number
    return f"{name[:head]}…{name[len(name) - (room - 1 - head) :]}"


def print_demo(
    model: str,
    asked: Mapping[str, tuple[int, Mapping[str, int]]],
    runs: Sequence[tuple[str, Report, Verification]],
) -> None:
    """Print what the exports of the demo came to, side by side; with the bits asked for, and those by glob."""
    rows = []
    for name, report, verification in runs:
        totals = totals_of(report.to_dict())
        seconds = totals.pop("seconds")
        rows.append(
            {"export": name, **totals, "verified": "yes" if verification.ok else "NO", "seconds": seconds}
        )
    first = runs[0][1]
    weights = sum(math.prod(layer.shape) for layer in first.layers)
    print(f"{model}: {len(first.layers)} layers, {weights:,} weights, {first.source_bytes / 1e6:.3f} MB")
    print_table(rows)
    for name, (bits, overrides) in asked.items():
        if overrides:
            print(
                f"{name}: {', '.join(f'{glob} {width}' for glob, width in overrides.items())}, else {bits} bits"
            )
    print("min_accuracy is 0 here, so that no layer gets more bits than asked for")
    print(f"kernels: {first.kernels}")
    for _, _, verification in runs:
        print(*verification.problems, sep="\n", end="\n" if verification.problems else "")


def print_prediction(ahead: Prediction) -> None:
    """Print what an export will take."""
    most = "" if ahead.is_exact else "at most "
    files = [*((name, count, most) for name, count in ahead.files.items())]
    files += [(name, count, "") for name, count in ahead.side_files.items()]
    print_table([{"file": name, "bytes": f"{prefix}{count:,}"} for name, count, prefix in files])
    print(f"The payload is {most}{ahead.nbytes:,} bytes; workbench.json comes beside it.")
    print(f"About {ahead.seconds:.1f} seconds here, and at most {ahead.peak_bytes / 1e6:,.0f} MB of memory.")


def totals_of(report: Mapping[str, Any]) -> dict[str, str]:
    """A report's totals as cells of a table."""
    return {
        "MB": f"{report['model_size_mb']:.3f}",
        "ratio": f"{report['compression_ratio']:.2f}",
        "bpw": f"{report['bpw']:.3f}",
        "NSR": number(report["nsr"]),
        "cosine": cosine(report["cosine_similarity"]),
        "seconds": f"{report['seconds']:.2f}",
    }


def roles_of(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row of a table for each role."""
    by_role: dict[str, list[Mapping[str, Any]]] = {}
    for layer in report["layers"]:
        by_role.setdefault(layer["role"], []).append(layer)
    rows = []
    for role, layers in by_role.items():
        weights = sum(math.prod(layer["shape"]) for layer in layers)
        nbytes = sum(layer["nbytes"] for layer in layers)
        cosines = [layer["cosine"] for layer in layers if layer["cosine"] is not None]
        errors = [layer["nsr"] for layer in layers if layer["nsr"] is not None]
        rows.append(
            {
                "role": role,
                "layers": f"{len(layers)}",
                "weights": f"{weights:,}",
                "bits": ", ".join(map(str, sorted({layer["bits"] for layer in layers}))),
                "bpw": f"{8 * nbytes / weights:.3f}",
                "MB": f"{nbytes / 1e6:.3f}",
                "mean NSR": number(sum(errors) / len(errors) if errors else None),
                "lowest cosine": cosine(min(cosines, default=None)),
            }
        )
    return rows


def layers_of(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row of a table for each layer."""
    from workbench.plan import KEEP

    return [
        {
            "layer": layer["name"],
            "role": layer["role"],
            "shape": "×".join(map(str, layer["shape"])),
            "bits": f"{layer['bits']}",
            "scheme": "kept" if layer["scheme"] == KEEP else layer["scheme"],
            "group": f"{layer['group_size'] or ''}",
            "bpw": f"{layer['bpw']:.3f}",
            "MB": f"{layer['nbytes'] / 1e6:.3f}",
            "NSR": number(layer["nsr"]),
            "cosine": cosine(layer["cosine"]),
        }
        for layer in _in_natural_order(report["layers"])
    ]


def checks_of(verification: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row of a table for each layer of an export that was verified; Δ only where a runtime's own package decoded."""
    from workbench.plan import KEEP

    is_judged = any(layer["max_difference"] is not None for layer in verification["by_layer"])
    return [
        {
            "layer": layer["name"],
            "bits": f"{layer['bits']}",
            "scheme": "kept" if layer["scheme"] == KEEP else layer["scheme"],
            "group": f"{layer['group_size'] or ''}",
            **({"Δ": number(layer["max_difference"])} if is_judged else {}),
            "NSR": number(layer["nsr"]),
            "cosine": cosine(layer["cosine"]),
        }
        for layer in _in_natural_order(verification["by_layer"])
    ]


def _in_natural_order(layers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [layers[row] for row in natural_order([layer["name"] for layer in layers])]


def remarks_on(report: Mapping[str, Any]) -> list[str]:
    """What a report has to say besides figures: fallbacks, misses, notes."""
    from workbench.plan import KEEP

    floor = f"min_accuracy {report['min_accuracy']:g}"
    remarks = []
    for layer in report["layers"]:
        if layer["fallback"]:
            now = "keeps its dtype" if layer["scheme"] == KEEP else f"has {layer['bits']} bits"
            remarks.append(f"{layer['name']} {now}: {', '.join(layer['fallback'])} under {floor}.")
        if not layer["met"]:
            remarks.append(f"{layer['name']} is under {floor}: {cosine(layer['cosine'])}.")
    return [*remarks, *report["notes"]]


def number(value: float | None) -> str:
    """An error in three digits; a dash where it is not finite."""
    return "–" if value is None else f"{value:.3g}"


def cosine(value: float | None) -> str:
    """A cosine in six decimals; a dash where it is not finite."""
    return "–" if value is None else f"{value:.6f}"
