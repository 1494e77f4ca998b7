"""Plans that are there already: in a file, or in another tool's rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from workbench.checkpoint import Checkpoint
    from workbench.formats import TargetSettings
    from workbench.plan import Plan
    from workbench.session.prediction import Prediction


def take_plan(
    model: str,
    component: str | None,
    from_plan: Path | None,
    from_rules: Path | None,
    rules_format: str | None,
    otherwise: int | None,
    rules_names: str | None,
    target_name: str | None,
    effort: str | None,
    names: str | None,
    settings: TargetSettings,
    to_rules: Path | None,
    dry_run: bool,
) -> tuple[Plan, Prediction | None, list[str]]:
    """A plan that need not be solved for, written as rules if asked; what exporting it will take, if asked; and notes.

    Nothing has to be priced for it.
    """
    from workbench.checkpoint import named_as, open_checkpoint
    from workbench.engine.orchestrator import check_fit
    from workbench.formats import exported, formats, named, plan_for, target_named
    from workbench.formats.rules import naming_of, rules_file, write_rules
    from workbench.plan import Plan
    from workbench.session.prediction import predict
    from workbench.text_file import write_text

    with open_checkpoint(model, component) as opened:
        if from_plan is not None:
            found = Plan.load(from_plan)
            checkpoint = named_as(opened, found.choices)
            check_fit(found, checkpoint)
            if target_name not in (None, found.target):
                others = [name for name, one in formats().items() if one.plan_of is not None]
                if target_name not in others:
                    raise typer.BadParameter(
                        f"the plan is for {found.target}; leave it out, or say {' or '.join(others)} to try what it "
                        "decodes to.",
                        param_hint="--target",
                    )
                found = plan_for(target_name, found, checkpoint.layers)
        else:
            assert from_rules is not None
            assert rules_format is not None
            assert target_name is not None
            checkpoint, _ = named(opened, names, target_name)
            found = _plan_of_rules(
                checkpoint, from_rules, rules_format, otherwise, rules_names, target_name, effort, settings
            )
        target = target_named(found.target, settings)
        layers = [layer for layer in checkpoint.layers if layer.params]
        if to_rules is not None and rules_format is not None:
            naming = naming_of(checkpoint, rules_format, rules_names)
            text = write_rules(found, rules_format, layers, target, naming=naming)
            write_text(to_rules, text, rules_file(rules_format))
        held = exported(checkpoint, target.name)
        notes = [*held.notes, held.besides_layers]
        return found, predict(held, target, found) if dry_run else None, notes


def _plan_of_rules(
    checkpoint: Checkpoint,
    path: Path,
    rules_format: str,
    otherwise: int | None,
    rules_names: str | None,
    target_name: str,
    effort: str | None,
    settings: TargetSettings,
) -> Plan:
    from workbench.config import DiffusionQuantConfig
    from workbench.config_sources import read_text
    from workbench.engine.survey import at_width
    from workbench.formats import kept_as, target_named
    from workbench.formats.rules import naming_of, read_rules
    from workbench.plan import Plan
    from workbench.quantize import Encodings

    # Who writes such a rule asks for zero points.
    target = target_named(target_name, replace(settings, scheme="asymmetric"))
    layers = [layer for layer in checkpoint.layers if layer.params]
    rest = {
        layer.name: kept_as(layer, target)
        if otherwise is None
        else at_width(layer, otherwise, DiffusionQuantConfig(), target)
        for layer in layers
    }
    naming = naming_of(checkpoint, rules_format, rules_names)
    text = read_text(path)
    choices = read_rules(text, rules_format, layers, target, rest, where=str(path), naming=naming)
    made_by = {"method": "rules", "format": rules_format, "file": path.name}
    encodings = Encodings(effort or target.effort)
    return Plan(target.name, choices, checkpoint.fingerprint, made_by=made_by, effort=encodings.effort)
