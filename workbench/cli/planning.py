"""``workbench plan``: the best plan for a size, and what exporting it will take."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import terminal
from workbench.cli.ahead import look_ahead, open_ahead
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
    parse_bytes,
    parse_widths,
    rules_choices,
    settings_from,
)
from workbench.cli.ready_plans import take_plan

if TYPE_CHECKING:
    from workbench.plan import Plan
    from workbench.session.prediction import Prediction
    from workbench.session.values import Totals

UNSPENT = 0.9
"""A payload that is likely to take less of its budget than this is told of."""


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
        float | None, typer.Option(help="Distortion that a bit is worth.", metavar="T")
    ] = None,
    min_cosine: Annotated[
        float | None,
        typer.Option(
            help="Least cosine of every layer: alone in the fewest bytes, else a limit.", metavar="COSINE"
        ),
    ] = None,
    max_nsr: Annotated[
        float | None,
        typer.Option(
            help="Sum of the layers' noise-to-signal ratios at most, in the fewest bytes.", metavar="NSR"
        ),
    ] = None,
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

    There is one goal: --size, --bpw, --temperature, --max-nsr or --min-cosine. Or there is a plan already:
    --from-plan, --from-rules. What comes of it is written (-o, --to-rules), or only looked at (--dry-run).

    The gap is by how much another plan of the same bytes and limits could be better at most: certified, not guessed.

    Example: workbench plan zoo:digits-dit --size 2MB -o plan.yaml; then workbench quantize --plan plan.yaml
    """
    from workbench.formats.rules import target_of_rules
    from workbench.text_file import require_absent

    if output is None and to_rules is None and not dry_run:
        raise typer.BadParameter("say where the plan goes: -o, --to-rules, or --dry-run.", param_hint="-o")
    if (from_rules or to_rules) and rules_format is None:
        raise typer.BadParameter(
            f"name the format of the rules: {rules_choices()}.", param_hint="--rules-format"
        )
    for path in filter(None, (output, to_rules)):
        require_absent(path)
    settings = settings_from(shard_size, all_widths, scheme)
    if target is None and rules_format is not None and from_plan is None:
        target = target_of_rules(rules_format)
    totals: Totals | None = None
    notes: list[str] = []
    likely: int | None = None
    told: tuple[str, ...] = ()
    if from_plan or from_rules:
        goals = {
            "size": size, "bpw": bpw, "temperature": temperature, "max-nsr": max_nsr, "min-cosine": min_cosine,
            "lock": lock, "floor": floor, "ceiling": ceiling, "tie": tie, "keep": keep,
        }  # fmt: skip
        given = [name for name, value in goals.items() if value]
        if given or (from_plan and from_rules):
            more = given[0] if given else "from-rules"
            raise typer.BadParameter(f"a plan that is there is not solved for; leave out --{more}.")
        found, prediction, notes = take_plan(
            model, component, from_plan, from_rules, rules_format, otherwise, rules_names, target, effort, names,
            settings, to_rules, dry_run,
        )  # fmt: skip
    else:
        floors, ceilings = parse_widths(floor or [], "--floor"), parse_widths(ceiling or [], "--ceiling")
        locks = parse_widths(lock or [], "--lock")
        ties = [patterns.split(",") for patterns in tie or []]
        patterns = {
            "--lock": list(locks),
            "--floor": list(floors),
            "--ceiling": list(ceilings),
            "--tie": [pattern for tied in ties for pattern in tied],
            "--keep": keep or [],
        }
        with look_ahead(model, component, target, names, patterns=patterns, scheme=scheme) as ahead:
            if not as_json:
                ahead.say(model)
            told = ahead.readers
            session = open_ahead(
                ahead, model, component, exact, calibration, time_groups, effort, names, keep or [], settings,
                shown=not as_json,
            )  # fmt: skip
        with session:
            for pattern, bits in locks.items():
                session.lock(pattern, bits)
            totals = session.solve(
                size,
                bpw=bpw,
                temperature=temperature,
                max_nsr=max_nsr,
                min_cosine=min_cosine,
                floors=floors,
                ceilings=ceilings,
                ties=ties,
            )
            found, prediction = session.plan, session.predict() if dry_run else None
            notes, likely = session.notes, session.likely_bytes
            if to_rules is not None and rules_format is not None:
                session.save_rules(to_rules, rules_format, rules_names)
    with look_ahead(model, component, found.target, names, found) as ahead:
        readers, loading = ahead.readers, ahead.loading(Path("OUT"))
    if output is not None:
        found.save(output)
    if as_json:
        facts = _facts(found, totals, prediction, output, to_rules) | {"likely_bytes": likely}
        terminal.print_json({**facts, "notes": notes, "readers": list(readers), "loading": loading})
        return
    print(f"{output or model}: {len(found.choices)} layers for {found.target}")
    if totals is not None:
        row = {
            "MB": f"{totals.nbytes / 1e6:.3f}",
            "ratio": f"{totals.ratio:.2f}",
            "bpw": f"{totals.bpw:.3f}",
            "NSR": terminal.number(totals.nsr / max(len(found.choices), 1)),
            "gap": f"{totals.gap:.3%}",
            "temperature": terminal.number(totals.temperature),
        }
        terminal.print_table([row])
        budget = totals.nbytes if size is None else parse_bytes(size)
        if likely is not None and likely < UNSPENT * budget:
            print(_unspent(likely, totals.nbytes, budget, size))
    print(*(f"{bits} bits: {count} layers" for bits, count in _layers_by_bits(found).items()), sep="\n")
    if to_rules is not None:
        print(f"{to_rules}: rules for {rules_format}")
    if prediction is not None:
        terminal.print_prediction(prediction)
        print(*(sentence for sentence in readers if sentence not in told), "To load it:", loading, sep="\n")
    print(*notes, sep="\n", end="\n" if notes else "")
    if output is not None:
        weighed = f" --calibration {calibration}" if found.weighted_by else ""
        print(f"Next: workbench quantize {model} OUT --plan {output}{weighed}")


