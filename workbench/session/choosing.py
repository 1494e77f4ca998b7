"""Which option of a layer is meant by a width, a scheme and a group size, and what was given instead of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from workbench.errors import ConfigurationError
from workbench.formats.requests import described
from workbench.plan import Option
from workbench.session.study import Study
from workbench.session.tuning import Tuning


def places_of(
    study: Study,
    tuning: Tuning,
    rows: Sequence[int],
    bits: int | None = None,
    group_size: int | None = None,
    scheme: str | None = None,
) -> dict[int, int]:
    """Place of the option that layers get, see `Session.set_bits`.

    Raises
    ------
    ConfigurationError
        If a layer has no such option.
    """
    if group_size is None and scheme is None and bits is not None:
        return {row: study.place(row, bits) for row in rows}
    found, lacking, kept = {}, [], 0
    for row in rows:
        present = study.options[row][tuning.choice[row]]
        if bits is None and scheme is None and present.is_kept:
            kept += 1  # it has no groups
            continue
        place = _place_like(study, row, present, bits, group_size, scheme)
        if place is None:
            lacking.append(row)
        else:
            found[row] = place
    if lacking or kept == len(rows):
        asked = {"bits": bits, "scheme": scheme, "group size": group_size}
        wish = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
        first = (lacking or list(rows))[0]
        options = described(study.options[first], study.layers[first])
        raise ConfigurationError(
            f"{len(lacking) or kept} of {len(rows)} layers cannot have {wish} in {study.target.name}. "
            f"{study.layers[first].name!r} can be {options}.",
            key="scheme" if group_size is None else "group_size",
            value=scheme if group_size is None else group_size,
            tensor=study.layers[first].name,
        )
    return found


def _place_like(
    study: Study, row: int, present: Option, bits: int | None, group_size: int | None, scheme: str | None
) -> int | None:
    fitting = [
        option
        for option in study.options[row]
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
    usual = study.target.quantized(study.layers[row], bits, study.scheme, study.group_size)
    found = min(
        (option for option in fitting if option.bits == bits),
        key=lambda option: (
            option.scheme != present.scheme,
            option.scheme != usual.scheme,
            option.group_size != present.group_size,
            abs(option.group_size - study.group_size),
        ),
    )
    return study.options[row].index(found)


def instead_of(study: Study, places: Mapping[int, int], bits: int) -> tuple[str, ...]:
    """What layers got that is not the width asked for, such as ``"7 → Q8_0 for 12 layers"``."""
    given: Counter[str] = Counter()
    for row, place in places.items():
        option = study.options[row][place]
        if option.is_kept:
            given[f"kept in {study.layers[row].dtype}"] += 1
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
