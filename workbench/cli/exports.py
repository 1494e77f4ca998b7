"""``workbench demo`` and ``quantize``: making exports.

What takes long to import is imported where it is used, so that a command starts quickly.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench import terminal
from workbench.cli.ahead import look_ahead
from workbench.cli.arguments import (
    AllWidths,
    Component,
    Effort,
    Json,
    Keep,
    Model,
    Names,
    Scheme,
    ShardSize,
    Target,
    export_folder,
    parse_bytes,
    parse_widths,
)
from workbench.cli.checking import source_bytes, verify_export
from workbench.errors import CancelledError

if TYPE_CHECKING:
    from workbench.config import DiffusionQuantConfig
    from workbench.engine import Report, Verification
    from workbench.plan import Plan

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; 130 is the shell's for Ctrl-C."""

DEMO_MODEL = "zoo:digits-dit"
DEMO_RUNS: dict[str, tuple[int, dict[str, int]]] = {
    "8-bit": (8, {}),
    "4-bit": (4, {}),
    "2-bit": (2, {}),
    "mixed": (4, {"*.norm1.linear.weight": 2, "proj_out_*": 8}),
}
"""What the demo makes: the bits of all layers, and those of some by glob."""

# Without markup, for which rich would take what stands in brackets.
app = typer.Typer(add_completion=False, rich_markup_mode=None)


def _print_version(wanted: bool) -> None:
    if wanted:
        from workbench.kernels import load_kernels

        print(f"arrowquant-workbench {version('arrowquant-workbench')}")
        print(f"kernels: {load_kernels().description}")
        raise typer.Exit


