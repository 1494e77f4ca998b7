"""Edits of layers that are named: their widths, their options, and whether a solver may change them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from workbench.errors import ArgumentError
from workbench.plan import Option
from workbench.session.commands.command import Edit, Message
from workbench.session.layer_options import instead_of, places_of
from workbench.session.patterns import Patterns
from workbench.session.script import call
from workbench.session.state import State


def named(patterns: Patterns) -> str | tuple[str, ...]:
    """Patterns as a value: an iterable is gone through once, and NumPy's texts become Python's."""
    return patterns if isinstance(patterns, str) else tuple(map(str, patterns))


def layers_of(message: Message, names: Sequence[str]) -> str | tuple[str, ...]:
    """The layers that a message names: by ``rows``, their indices, or by their ``role``.

    Raises
    ------
    ArgumentError
        If it names none.
    """
    match message:
        case {"rows": rows}:
            if not isinstance(rows, list) or not all(
                type(row) is int and 0 <= row < len(names) for row in rows
            ):
                raise ArgumentError(
                    f"An edit's rows must be indices of the {len(names):,} layers.", key="rows", value=rows
                )
            if rows:
                return tuple(names[row] for row in rows)
        case {"role": str(role)}:
            return f"role:{role}"
    raise ArgumentError("An edit needs a layer: choose one first.", key="rows")


def _with_comment(line: str, notes: Iterable[str]) -> str:
    comment = "; ".join(notes)
    return f"{line}  # {comment}" if comment else line


@dataclass(frozen=True)
class SetBits(Edit):
    """Give layers a width, a scheme or a group size, see `Session.set_bits`."""

    layers: str | tuple[str, ...]
    """Names, globs or roles."""
    bits: int | None = None
    """2 to 8; None keeps the width, or takes that of the scheme."""
    group_size: int | None = None
    """Weights that share a scale; None takes that of the session."""
    scheme: str | None = None
    """The target's own name of a scheme; None takes that of the session."""

    def __post_init__(self) -> None:
        if self.bits is None and self.group_size is None and self.scheme is None:
            raise ArgumentError("Say what to set: bits, group_size or scheme.", key="bits")
        if self.bits is not None and not 2 <= self.bits <= 8:
            raise ArgumentError(
                f"bits is {self.bits}; allowed: 2 to 8.", key="bits", value=self.bits, allowed="2 to 8"
            )

    def apply(self, state: State) -> State:
        rows = state.measurements.rows(self.layers)
        places = places_of(state, rows, self.bits, self.group_size, self.scheme)
        notes = () if self.bits is None else instead_of(state.measurements, places, self.bits)
        return state.with_options(places, made_by={"method": "by hand"}, notes=notes)

    def to_python(self) -> str:
        width = () if self.bits is None else (self.bits,)
        return call("set_bits", self.layers, *width, group_size=self.group_size, scheme=self.scheme)

    def script_line(self, after: State) -> str:
        return _with_comment(self.to_python(), after.notes)

    @classmethod
    def from_message(cls, message: Message, names: Sequence[str]) -> Self:
        bits: Any = message.get("bits", 0)
        scheme, group_size = message.get("scheme"), message.get("group_size")
        if type(bits) is not int:
            raise ArgumentError(f"bits must be a whole number, not {bits!r}.", key="bits", value=bits)
        if not isinstance(scheme, str | None) or type(group_size) not in (int, type(None)):
            raise ArgumentError(
                f"scheme must be a name and group_size a whole number, not {scheme!r} and {group_size!r}.",
                key="scheme",
            )
        return cls(layers_of(message, names), bits, group_size, scheme)


@dataclass(frozen=True)
class SetOption(Edit):
    """Give one layer one of its options, see `Session.set_option`."""

    layer: str
    option: Option

    def apply(self, state: State) -> State:
        measured = state.measurements
        rows = measured.rows(self.layer)
        if len(rows) > 1:
            raise ArgumentError(
                f"{self.layer!r} matches {len(rows)} layers; an option is for one.",
                key="layer",
                value=self.layer,
            )
        options = measured.options[rows[0]]
        if self.option not in options:
            raise ArgumentError(
                f"{self.layer!r} cannot be stored as {self.option} in {measured.target.name}.",
                key="option",
                value=self.option,
            )
        return state.with_options({rows[0]: options.index(self.option)}, made_by={"method": "by hand"})

    def to_python(self) -> str:
        return call("set_option", self.layer, self.option)


@dataclass(frozen=True)
class Keep(Edit):
    """Leave layers in their source dtype."""

    layers: str | tuple[str, ...]

    def apply(self, state: State) -> State:
        measured = state.measurements
        places = {row: measured.place_kept(row) for row in measured.rows(self.layers)}
        return state.with_options(places, made_by={"method": "by hand"})

    def to_python(self) -> str:
        return call("keep", self.layers)

    @classmethod
    def from_message(cls, message: Message, names: Sequence[str]) -> Self:
        return cls(layers_of(message, names))


@dataclass(frozen=True)
class Lock(Edit):
    """Make a solver leave layers as they are, after giving them a width if one is named."""

    layers: str | tuple[str, ...]
    bits: int | None = None

    def apply(self, state: State) -> State:
        measured = state.measurements
        rows = measured.rows(self.layers)
        locks = state.locks | set(rows)
        if self.bits is None:
            return state.changed(locks=locks)
        places = {row: measured.place(row, self.bits) for row in rows}
        return state.with_options(places, locks=locks, notes=instead_of(measured, places, self.bits))

    def to_python(self) -> str:
        return call("lock", self.layers, bits=self.bits)

    def script_line(self, after: State) -> str:
        return _with_comment(self.to_python(), after.notes)

    @classmethod
    def from_message(cls, message: Message, names: Sequence[str]) -> Self:
        return cls(layers_of(message, names))


@dataclass(frozen=True)
class Unlock(Edit):
    """Let a solver change layers again."""

    layers: str | tuple[str, ...] = "*"

    def apply(self, state: State) -> State:
        return state.changed(locks=state.locks - set(state.measurements.rows(self.layers)))

    def to_python(self) -> str:
        return call("unlock", self.layers)

    @classmethod
    def from_message(cls, message: Message, names: Sequence[str]) -> Self:
        return cls(layers_of(message, names)) if {"rows", "role"} & message.keys() else cls()
