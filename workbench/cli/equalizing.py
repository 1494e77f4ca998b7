"""``workbench equalize``: a checkpoint whose channels are balanced, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench import terminal
from workbench.cli.arguments import TARGETS, Component, Json, Model, export_folder


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(short_help="Balance the channels of MODEL by exact folds.")(equalize)


def equalize(
    model: Model,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The folder to write; it must not exist, and appears when all is done.",
            parser=export_folder,
        ),
    ],
    calibration: Annotated[
        str,
        typer.Option(
            help="Calibration records, or zoo:NAME for those that ship with a model.", metavar="FILE"
        ),
    ],
    alpha: Annotated[
        float | None,
        typer.Option(
            help="The one strength to try, 0 to 1; by default tenths are searched.", metavar="ALPHA"
        ),
    ] = None,
    bits: Annotated[
        int,
        typer.Option("--bits", "--bit-width", help="Bits at which folds are judged, 2 to 8.", metavar="BITS"),
    ] = 4,
    group_size: Annotated[int, typer.Option(help="Weights that share a scale then.", metavar="N")] = 128,
    target: Annotated[str, typer.Option(help=f"Export format then: {TARGETS}.", metavar="NAME")] = "parquet",
    activations: Annotated[
        str,
        typer.Option(
            help="Whether inputs will be rounded to 8 bits: none, int8-time or int8-static.", metavar="MODE"
        ),
    ] = "none",
    component: Component = None,
    as_json: Json = False,
) -> None:
    """Balance the channels of MODEL by exact folds, and write the checkpoint that computes the same into OUT.

    A fold moves factors from linears into the norm, modulation or linear that feeds them alone. It is made where
    the linears then quantize with less error, with --activations their inputs too, and the float32 function stays.
    OUT is an ordinary checkpoint, with its calibration.parquet and a folds.json; its folded tensors are float32.

    Example: workbench equalize zoo:stdlib-mdlm balanced --calibration zoo:stdlib-mdlm --bits 3
    """
    from workbench.checkpoint import open_checkpoint
    from workbench.config import DiffusionQuantConfig
    from workbench.engine import SpatialQuantizer, write_folded
    from workbench.engine.output.partial_folder import refuse_existing

    refuse_existing(output.absolute())
    given: dict[str, Any] = {"target": target, "bit_width": bits, "group_size": group_size}
    config = DiffusionQuantConfig(**given)  # which checks them
    with open_checkpoint(model, component) as checkpoint, terminal.ctrl_c() as cancel:
        with terminal.progress_bar(output.name, checkpoint.nbytes, not as_json) as callback:
            spatial = SpatialQuantizer.of(
                checkpoint, calibration, target=target, bits=config.bit_width, scheme=config.scheme,
                group_size=config.group_size, alpha=alpha, activations=activations,
                callback=callback, cancel=cancel,
            )  # fmt: skip
        sites = spatial.table().to_pylist()
        if not as_json:
            terminal.print_table(_rows(sites))
            print(*spatial.remarks, sep="\n", end="\n" if spatial.remarks else "")
        with terminal.progress_bar(output.name, spatial.checkpoint.nbytes, not as_json) as callback:
            written = write_folded(spatial, output, callback=callback, cancel=cancel)
    if as_json:
        facts: dict[str, Any] = {
            "output": str(written.path),
            "calibration": str(written.calibration),
            "fingerprint": written.fingerprint,
            "payload_bytes": written.nbytes,
            "summary": spatial.summary,
            "sites": sites,
            "remarks": list(spatial.remarks),
        }
        terminal.print_json(facts)
        return
    print(f"{output}: {written.nbytes / 1e6:.3f} MB; {spatial.summary}.")
    print(f"Next: workbench analyze {output} --calibration {output / written.calibration.name}")


def _rows(sites: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "fold": site["site"],
            "α": f"{site['alpha']:.1f}" if site["alpha"] else "–",
            "D before": terminal.number(site["before"]),
            "D after": terminal.number(site["after"]),
            "": site["remark"],
        }
        for site in sites
    ]
