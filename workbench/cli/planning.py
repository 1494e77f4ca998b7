"""``workbench analyze`` and ``plan``: what layers cost, and the best plan for a size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import terminal
from workbench.cli.arguments import Component, Json, Model, parse_widths
from workbench.errors import ValidationError

if TYPE_CHECKING:
    from workbench.session import Session

Target = Annotated[str, typer.Option(help="Export format: parquet, mlx or gguf.", metavar="NAME")]
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
    app.command()(analyze)
    app.command()(plan)


def analyze(
    model: Model,
    target: Target = "parquet",
    component: Component = None,
    calibration: Calibration = None,
    time_groups: Groups = 10,
    exact: Exact = False,
    as_json: Json = False,
) -> None:
    """Show how the weights of every layer are distributed, and what each width would cost it.

    Ĥ is the normalised entropy of the histogram, crest the peak over σ, H exp the entropy of the exponent bits;
    under each width stands the noise-to-signal ratio of the best option. With a calibration that is the predicted
    error of the model's output, and κ says how strongly the output feels the layer, V how unlike the time groups'
    activations are. Measurements are remembered.

    Example: workbench analyze zoo:digits-dit
    """
    with _session(model, target, component, exact, calibration, time_groups, shown=not as_json) as session:
        layers, options = session.layers.to_pylist(), session.options.to_pylist()
        path = str(session.checkpoint.path)
    if as_json:
        terminal.print_json({"model": path, "target": target, "layers": layers, "options": options})
        return
    terminal.print_table(_analysis(layers, options))


def plan(
    model: Model,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The plan to write, YAML; it must not exist.", metavar="FILE"),
    ],
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
    target: Target = "parquet",
    component: Component = None,
    calibration: Calibration = None,
    time_groups: Groups = 10,
    exact: Exact = False,
    as_json: Json = False,
) -> None:
    """Find the bits of every layer that lose least within a size, and write them as a plan.

    There is one goal: --size, --bpw, --temperature, --max-nsr or --min-cosine.

    The gap is by how much another plan of the same bytes and limits could be better at most: certified, not guessed.

    Example: workbench plan zoo:digits-dit --size 2MB -o plan.yaml; then workbench quantize --plan plan.yaml
    """
    if output.exists():
        raise ValidationError(f"{output} exists already. Choose another name, or move it away.", path=output)
    locks = parse_widths(lock or [], "--lock")
    floors, ceilings = parse_widths(floor or [], "--floor"), parse_widths(ceiling or [], "--ceiling")
    with _session(model, target, component, exact, calibration, time_groups, shown=not as_json) as session:
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
            ties=[patterns.split(",") for patterns in tie or []],
        )
        found = session.plan
        found.save(output)
    widths: dict[int, list[str]] = {}
    for name, option in found.choices.items():
        widths.setdefault(option.bits, []).append(name)
    facts: dict[str, Any] = {
        "plan": str(output.absolute()),
        "payload_bytes": totals.nbytes,
        "ratio": totals.ratio,
        "bpw": totals.bpw,
        "nsr": totals.nsr / max(len(found.choices), 1),
        "total_nsr": totals.nsr,
        "gap": found.predicted["gap"],
        "temperature": found.predicted["temperature"],
        "layers_by_bits": {str(bits): len(names) for bits, names in sorted(widths.items())},
    }
    if as_json:
        terminal.print_json(facts)
        return
    print(f"{output}: {len(found.choices)} layers for {target}")
    row = {
        "MB": f"{totals.nbytes / 1e6:.3f}",
        "ratio": f"{totals.ratio:.2f}",
        "bpw": f"{totals.bpw:.3f}",
        "NSR": terminal.number(facts["nsr"]),
        "gap": f"{totals.gap:.3%}",
        "temperature": terminal.number(totals.temperature),
    }
    terminal.print_table([row])
    print(*(f"{bits} bits: {len(names)} layers" for bits, names in sorted(widths.items())), sep="\n")
    print(f"Next: workbench quantize {model} OUT --plan {output}")


def _session(
    model: str,
    target: str,
    component: str | None,
    exact: bool,
    calibration: str | None,
    time_groups: int,
    *,
    shown: bool,
) -> Session:
    from workbench.checkpoint import open_checkpoint
    from workbench.session import open_session

    with open_checkpoint(model, component) as checkpoint:
        nbytes = checkpoint.nbytes
    with terminal.ctrl_c() as cancel, terminal.progress_bar(model, nbytes, shown) as callback:
        return open_session(
            model, target, component=component, exact=exact, calibration=calibration,
            num_time_groups=time_groups, callback=callback, cancel=cancel,
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
