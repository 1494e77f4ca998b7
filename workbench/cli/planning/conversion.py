"""Plans that are there already: in a file, or in another tool's rules. No options are measured for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from workbench.cli.planning.request import Planned, Rules, Source
from workbench.errors import PlanError

if TYPE_CHECKING:
    from workbench.checkpoint import Checkpoint
    from workbench.plan import Plan


def plan_of_file(source: Source, path: Path, rules: Rules | None, *, dry_run: bool) -> Planned:
    """A plan from its file; written as rules if asked."""
    from workbench.checkpoint import named_as, open_checkpoint
    from workbench.engine.preparation import check_fit
    from workbench.formats import formats, plan_for
    from workbench.plan import Plan

    with open_checkpoint(source.model, source.component) as opened:
        found = Plan.load(path)
        checkpoint = named_as(opened, found.choices)
        check_fit(found, checkpoint)
        if source.target not in (None, found.target):
            others = [name for name, one in formats().items() if one.plan_of is not None]
            if source.target not in others:
                raise typer.BadParameter(
                    f"the plan is for {found.target}; leave it out, or say {' or '.join(others)} to try what it "
                    "decodes to.",
                    param_hint="--target",
                )
            found = plan_for(source.target, found, checkpoint.layers)
        return _planned(source, found, checkpoint, rules, dry_run=dry_run)


def plan_of_rules(
    source: Source, target: str, path: Path, rules: Rules, otherwise: int | None, *, dry_run: bool
) -> Planned:
    """The plan for a target that another tool's rules make; written as rules if asked.

    Parameters
    ----------
    source
    target : str
    path : Path
        The rules.
    rules : Rules
    otherwise : int, optional
        Bits of the layers that no rule names; they are kept without.
    dry_run : bool
        Whether to predict what exporting the plan will take.
    """
    from workbench.checkpoint import open_checkpoint
    from workbench.config import DiffusionQuantConfig
    from workbench.config_sources import read_text
    from workbench.engine.resolution.widths import at_width
    from workbench.formats import kept_as, named, target_named
    from workbench.formats.rules import naming_of, read_rules
    from workbench.plan import Plan
    from workbench.quantize import Encodings

    with open_checkpoint(source.model, source.component) as opened:
        checkpoint, _ = named(opened, source.names, target)
        # Who writes such a rule asks for zero points.
        storage = target_named(target, replace(source.settings, scheme="asymmetric"))
        layers = [layer for layer in checkpoint.layers if layer.params]
        rest = {
            layer.name: kept_as(layer, storage)
            if otherwise is None
            else at_width(layer, otherwise, DiffusionQuantConfig(), storage)
            for layer in layers
        }
        choices = read_rules(
            read_text(path, PlanError), rules.rules_format, layers, storage, rest, where=str(path),
            naming=naming_of(checkpoint, rules.rules_format, rules.names),
        )  # fmt: skip
        found = Plan(
            target,
            choices,
            checkpoint.fingerprint,
            made_by={"method": "rules", "format": rules.rules_format, "file": path.name},
            effort=Encodings(source.effort or storage.effort).effort,
        )
        return _planned(source, found, checkpoint, rules, dry_run=dry_run)


def _planned(
    source: Source, found: Plan, checkpoint: Checkpoint, rules: Rules | None, *, dry_run: bool
) -> Planned:
    from workbench.formats import exported, target_named
    from workbench.formats.rules import naming_of, rules_file, write_rules
    from workbench.session.prediction import predict
    from workbench.text_file import write_text

    target = target_named(found.target, source.settings)
    if rules is not None and rules.output is not None:
        layers = [layer for layer in checkpoint.layers if layer.params]
        naming = naming_of(checkpoint, rules.rules_format, rules.names)
        text = write_rules(found, rules.rules_format, layers, target, naming=naming)
        write_text(rules.output, text, rules_file(rules.rules_format))
    held = exported(checkpoint, target.name)
    notes = [*held.notes, held.besides_layers]
    return Planned(found, notes, predict(held, target, found) if dry_run else None)
