"""`Editing`: the part of a `Session` that sets layers by hand, and takes edits back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from workbench.errors import ConfigurationError
from workbench.plan import Option
from workbench.session.choosing import instead_of, places_of
from workbench.session.history import State
from workbench.session.patterns import Patterns
from workbench.session.proving import Proving
from workbench.session.script import call
from workbench.session.tuning import Tuning
from workbench.session.values import Change
from workbench.thermo import Constraints


class Editing(Proving):
    """A session whose layers can be set one by one; every edit is one step of undo."""

    def set_bits(
        self,
        patterns: Patterns,
        bits: int | None = None,
        *,
        group_size: int | None = None,
        scheme: str | None = None,
    ) -> tuple[str, ...]:
        """Give layers a width: the target's option of it, or of the next wider where it has not that width.

        Parameters
        ----------
        patterns : str or iterable of str
            As for `select`.
        bits : int, optional
            2 to 8; without it layers keep their width, or get that which the scheme says.
        group_size : int, optional
            Weights that share a scale; by default as now, and with `bits` alone that of the session.
        scheme : str, optional
            The target's own name of it, such as ``"symmetric"`` or ``"Q4_K"``; by default likewise.

        Returns
        -------
        tuple of str
            What layers got that is not the width asked for, such as ``"7 → Q8_0 for 12 layers"``.

        Raises
        ------
        ConfigurationError
            If a pattern matches nothing, `bits` is not from 2 to 8, or a layer has no option of that group size or
            scheme: the message names what it has.
        """
        if bits is None and group_size is None and scheme is None:
            raise ConfigurationError("Say what to set: bits, group_size or scheme.", key="bits")
        if bits is not None and not 2 <= bits <= 8:
            raise ConfigurationError(
                f"bits is {bits}; allowed: 2 to 8.", key="bits", value=bits, allowed="2 to 8"
            )
        rows = self._study.rows(patterns)
        width = () if bits is None else (bits,)
        return self._set(
            rows,
            lambda now: places_of(self._study, now, rows, bits, group_size, scheme),
            call("set_bits", patterns, *width, group_size=group_size, scheme=scheme),
            bits,
        )

    def set_option(self, layer: str, option: Option) -> None:
        """Give one layer one of its options.

        Raises
        ------
        ConfigurationError
            If there is no such layer, or it has no such option.
        """
        (row,) = self._study.rows(layer)
        if option not in self._study.options[row]:
            raise ConfigurationError(
                f"{layer!r} cannot be stored as {option} in {self.target.name}.", key="option", value=option
            )
        place = self._study.options[row].index(option)
        self._set([row], lambda _: {row: place}, call("set_option", layer, option))

    def keep(self, patterns: Patterns) -> None:
        """Leave layers in their source dtype.

        Raises
        ------
        ConfigurationError
            If a pattern matches nothing.
        """
        places = {row: self._study.place_kept(row) for row in self._study.rows(patterns)}
        self._set(list(places), lambda _: places, call("keep", patterns))

    def lock(self, patterns: Patterns, bits: int | None = None) -> tuple[str, ...]:
        """Make a solver leave layers as they are; give them a width first, if one is named.

        Returns
        -------
        tuple of str
            As for `set_bits`.
        """
        rows = self._study.rows(patterns)
        places = {} if bits is None else {row: self._study.place(row, bits) for row in rows}
        given = () if bits is None else instead_of(self._study, places, bits)

        def locked(now: Tuning) -> Tuning:
            placed = _with_places(now, places, now.made_by) if places else now
            return replace(placed, locks=now.locks | set(rows))

        line = call("lock", patterns) if bits is None else call("lock", patterns, bits=bits)
        self._edit(locked, f"{line}  # {'; '.join(given)}" if given else line)
        return given

    def unlock(self, patterns: Patterns = "*") -> None:
        """Let a solver change layers again."""
        rows = self._study.rows(patterns)
        self._edit(lambda now: replace(now, locks=now.locks - set(rows)), call("unlock", patterns))

    def undo(self) -> bool:
        """Take the last edit back; whether there was one."""
        return self._move(self._history.undo, call("undo"))

    def redo(self) -> bool:
        """Make the edit again that was taken back last; whether there was one."""
        return self._move(self._history.redo, call("redo"))

    # ---- behind it ----------------------------------------------------------------------------------------

    def _set(
        self,
        rows: Sequence[int],
        places: Callable[[Tuning], Mapping[int, int]],
        line: str,
        bits: int | None = None,
    ) -> tuple[str, ...]:
        """Give layers options by hand; returns what is not the width asked for."""
        given: tuple[str, ...] = ()

        def change(now: Tuning) -> Tuning:
            nonlocal given
            found = places(now)
            given = () if bits is None else instead_of(self._study, found, bits)
            return _with_places(now, found, {"method": "by hand"})

        self._edit(change, lambda: f"{line}  # {'; '.join(given)}" if given else line)
        return given

    def _edit(self, change: Callable[[Tuning], Tuning], line: str | Callable[[], str]) -> None:
        with self._lock:
            before = self._history.present
            after = State(before.study, change(before.tuning))
            self._history.push(after)
            self._note(before, after, line if isinstance(line, str) else line())
        # Outside the lock, so that an observer may wait for another thread that edits.
        self._observers.tell()

    def _move(self, step: Callable[[], bool], line: str) -> bool:
        with self._lock:
            before = self._history.present
            if not step():
                return False
            self._note(before, self._history.present, line)
        self._observers.tell()
        return True

    def _note(self, before: State, after: State, line: str) -> None:
        self._version += 1
        self._script.append(line)
        if not self._observers:
            return
        if before.study is not after.study:
            rows = tuple(range(len(after.study.layers)))
        else:
            old, new = before.tuning, after.tuning
            moved = {row for row, place in enumerate(new.choice) if place != old.choice[row]}
            rows = tuple(sorted(moved | (old.locks ^ new.locks)))
        self._observers.note(Change(self._version, rows, self._totals(after)))

    def _tell(self, line: str) -> None:
        """Add a line to the script for what changed no layer."""
        with self._lock:
            self._note_all(line, ())
        self._observers.tell()


def _with_places(now: Tuning, places: Mapping[int, int], made_by: Mapping[str, Any]) -> Tuning:
    """The tuning with other options of some layers, set by hand."""
    choice = tuple(places.get(row, place) for row, place in enumerate(now.choice))
    by_hand = now.by_hand | places.keys()
    return replace(now, choice=choice, made_by=made_by, limits=Constraints(), by_hand=by_hand)
