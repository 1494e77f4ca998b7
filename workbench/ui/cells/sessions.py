"""`CellSessions`: lets a cell that runs again go on with the session that it opened before."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

from workbench.errors import QuantizationError
from workbench.session import Session

Kept = list[weakref.ReferenceType[Session]]


@dataclass
class _Cell:
    run: str = ""
    before: Kept = field(default_factory=list)
    now: Kept = field(default_factory=list)


class CellSessions:
    """The sessions that each cell opened in its last run and in the present one; none is kept alive by it."""

    def __init__(self) -> None:
        self._cells: dict[str, _Cell] = {}

    def take(self, cell: str, run: str, session: Session, *, fresh: bool = False) -> Session:
        """The session to use where a cell has opened one.

        Parameters
        ----------
        cell, run : str
            Identity of the cell, over all its runs, and of the present run.
        session : Session
            What it has opened; closed if another is returned.
        fresh : bool
            Use it in any case.

        Returns
        -------
        Session
            One that goes on from the session which the cell opened the same way in its last run, with its plan and its
            steps of undo; `session` if there is none, it was closed, or nothing was changed in it.
        """
        known = self._cells.setdefault(cell, _Cell())
        if known.run != run:
            known.run, known.before, known.now = run, known.now, []
        found = session
        for kept in known.before:
            other = kept()
            if not fresh and other is not None and _goes_on(other, session):
                known.before.remove(kept)
                found = other.hand_on()
                session.close()
                break
        known.now.append(weakref.ref(found))
        return found


def _goes_on(old: Session, new: Session) -> bool:
    """Whether two sessions were opened the same way, of the same files, and the old one was changed and is open."""
    records = [None if one.time_aware is None else one.time_aware.records for one in (old, new)]
    is_alike = old.opening == new.opening and (records[0] is records[1] or "=records" not in new.opening)
    if not is_alike or old.version == 0 or old.is_closed:
        return False
    try:
        old.checkpoint.check_unchanged()
    except QuantizationError:  # it could read no more of them
        return False
    return old.checkpoint.files_fingerprint == new.checkpoint.files_fingerprint
