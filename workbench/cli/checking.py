"""``workbench inspect`` and ``verify``: looking at exports, and proving them.

What takes long to import is imported where it is used, so that a command starts quickly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench import terminal
from workbench.cli.arguments import Component, Export, Json
from workbench.errors import MetadataError

if TYPE_CHECKING:
    from workbench.engine import Verification


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(short_help="Show what an export holds: its totals and every layer.")(inspect)
    app.command(short_help="Prove that an export decodes to what its report claims.")(verify)


def inspect(
    output: Export,
    as_json: Json = False,
) -> None:
    """Show what an export holds: its totals and every layer. The source is not needed.

    Sizes are those of the files; errors are what the report says, which workbench verify checks.

    Example: workbench inspect out
    """
    from workbench.engine import load

    export = load(output)
    kept = sum(tensor.option is None for tensor in export.payload.tensors.values())
    if as_json:
        facts = {
            "output": str(output.absolute()),
            "target": export.plan.target,
            "fingerprint": export.plan.fingerprint,
            "made_by": dict(export.plan.made_by),
            "payload_bytes": export.payload.nbytes,
            "tensors": len(export),
            "kept_tensors": kept,
            "config": export.config,
            "report": export.report,
        }
        terminal.print_json(facts)
        return
    try:
        totals, layers = terminal.totals_of(export.report), terminal.layers_of(export.report)
        remarks = terminal.remarks_on(export.report)
    except (KeyError, TypeError, ValueError) as error:
        raise MetadataError(
            f"{output}: the report in it is malformed ({error!r}). Export again.", path=output
        ) from error
    print(
        f"{output}: {export.plan.target}, {export.payload.nbytes:,} bytes, {len(export)} tensors, {kept} of them kept"
    )
    terminal.print_table([totals])
    terminal.print_table(layers)
    print(*remarks, sep="\n")


def verify(
    output: Export,
    source: Annotated[str, typer.Option(help="The checkpoint that it was made from.", metavar="MODEL")],
    component: Component = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Calibration records that weighed the codes, or zoo:NAME: dequantized safetensors need them.",
            metavar="FILE",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove that an export decodes to what its report claims; the exit code is 1 if it does not.

    Every block is read from disk, checked against its checksum, decoded in float32 and compared with the source. Where
    the package of the format's runtime is installed (mlx, compressed-tensors, gguf), it loads the files too: it must
    give every kept tensor's values and decode every layer, in its own arithmetic. Δ is the greatest difference from
    what we decode, which is to be no more than that arithmetic's rounding.

    Example: workbench verify out --source zoo:digits-dit
    """
    outcome = verify_export(output, source, component, calibration, shown=not as_json)
    if as_json:
        terminal.print_json(outcome.to_dict())
    elif outcome.ok:
        terminal.print_table(terminal.checks_of(outcome.to_dict()))
        print(f"{output}: verified. All {outcome.tensors} tensors decode to what the report claims.")
        print(f"Decoded by: {outcome.decoder}.")
        used = {layer.arithmetic for layer in outcome.by_layer}
        narrow = [dtype for dtype in ("bfloat16", "float16") if dtype in used]
        if narrow:
            print(
                f"NSR is that of its arithmetic in {' and '.join(narrow)}, {terminal.number(outcome.nsr)} in the mean; "
                f"the report's, without that rounding, is {terminal.number(outcome.exact_nsr)}."
            )
        if outcome.worst_layer is not None:
            worst = f"{outcome.worst_layer}, cosine {outcome.worst_cosine:.6f}"
            print(f"The worst of {outcome.layers} layers: {worst}.")
    else:
        print(f"{output}: NOT verified.", *outcome.problems, sep="\n")
    if not outcome.ok:
        raise typer.Exit(1)


def verify_export(
    output: Path,
    source: str,
    component: str | None = None,
    calibration: str | None = None,
    *,
    shown: bool,
) -> Verification:
    """Verify an export with progress."""
    from workbench.engine import verify

    with terminal.progress_bar(output.name, source_bytes(source, component), shown) as callback:
        return verify(output, source, component=component, calibration=calibration, callback=callback)


def source_bytes(model: str, component: str | None) -> int:
    """Bytes of a checkpoint's tensors."""
    from workbench.checkpoint import open_checkpoint

    with open_checkpoint(model, component) as checkpoint:
        return checkpoint.nbytes
