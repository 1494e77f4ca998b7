"""The command ``workbench plan``: its options, and which plan they ask for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench import terminal
from workbench.cli.ahead import look_ahead
from workbench.cli.arguments import (
    RULES,
    RULES_NAMES,
    TARGETS,
    AllWidths,
    Calibration,
    Component,
    Effort,
    Exact,
    Groups,
    Json,
    Keep,
    Model,
    Names,
    Scheme,
    ShardSize,
    parse_widths,
    rules_choices,
    settings_from,
)
from workbench.cli.planning.conversion import plan_of_file, plan_of_rules
from workbench.cli.planning.report import facts, print_plan
from workbench.cli.planning.request import Rules, Source
from workbench.cli.planning.solving import Problem, solved


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(short_help="Find the bits of every layer that lose least within a size.")(plan)


def plan(
    model: Model,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The plan to write, YAML; it must not exist.", metavar="FILE"),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Bytes of the payload, such as 2.5GB or 900MiB.", metavar="SIZE")
    ] = None,
    bpw: Annotated[float | None, typer.Option(help="Bits per layer weight.", metavar="BITS")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Lagrange multiplier λ: damage per bit.", metavar="T")
    ] = None,
    min_cosine: Annotated[
        float | None,
        typer.Option(
            help="Least cosine of every layer: alone in the fewest bytes, else a limit.", metavar="COSINE"
        ),
    ] = None,
    max_damage: Annotated[
        float | None,
        typer.Option(help="Greatest total damage, in the fewest bytes.", metavar="DAMAGE"),
    ] = None,
    max_nsr: Annotated[float | None, typer.Option(hidden=True)] = None,
    lock: Annotated[
        list[str] | None,
        typer.Option(
            help="Bits of the layers that a name, a glob or role:GLOB matches, which stay. Repeatable.",
            metavar="PATTERN=BITS",
        ),
    ] = None,
    floor: Annotated[
        list[str] | None, typer.Option(help="Least bits of such layers. Repeatable.", metavar="PATTERN=BITS")
    ] = None,
    ceiling: Annotated[
        list[str] | None, typer.Option(help="Most bits of such layers. Repeatable.", metavar="PATTERN=BITS")
    ] = None,
    tie: Annotated[
        list[str] | None,
        typer.Option(
            help="Layers that share one width, scheme and group size. Repeatable.", metavar="PATTERN,…"
        ),
    ] = None,
    from_plan: Annotated[
        Path | None, typer.Option(help="Take this plan instead of solving for one.", metavar="FILE")
    ] = None,
    from_rules: Annotated[
        Path | None, typer.Option(help="Take the plan of another tool's rules instead.", metavar="FILE")
    ] = None,
    otherwise: Annotated[
        int | None,
        typer.Option(
            help="Bits of the layers that no rule names; they keep their dtype without.", metavar="BITS"
        ),
    ] = None,
    to_rules: Annotated[
        Path | None, typer.Option(help="Write the plan as rules too; it must not exist.", metavar="FILE")
    ] = None,
    rules_format: Annotated[str | None, typer.Option(help=f"{RULES}.", metavar="NAME")] = None,
    rules_names: Annotated[
        str | None,
        typer.Option(
            help=f"What the rules call tensors: {RULES_NAMES}.",
            metavar="NAME",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what exporting it will take: the bytes of every file, time and memory."
        ),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            help=f"Export format: {TARGETS}. By default that of the rules, or what the usual runtime of MODEL's family "
            "loads, and parquet, an archive, where none is known.",
            metavar="NAME",
        ),
    ] = None,
    scheme: Scheme = None,
    all_widths: AllWidths = False,
    shard_size: ShardSize = None,
    component: Component = None,
    calibration: Calibration = None,
    time_groups: Groups = 10,
    keep: Keep = None,
    effort: Effort = None,
    names: Names = None,
    exact: Exact = False,
    as_json: Json = False,
) -> None:
    """Find the bits of every layer that lose least within a size, and write them as a plan.

    There is one goal: --size, --bpw, --temperature, --max-damage or --min-cosine. Or there is a plan already:
    --from-plan, --from-rules. What comes of it is written (-o, --to-rules), or only looked at (--dry-run).

    The gap is the optimality gap: an upper bound on the distance to the best plan of this size and these limits.

    Example: workbench plan zoo:digits-dit --size 2MB -o plan.yaml; then workbench quantize --plan plan.yaml
    """
    from workbench.formats.rules import target_of_rules
    from workbench.text_file import require_absent
    from workbench.thermo.goal import Goal

    if output is None and to_rules is None and not dry_run:
        raise typer.BadParameter("say where the plan goes: -o, --to-rules, or --dry-run.", param_hint="-o")
    if (from_rules or to_rules) and rules_format is None:
        raise typer.BadParameter(
            f"name the format of the rules: {rules_choices()}.", param_hint="--rules-format"
        )
    for path in filter(None, (output, to_rules)):
        require_absent(path)
    if target is None and rules_format is not None and from_plan is None:
        target = target_of_rules(rules_format)
    if max_nsr is not None:
        print("--max-nsr is called --max-damage now; the old name will go.", file=sys.stderr)
        max_damage = max_nsr if max_damage is None else max_damage
    source = Source(model, component, target, names, effort, settings_from(shard_size, all_widths, scheme))
    rules = None if rules_format is None else Rules(rules_format, rules_names, to_rules)
    goal: Goal | None = None
    if from_plan or from_rules:
        goals = {
            "size": size, "bpw": bpw, "temperature": temperature, "max-damage": max_damage, "min-cosine": min_cosine,
            "lock": lock, "floor": floor, "ceiling": ceiling, "tie": tie, "keep": keep,
        }  # fmt: skip
        given = [name for name, value in goals.items() if value]
        if given or (from_plan and from_rules):
            more = given[0] if given else "from-rules"
            raise typer.BadParameter(f"a plan that is there is not solved for; leave out --{more}.")
    if from_plan is not None:
        planned = plan_of_file(source, from_plan, rules, dry_run=dry_run)
    elif from_rules is not None and rules is not None and target is not None:
        planned = plan_of_rules(source, target, from_rules, rules, otherwise, dry_run=dry_run)
    else:
        goal = Goal(size, bpw, temperature, max_damage, min_cosine)
        problem = Problem(
            goal,
            locks=parse_widths(lock or [], "--lock"),
            floors=parse_widths(floor or [], "--floor"),
            ceilings=parse_widths(ceiling or [], "--ceiling"),
            ties=[patterns.split(",") for patterns in tie or []],
            keep=keep or [],
        )
        planned = solved(
            source, problem, rules, calibration=calibration, time_groups=time_groups, exact=exact,
            dry_run=dry_run, shown=not as_json,
        )  # fmt: skip
    with look_ahead(model, component, planned.plan.target, names, planned.plan) as ahead:
        readers, loading = ahead.readers, ahead.loading(Path("OUT"))
    if output is not None:
        planned.plan.save(output)
    if as_json:
        terminal.print_json(facts(planned, output, rules, readers, loading))
        return
    print_plan(planned, str(output or model), goal, rules, readers, loading)
    if output is not None:
        weighed = f" --calibration {calibration}" if planned.plan.weighted_by else ""
        print(f"Next: workbench quantize {model} OUT --plan {output}{weighed}")
