"""Options of layers by width, scheme and group size, and which of them are not of the width asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from workbench.errors import PlanError
from workbench.formats.requests import described
from workbench.plan import Option
from workbench.session.measurements import Measurements
from workbench.session.state import State


def places_of(
    state: State,
    rows: Sequence[int],
    bits: int | None = None,
    group_size: int | None = None,
    scheme: str | None = None,
) -> dict[int, int]:
    """Places of the options that layers get, by row, see `Session.set_bits`.

    Raises
    ------
    PlanError
        If a layer has no such option.
    """
    measured = state.measurements
    if group_size is None and scheme is None and bits is not None:
        return {row: measured.place(row, bits) for row in rows}
    found, lacking, kept = {}, [], 0
    for row in rows:
        present = state.option(row)
        if bits is None and scheme is None and present.is_kept:
            kept += 1  # it has no groups
            continue
        place = _place_like(measured, row, present, bits, group_size, scheme)
        if place is None:
            lacking.append(row)
        else:
            found[row] = place
    if lacking or kept == len(rows):
        asked = {"bits": bits, "scheme": scheme, "group size": group_size}
        asked_for = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
        first = (lacking or list(rows))[0]
        options = described(measured.options[first], measured.layers[first])
        raise PlanError(
            f"{len(lacking) or kept} of {len(rows)} layers cannot have {asked_for} in {measured.target.name}. "
            f"{measured.layers[first].name!r} can be {options}.",
            key="scheme" if group_size is None else "group_size",
            value=scheme if group_size is None else group_size,
            tensor=measured.layers[first].name,
        )
    return found


def _place_like(
    measured: Measurements,
    row: int,
    present: Option,
    bits: int | None,
    group_size: int | None,
    scheme: str | None,
) -> int | None:
    fitting = [
        option
        for option in measured.options[row]
        if not option.is_kept
        and (scheme is None or option.scheme.lower() == scheme.lower())
        and group_size in (None, option.group_size)
    ]
    widths = {option.bits for option in fitting}
    if bits is None:
        # A scheme that has one width says it.
        bits = next(iter(widths)) if scheme is not None and len(widths) == 1 else present.bits
    if bits not in widths:
        return None
    usual = measured.target.quantized(measured.layers[row], bits, measured.scheme, measured.group_size)
    found = min(
        (option for option in fitting if option.bits == bits),
        key=lambda option: (
            option.scheme != present.scheme,
            option.scheme != usual.scheme,
            option.group_size != present.group_size,
            abs(option.group_size - measured.group_size),
        ),
    )
    return measured.options[row].index(found)


def instead_of(measured: Measurements, places: Mapping[int, int], bits: int) -> tuple[str, ...]:
    """What layers got that is not the width asked for, such as ``"7 → Q8_0 for 12 layers"``."""
    given: Counter[str] = Counter()
    for row, place in places.items():
        option = measured.options[row][place]
        if option.is_kept:
            given[f"kept in {measured.layers[row].dtype}"] += 1
        elif option.bits != bits:
            given[label(option)] += 1
    return tuple(
        f"{bits} → {what} for {count} layer{'s' if count > 1 else ''}" for what, count in given.items()
    )


def label(option: Option) -> str:
    """An option in few words: ``"Q8_0"``, ``"8 bits affine 64"``."""
    if str(option.bits) in option.scheme:
        return option.scheme
    return f"{option.bits} bits {option.scheme} {option.group_size}"
