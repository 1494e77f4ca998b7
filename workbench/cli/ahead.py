"""What can be said of an export before any work: its target, what loads it, and patterns that match no layer."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from workbench.errors import ConfigurationError

if TYPE_CHECKING:
    from workbench.checkpoint import Checkpoint
    from workbench.plan import Plan


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

    def say(self, model: str) -> None:
        """Print it to stderr."""
        chosen = ", the default for this model" if self.is_chosen else ""
        print(f"{model}: target {self.target}{chosen}.", *self.readers, sep="\n  ", file=sys.stderr)

    def loading(self, folder: Path) -> str:
        """The lines that load the export in a folder."""
        from workbench.formats.loading import loading_lines

        return loading_lines(self.checkpoint, self.target, folder)


@contextmanager
def look_ahead(
    model: str,
    component: str | None,
    target: str | None,
    names: str | None,
    plan: Plan | None = None,
    patterns: Mapping[str, Sequence[str]] | None = None,
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

    Raises
    ------
    typer.BadParameter
        If a pattern matches no layer.
    """
    from workbench.checkpoint import named, named_as, open_checkpoint
    from workbench.formats import require_storable, target_named
    from workbench.formats.loading import best_target, readers

    if target is not None:
        target_named(target)  # before anything is opened
    with open_checkpoint(model, component) as opened:
        name = target or (best_target(opened) if plan is None else plan.target)
        checkpoint = named(opened, names, name)[0] if plan is None else named_as(opened, plan.choices)
        require_storable(checkpoint, target_named(name))
        _check_patterns(checkpoint, patterns or {})
        is_ours = plan is not None and plan.target == name
        told = readers(checkpoint, name, plan if is_ours else None)
        yield Ahead(checkpoint, name, target is None and plan is None, told)


def _check_patterns(checkpoint: Checkpoint, patterns: Mapping[str, Sequence[str]]) -> None:
    from workbench.session.patterns import ROLE, rows_matching

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
            except ConfigurationError as error:
                raise typer.BadParameter(str(error), param_hint=option) from error
