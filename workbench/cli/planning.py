"""``workbench analyze`` and ``plan``: what layers cost, the best plan for a size, and what exporting it will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import terminal
from workbench.cli.ahead import Ahead, look_ahead
from workbench.cli.arguments import (
    TARGETS,
    AllWidths,
    Component,
    Effort,
    Json,
    Keep,
    Model,
    Names,
    ShardSize,
    Target,
    parse_widths,
    settings_from,
)
from workbench.cli.ready_plans import take_plan
from workbench.errors import ValidationError

if TYPE_CHECKING:
    from workbench.formats import TargetSettings
    from workbench.plan import Plan
    from workbench.session import Session
    from workbench.session.prediction import Prediction
    from workbench.session.values import Totals

RULES = "llama-quantize, stable-diffusion.cpp, mlx or compressed-tensors"
Calibration = Annotated[
    str | None,
    typer.Option(
        help="Calibration records that price the options, or zoo:NAME for those that ship with a model.",
        metavar="FILE",
    ),
]
Groups = Annotated[
    int, typer.Option("--time-groups", help="Groups into which denoising steps are taken.", metavar="N")
]
Exact = Annotated[bool, typer.Option("--exact", help="Measure every row instead of a sample.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(short_help="Show how the weights of the layers are distributed.")(analyze)
    app.command(short_help="Find the bits of every layer that lose least within a size.")(plan)


def analyze(
    model: Model,
    target: Target = None,
    component: Component = None,
    calibration: Calibration = None,
    time_groups: Groups = 10,
    keep: Keep = None,
    effort: Effort = None,
    names: Names = None,
    exact: Exact = False,
    all_widths: AllWidths = False,
    as_json: Json = False,
) -> None:
    """Show how the weights of every layer are distributed, and what each width would cost it.

    Ĥ is the normalised entropy of the histogram, crest the peak over σ, H exp the entropy of the exponent bits;
    under each width stands the noise-to-signal ratio of the best option. With a calibration that is the predicted
    error of the model's output, and κ says how strongly the output feels the layer, V how unlike the time groups'
    activations are. Measurements are remembered.

    Example: workbench analyze zoo:digits-dit
    """
    settings = settings_from(shard_size=None, all_widths=all_widths)
    with look_ahead(model, component, target, names, patterns={"--keep": keep or []}) as ahead:
        if not as_json:
            ahead.say(model)
        session = _session(
            model, ahead, component, exact, calibration, time_groups, effort, names, keep or [], settings,
            shown=not as_json,
        )  # fmt: skip
    with session:
        layers, options = session.layers.to_pylist(), session.options.to_pylist()
        path = str(session.checkpoint.path)
        notes = session.notes
    if as_json:
        terminal.print_json(
            {"model": path, "target": ahead.target, "notes": notes, "layers": layers, "options": options}
        )
        return
    terminal.print_table(_analysis(layers, options))
    print(*notes, sep="\n")


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
            help="What the rules call tensors: gguf, as the GGUF file does (llama-quantize, stable-diffusion.cpp), or "
            "checkpoint (the others).",
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
    from workbench.formats.rules import rules_format as format_named

    if output is None and to_rules is None and not dry_run:
        raise typer.BadParameter("say where the plan goes: -o, --to-rules, or --dry-run.", param_hint="-o")
    if (from_rules or to_rules) and rules_format is None:
        raise typer.BadParameter(f"name the format of the rules: {RULES}.", param_hint="--rules-format")
    for path in filter(None, (output, to_rules)):
        if path.exists():
            raise ValidationError(f"{path} exists already. Choose another name, or move it away.", path=path)
    settings = settings_from(shard_size, all_widths)
    if target is None and rules_format is not None and from_plan is None:
        target = format_named(rules_format).target
    totals: Totals | None = None
    notes: list[str] = []
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
        with look_ahead(model, component, target, names, patterns=patterns) as ahead:
            if not as_json:
                ahead.say(model)
            told = ahead.readers
            session = _session(
                model, ahead, component, exact, calibration, time_groups, effort, names, keep or [], settings,
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
            notes = session.notes
            if to_rules is not None and rules_format is not None:
                session.save_rules(to_rules, rules_format, rules_names)
    with look_ahead(model, component, found.target, names, found) as ahead:
        readers, loading = ahead.readers, ahead.loading(Path("OUT"))
    if output is not None:
        found.save(output)
    if as_json:
        facts = _facts(found, totals, prediction, output, to_rules)
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
    print(*(f"{bits} bits: {count} layers" for bits, count in _layers_by_bits(found).items()), sep="\n")
    if to_rules is not None:
        print(f"{to_rules}: rules for {rules_format}")
    if prediction is not None:
        terminal.print_prediction(prediction)
        print(*(sentence for sentence in readers if sentence not in told), "To load it:", loading, sep="\n")
    print(*notes, sep="\n")
    if output is not None:
        weighed = f" --calibration {calibration}" if found.weighted_by else ""
        print(f"Next: workbench quantize {model} OUT --plan {output}{weighed}")


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


def _session(
    model: str,
    ahead: Ahead,
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
    from workbench.session import open_session

    with (
        terminal.ctrl_c() as cancel,
        terminal.progress_bar(model, ahead.checkpoint.nbytes, shown) as callback,
    ):
        return open_session(
            model, ahead.target, component=component, exact=exact, calibration=calibration,
            num_time_groups=time_groups, effort=effort, names=names, keep=keep, callback=callback, cancel=cancel,
            all_widths=settings.all_widths, shard_size=settings.shard_bytes,
        )  # fmt: skip


def _analysis(layers: Sequence[dict[str, Any]], options: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    best: dict[tuple[str, int], float] = {}
    for option in options:
        if option["scheme"] != "none":
            key = option["layer"], option["bits"]
            best[key] = min(option["nsr"], best.get(key, option["nsr"]))
    widths = sorted({bits for _, bits in best})
    return [
        {
            "layer": layer["name"],
            "role": layer["role"],
            "weights": f"{layer['params']:,}",
            "Ĥ": _digits(layer["entropy"], 3),
            "crest": _digits(layer["crest"], 1),
            "kurtosis": _digits(layer["kurtosis"], 2),
            "H exp": _digits(layer["exponent_entropy"], 2),
            **_over_time(layer),
            **{f"NSR {bits}": terminal.number(best.get((layer["name"], bits))) for bits in widths},
        }
        for layer in layers
    ]


def _over_time(layer: dict[str, Any]) -> dict[str, str]:
    """The columns that a calibration adds."""
    if "importance" not in layer:
        return {}
    return {"κ": terminal.number(layer["importance"]), "V": _digits(layer["heterogeneity"], 2)}


def _digits(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