@app.callback()
def _workbench(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and the kernels in use.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Quantize diffusion models, and prove what was written.

    Begin with: workbench demo

    Exit codes: 0 done, 1 failed or found wrong, 2 wrong usage or configuration, 130 Ctrl-C.
    Settings also come from the environment: ARROW_QUANT_BIT_WIDTH=8 and the like.
    """


@app.command(short_help="Quantize a small model in four ways, verify each, and compare.")
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Keep the exports in this folder.", metavar="FOLDER")
    ] = None,
    as_json: Json = False,
) -> None:
    """Quantize a small real model at 8, 4 and 2 bits and mixed, verify each, and compare them.

    The model ships with the package: a diffusion transformer that draws handwritten digits.

    Example: workbench demo --out exports
    """
    if out is not None:
        out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="workbench-") as temporary:
        runs = [_demo_run(name, out or Path(temporary), shown=not as_json) for name in DEMO_RUNS]
    sound = all(verification.ok for _, _, verification in runs)
    if as_json:
        terminal.print_json(
            {
                "model": DEMO_MODEL,
                "ok": sound,
                "runs": [
                    {"name": name, "report": report.to_dict(), "verification": verification.to_dict()}
                    for name, report, verification in runs
                ],
            }
        )
    else:
        terminal.print_demo(DEMO_MODEL, DEMO_RUNS, runs)
        if out is not None:
            print(f"The exports are in {out}; look into one with: workbench inspect {out / 'mixed'}")
    if not sound:
        raise typer.Exit(FAILED)


def _demo_run(name: str, folder: Path, *, shown: bool) -> tuple[str, Report, Verification]:
    from workbench.config import DiffusionQuantConfig

    bits, overrides = DEMO_RUNS[name]
    # Any cosine will do: a layer must not fall back to another width than the one shown.
    config = DiffusionQuantConfig(
        bit_width=bits, layer_bit_widths=overrides, group_size=128, min_accuracy=0.0
    )
    report = _quantize(DEMO_MODEL, folder / name, config, shown=shown)
    return name, report, verify_export(folder / name, DEMO_MODEL, shown=shown)


@app.command(short_help="Quantize MODEL into the new folder OUT, and read it back.")
def quantize(
    model: Model,
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT",
            help="The folder to write; it must not exist, and appears when all is done.",
            parser=export_folder,
        ),
    ] = None,
    target: Target = None,
    from_gguf: Annotated[
        Path | None,
        typer.Option(
            help="A GGUF file in F16, BF16 or F32 in MODEL's place, all of whose keys a GGUF export keeps.",
            metavar="FILE",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            help="A plan to execute as it is; goes without the options on bits. With --target safetensors, what its "
            "export decodes to is written in the source's dtype, to try it.",
            metavar="FILE",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings as YAML.", metavar="FILE")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Defaults for edge, local or cloud.", metavar="NAME")
    ] = None,
    bit_width: Annotated[int | None, typer.Option(help="Bits per weight, 2 to 8.", metavar="BITS")] = None,
    scheme: Scheme = None,
    all_widths: AllWidths = False,
    shard_size: ShardSize = None,
    group_size: Annotated[
        int | None, typer.Option(help="Weights that share a scale: 16, 32, 64, 128 or 256.", metavar="N")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            help="Bits of the layers that a name or glob matches, the first match counts. Repeatable.",
            metavar="PATTERN=BITS",
        ),
    ] = None,
    keep: Keep = None,
    effort: Effort = None,
    names: Names = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Calibration records that weigh the search, or zoo:NAME; a plan made with some needs them.",
            metavar="FILE",
        ),
    ] = None,
    component: Component = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(help="Least cosine of a layer, 0 to 1; one under it gets more bits.", metavar="COSINE"),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Fail at a layer under min-accuracy instead.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Threads; 0 keeps all cores busy.", metavar="N")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where a stopped run of the same command left off; if stopped, leave what is done. A finished "
            "export is left as it is.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Quantize MODEL into the new folder OUT, read it back and report its size and error.

    Options count before the environment, the environment before --config, that before --profile.
    A layer that misses min-accuracy gets 4 bits, then 8, then keeps its source precision.

    Example: workbench quantize zoo:digits-dit out --bit-width 4 --override '*.norm1.linear.weight=2'
    """
    from workbench.engine.output.partial_folder import refuse_existing

    given: dict[str, Any] = {
        "target": target,
        "deployment_profile": profile,
        "bit_width": bit_width,
        "group_size": group_size,
        "scheme": scheme,
        "all_widths": all_widths or None,
        "shard_size_mb": None if shard_size is None else parse_bytes(shard_size) / 1e6,
        "layer_bit_widths": parse_widths(override or [], "--override") or None,
        "keep": keep or None,
        "effort": effort,
        "names": names,
        "calibration": calibration,
        "min_accuracy": min_accuracy,
        "fail_fast": fail_fast or None,
        "num_threads": threads,
    }
    given = {key: value for key, value in given.items() if value is not None}
    model, output = _places(model, output, from_gguf)
    settings, chosen = _settings(given, config, plan)
    is_there = resume and output.exists()
    if not is_there:
        refuse_existing(output.absolute())
    patterns = {"--override": list(given.get("layer_bit_widths", {})), "--keep": given.get("keep", [])}
    with look_ahead(
        model, component, settings.target, settings.names, chosen, patterns, settings.scheme
    ) as ahead:
        if not as_json:
            ahead.say(model)
        nbytes = ahead.checkpoint.nbytes
        report = _quantize(model, output, settings, chosen, component, resume, nbytes, shown=not as_json)
        loading = ahead.loading(output)
    if is_there and not as_json:
        print(f"{output} was finished before; nothing had to be done.", file=sys.stderr)
    facts = report.to_dict()
    if as_json:
        found = {"output": str(output.absolute()), "readers": list(ahead.readers), "loading": loading}
        terminal.print_json({**found, **facts})
        return
    print(f"{output}: {report.target}, {report.source_bytes / 1e6:.3f} MB before")
    terminal.print_table([terminal.totals_of(facts)])
    terminal.print_table(terminal.roles_of(facts))
    remarks = [remark for remark in terminal.remarks_on(facts) if remark not in ahead.readers]
    print(*remarks, f"Every layer: workbench inspect {output}", "", "To load it:", loading, sep="\n")


def _places(model: str, output: Path | None, from_gguf: Path | None) -> tuple[str, Path]:
    """What to read and where to write: with a GGUF file, the only argument is where."""
    if from_gguf is not None:
        if output is not None:
            raise typer.BadParameter("it stands for MODEL; leave MODEL out.", param_hint="--from-gguf")
        if from_gguf.suffix != ".gguf":
            raise typer.BadParameter(f"{from_gguf} does not end in .gguf.", param_hint="--from-gguf")
        return str(from_gguf), export_folder(model)
    if output is None:
        raise typer.BadParameter("it is missing.", param_hint="OUT")
    return model, output


def _settings(
    given: dict[str, Any], config: Path | None, plan: Path | None
) -> tuple[DiffusionQuantConfig, Plan | None]:
    from workbench.config import DiffusionQuantConfig
    from workbench.formats import check_target, formats
    from workbench.plan import Plan

    if plan is not None:
        free = {"num_threads", "min_accuracy", "shard_size_mb", "calibration"}
        if (record := formats().get(given.get("target", ""))) is not None and record.plan_of is not None:
            free.add("target")
        excluded = given.keys() - free
        if excluded or config is not None:
            names = ", ".join(sorted(excluded | ({"config"} if config else set())))
            raise typer.BadParameter(f"a plan is executed as it is; leave out {names}.", param_hint="--plan")
        settings, found = DiffusionQuantConfig(**given), Plan.load(plan)
    else:
        found = None
        settings = (
            DiffusionQuantConfig(**given)
            if config is None
            else DiffusionQuantConfig.from_yaml(config, **given)
        )
    if "target" not in settings.model_fields_set:  # neither argument, environment nor file says it
        settings = settings.model_copy(update={"target": None})
    check_target(settings)
    return settings, found


def _quantize(
    model: str,
    output: Path,
    config: DiffusionQuantConfig,
    plan: Plan | None = None,
    component: str | None = None,
    resume: bool = False,
    nbytes: int | None = None,
    *,
    shown: bool,
) -> Report:
    from workbench.engine import DiffusionOrchestrator

    nbytes = source_bytes(model, component) if nbytes is None else nbytes
    with terminal.ctrl_c() as cancel, terminal.progress_bar(output.name, nbytes, shown) as callback:
        try:
            return DiffusionOrchestrator(config).run(
                model, output, plan=plan, component=component, resume=resume, callback=callback, cancel=cancel
            )
        except CancelledError:
            left = "The same command goes on from here." if resume else "Nothing was left behind."
            raise CancelledError(f"Interrupted. {left}", path=output) from None
