"""Writing the units of a payload, each read back from the disk, in parallel; those in the journal are there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from workbench.engine.execution.readback import TensorCheck, check_from, check_line, checks_by_tensor
from workbench.engine.output.partial_folder import JOURNAL, LOCK, Journal, remove_all
from workbench.engine.subject import Subject, Workers
from workbench.formats import BlockCheck, Check, Layout, Unit, Writer


def write_units(
    subject: Subject, layout: Layout, folder: Path, journal: Journal, workers: Workers
) -> Mapping[str, TensorCheck]:
    """Write a payload, and compare all of it with its source.

    Raises
    ------
    ArrowQuantError
        If a weight to quantize is NaN or Inf, the source changed, or what is read back is not what was written.
    """
    units, progress = layout.units, workers.progress
    writer = subject.target.writer(layout, subject.streamed, subject.encoder)
    finished: dict[int, list[BlockCheck]] = {}
    for line in journal.lines:
        if line.get("kind") == "again":
            finished.clear()
        elif line.get("kind") == "unit":
            finished[line["unit"]] = [check_from(check) for check in line["checks"]]
    if not finished:
        remove_all(folder, keep=(JOURNAL, LOCK))  # what another plan had written
    writer.begin(folder)
    for index in finished:
        progress.advance(2 * units[index].nbytes)

    def make(unit: Unit, check: Check) -> tuple[Unit, list[BlockCheck]]:
        return unit, write_unit(unit, writer, check, folder, progress.advance)

    def keep(result: tuple[Unit, list[BlockCheck]]) -> None:
        unit, checks = result
        finished[unit.index] = checks
        journal.append({"kind": "unit", "unit": unit.index, "checks": [check_line(c) for c in checks]})

    progress.message = "writing and reading back"
    with subject.target.checker(subject.streamed, folder, subject.encodings) as check:
        # From the end, which was looked at last: of a source larger than the memory, it is still there.
        tasks = (partial(make, unit, check) for unit in reversed(units) if unit.index not in finished)
        workers.run(tasks, keep)
    return checks_by_tensor(finished[unit.index] for unit in units)


def write_unit(
    unit: Unit, writer: Writer, check: Check, folder: Path, advance: Callable[[int], None]
) -> list[BlockCheck]:
    """Write one unit and read it back; it takes the checkpoint, the plan and the folder.

    Parameters
    ----------
    unit : Unit
        A plain value.
    writer : Writer
        Of the checkpoint and the plan.
    check : callable
        Of the same checkpoint and folder.
    folder : Path
        It has been prepared by `Writer.begin`.
    advance : callable
        Called with source bytes written, and with those read back.
    """
    checks: list[BlockCheck] = []
    unchecked = check(unit.index)
    written = 0
    for done in writer.write(unit, folder):
        advance(done)
        written += done
        # At once, while a block and its source are in the cache.
        while written > 0:
            checks.append(next(unchecked))
            advance(checks[-1].nbytes)
            written -= checks[-1].nbytes
    checks += unchecked  # blocks without weights
    return checks