def _unspent(likely: int, nbytes: int, budget: int, size: str | None) -> str:
    """A sentence on a payload that will be much smaller than its upper bound."""
    found = (
        f"The payload is compressed: by the entropy of its codes it will be about {likely / 1e6:.3f} MB, "
        f"{1 - likely / budget:.0%} less than "
    )
    if size is None:
        return found + f"the {nbytes / 1e6:.3f} MB above, which it cannot exceed."
    more = budget * budget / likely / 1e6
    return (
        found
        + f"the {size} asked for, which it cannot exceed. To spend that too, ask for about {more:.2f}MB."
    )


def _facts(
    found: Plan,
    totals: Totals | None,
    prediction: Prediction | None,
    output: Path | None,
    to_rules: Path | None,
) -> dict[str, Any]:
    """What the command has to say, as JSON."""
    facts: dict[str, Any] = {
        "plan": None if output is None else str(output.absolute()),
        "target": found.target,
        "layers_by_bits": {str(bits): count for bits, count in _layers_by_bits(found).items()},
    }
    if totals is not None:
        facts |= {
            "payload_bytes": totals.nbytes,
            "ratio": totals.ratio,
            "bpw": totals.bpw,
            "nsr": totals.nsr / max(len(found.choices), 1),
            "total_nsr": totals.nsr,
            "gap": found.predicted["gap"],
            "temperature": found.predicted["temperature"],
        }
    if to_rules is not None:
        facts["rules"] = str(to_rules.absolute())
    if prediction is not None:
        facts["dry_run"] = asdict(prediction)
    return facts


def _layers_by_bits(found: Plan) -> dict[int, int]:
    return dict(sorted(Counter(option.bits for option in found.choices.values()).items()))
