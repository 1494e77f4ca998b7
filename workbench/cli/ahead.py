"""What can be said of an export before any work: its target, what loads it, and patterns that match no layer."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from workbench import terminal
from workbench.errors import UsageError

if TYPE_CHECKING:
    from workbench.checkpoint import Checkpoint
    from workbench.formats import TargetSettings
    from workbench.plan import Plan
    from workbench.session import Session


@dataclass(frozen=True)
class Ahead:
    """A checkpoint that is about to be worked on, open, and what is known of its export."""

    checkpoint: Checkpoint
    """Under the names that the export will have."""
    target: str
    """The export format."""
    is_chosen: bool
    """Whether nobody asked for it."""
    readers: tuple[str, ...]
    """Sentences on what can load the export."""
    plan: Plan | None
    """What will be exported, where that is known."""

    def say(self, model: str) -> None:
        """Print it to stderr."""
        chosen = ", the default for this model" if self.is_chosen else ""
        print(f"{model}: target {self.target}{chosen}.", *self.readers, sep="\n  ", file=sys.stderr)

    def loading(self, folder: Path) -> str:
        """The lines that load the export in a folder."""
        from workbench.formats.loading import loading_lines

        return loading_lines(self.checkpoint, self.target, folder, self.plan)


@contextmanager
def look_ahead(
    model: str,
    component: str | None,
    target: str | None,
    names: str | None,
    plan: Plan | None = None,
    patterns: Mapping[str, Sequence[str]] | None = None,
    scheme: str | None = None,
) -> Iterator[Ahead]:
    """Open a checkpoint as a command will, and find out what can be said beforehand.

    Parameters
    ----------
    model, component, target, names
        As the command line gives them; without a target it is chosen.
    plan : Plan, optional
        What will be exported, which then decides on the names.
    patterns : mapping of str to sequence of str, optional
        Patterns of layers, by the option that gave them.
    scheme : str, optional
        The scheme asked for.

    Raises
    ------
    typer.BadParameter
        If a pattern matches no layer.
    """
    from workbench.checkpoint import named_as, open_checkpoint
    from workbench.formats import exported, named, require_storable, target_named
    from workbench.formats.loading import best_target, readers

    if target is not None:
        target_named(target)  # before anything is opened
    with open_checkpoint(model, component) as opened:
        name = target or (best_target(opened) if plan is None else plan.target)
        held = exported(opened, name)
        checkpoint = named(held, names, name)[0] if plan is None else named_as(held, plan.choices)
        require_storable(checkpoint, target_named(name))
        _check_patterns(checkpoint, patterns or {})
        is_ours = plan is not None and plan.target == name
        known = plan if is_ours else None
        found = readers(checkpoint, name, known, scheme)
        yield Ahead(checkpoint, name, target is None and plan is None, found, known)


def open_ahead(
    ahead: Ahead,
    model: str,
    component: str | None,
    exact: bool,
    calibration: str | None,
    time_groups: int,
    effort: str | None,
    names: str | None,
    keep: Sequence[str],
    settings: TargetSettings,
    *,
    shown: bool,
) -> Session:
    """Measure the layers and options of the checkpoint, with progress."""
    from workbench.session import open_session

    with (
        terminal.ctrl_c() as cancel,
        terminal.progress_bar(model, ahead.checkpoint.nbytes, shown) as callback,
    ):
        return open_session(
            model, ahead.target, component=component, exact=exact, calibration=calibration,
            num_time_groups=time_groups, effort=effort, names=names, keep=keep, callback=callback, cancel=cancel,
            all_widths=settings.all_widths, scheme=settings.scheme, shard_size=settings.shard_bytes,
        )  # fmt: skip


def _check_patterns(checkpoint: Checkpoint, patterns: Mapping[str, Sequence[str]]) -> None:
    from workbench.layer_names import ROLE
    from workbench.session.patterns import rows_matching

    layers = [layer for layer in checkpoint.layers if layer.params]
    for option, given in patterns.items():
        for pattern in given:
            if option == "--override" and pattern.startswith(ROLE):
                raise typer.BadParameter(
                    f"{pattern!r} is a role, and this takes names and globs; workbench plan --lock takes roles.",
                    param_hint=option,
                )
            try:
                rows_matching(layers, pattern)
            except UsageError as error:
                raise typer.BadParameter(str(error), param_hint=option) from error
