"""Arguments that several commands take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from workbench.formats import TargetSettings

TARGETS, SCHEMES, EFFORTS, ORIGINALLY_NAMED, RULES, RULES_NAMES = (
    "{targets}", "{schemes}", "{efforts}", "{originally named}", "{rules}", "{rules' names}"
)  # fmt: skip
"""What stands in help texts for what the export formats say of themselves, see `name_formats`."""

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A safetensors or GGUF file, an index, a folder, or zoo:NAME.")
]
Component = Annotated[
    str | None, typer.Option(help="Component of a diffusers folder, if not its denoiser.", metavar="NAME")
]
Effort = Annotated[
    str | None,
    typer.Option(
        help=f"How hard to look for good codes: fast, normal or best. By default {EFFORTS}.",
        metavar="EFFORT",
    ),
]
Names = Annotated[
    str | None,
    typer.Option(
        help=f"What layers are called: original, as ComfyUI reads them, the default for {ORIGINALLY_NAMED}, or "
        "checkpoint, as in MODEL.",
        metavar="NAME",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to stdout, an error too; all else to stderr.")
]


def export_folder(text: str) -> Path:
    """The folder of an export, of what was typed; a Path would forget the ``./`` of ``./~``."""
    from workbench.engine.output.partial_folder import export_folder as folder_of

    return folder_of(text)


Export = Annotated[Path, typer.Argument(metavar="OUT", help="The folder of an export.", parser=export_folder)]

Keep = Annotated[
    list[str] | None,
    typer.Option(
        help="Layers that a name, a glob or role:GLOB matches stay in their source dtype; they may hold NaN or Inf. "
        "Repeatable.",
        metavar="PATTERN",
    ),
]

Target = Annotated[
    str | None,
    typer.Option(
        help=f"Export format: {TARGETS}. By default what the usual runtime of MODEL's family loads, and parquet, an "
        "archive, where none is known.",
        metavar="NAME",
    ),
]

AllWidths = Annotated[
    bool,
    typer.Option(
        "--all-widths",
        help="Offer widths too that only newer runtimes read right: 3, 5, 6 and 7 bits of compressed-tensors.",
    ),
]
Scheme = Annotated[
    str | None,
    typer.Option(
        help=f"asymmetric, with a zero point, or symmetric, with a scale only. By default {SCHEMES}: asymmetric "
        "options that a format's usual runtime does not load are offered where they are asked for.",
        metavar="NAME",
    ),
]
ShardSize = Annotated[
    str | None,
    typer.Option(
        help="Tensor data after which a safetensors file is closed, such as 2GB; 5GB by default.",
        metavar="SIZE",
    ),
]


Calibration = Annotated[
    str | None,
    typer.Option(
        help="Calibration records that predict damage, or zoo:NAME for those that ship with a model.",
        metavar="FILE",
    ),
]
Groups = Annotated[
    int, typer.Option("--time-groups", help="Groups into which denoising steps are taken.", metavar="N")
]
Exact = Annotated[bool, typer.Option("--exact", help="Measure every row instead of a sample.")]


def parse_widths(texts: Sequence[str], option: str) -> dict[str, int]:
    """Bits by pattern, of texts such as ``*attn*=8``; a wrong one is the fault of the option named."""
    widths = {}
    for text in texts:
        pattern, _, bits = text.rpartition("=")
        if not pattern or not bits.isdecimal():
            raise typer.BadParameter(f"{text!r} is not PATTERN=BITS, such as '*attn*=8'.", param_hint=option)
        widths[pattern] = int(bits)
    return widths


def parse_bytes(text: str) -> int:
    """Bytes of a size such as ``2GB``."""
    from workbench.thermo.goal import parse_size

    return parse_size(text)


def settings_from(shard_size: str | None, all_widths: bool, scheme: str | None = None) -> TargetSettings:
    """What options on the command line ask of a target."""
    from workbench.formats import DEFAULTS, TargetSettings

    nbytes = DEFAULTS.shard_bytes if shard_size is None else parse_bytes(shard_size)
    return TargetSettings(nbytes, all_widths, scheme)


def name_formats(command: Any) -> None:
    """Have the help texts of a command and its subcommands say what the export formats say of themselves.

    Only where help is asked for, since the formats bring what takes long to import.
    """
    words = _words()
    for parameter in command.params:
        for placeholder, text in words.items():
            if placeholder in (getattr(parameter, "help", None) or ""):
                parameter.help = parameter.help.replace(placeholder, text)
    for subcommand in getattr(command, "commands", {}).values():
        name_formats(subcommand)


def _words() -> dict[str, str]:
    from workbench.formats import formats

    records = formats().values()
    efforts = [f"{one.effort} for {one.name}" for one in records if one.effort != "fast"]
    schemes = [f"{one.scheme} for {one.name}" for one in records if one.scheme != "asymmetric"]
    in_files = [f"{one.name}, as its files do ({', '.join(one.rules)})" for one in records if one.file_names]
    return {
        TARGETS: either([f"{one.name} ({one.about})" for one in records], "; or "),
        SCHEMES: ", ".join([*schemes, "else asymmetric"]),
        EFFORTS: ", ".join([*efforts, "else fast"]),
        ORIGINALLY_NAMED: either([one.name for one in records if one.names == "original"], " and "),
        RULES: rules_choices(),
        RULES_NAMES: ", ".join([*in_files, "or checkpoint (the others)"]),
    }


def rules_choices() -> str:
    """The syntaxes of other tools' rules, for help and messages."""
    from workbench.formats.rules import syntaxes

    return either(list(syntaxes()))


def either(words: Sequence[str], last: str = " or ") -> str:
    """Words as alternatives: ``a, b or c``."""
    comma = "; " if ";" in last else ", "
    return last.join(filter(None, [comma.join(words[:-1]), words[-1]]))
