"""The page ``reference/cli.md``, written from the commands' own help whenever the site is built."""

from __future__ import annotations

from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from workbench.cli import app
from workbench.cli.arguments import name_formats

PAGE = "reference/cli.md"

HEAD = """# Commands

Every command, with its arguments and options, as `workbench COMMAND --help` prints them.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, PAGE, content=page()))
    return files


def page() -> str:
    """Markdown of the page."""
    program = typer.main.get_command(app)
    name_formats(program)
    commands: dict[str, Any] = program.commands  # type: ignore[attr-defined]
    parts = [HEAD, _paragraphs(program.help), _options(program)]
    for name, command in commands.items():
        parts += [f"## workbench {name}", _paragraphs(command.help), _usage(name, command)]
        parts += [_arguments(command), _options(command)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _paragraphs(text: str | None) -> str:
    """Paragraphs of a help text; its examples are blocks of their own."""
    paragraphs = []
    for paragraph in (text or "").strip().split("\n\n"):
        title, _, rest = paragraph.partition(": ")
        if rest.startswith("workbench "):
            paragraphs.append(f"{_plain(title)}:\n\n```sh\n{' '.join(rest.split())}\n```")
        else:
            paragraphs.append(_plain(" ".join(paragraph.split())))
    return "\n\n".join(paragraphs)


def _usage(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    shown = " ".join(one.metavar if one.required else f"[{one.metavar}]" for one in arguments)
    return f"```text\nworkbench {name} [OPTIONS] {shown}".rstrip() + "\n```"


def _arguments(command: Any) -> str:
    rows = [
        f"| `{one.metavar}` | {_plain(one.help)} |"
        for one in command.params
        if one.param_type_name == "argument"
    ]
    return "\n".join(["| argument | |", "|---|---|", *rows]) if rows else ""


def _options(command: Any) -> str:
    rows = []
    for one in command.params:
        if one.param_type_name == "option" and not one.hidden:
            names = ", ".join([*one.opts, *one.secondary_opts])
            rows.append(f"| `{names}{f' {one.metavar}' if one.metavar else ''}` | {_plain(one.help)} |")
    return "\n".join(["| option | |", "|---|---|", *rows]) if rows else ""


def _plain(text: str | None) -> str:
    """Text in which no character is taken for markup."""
    return "".join(
        f"\\{letter}" if letter in "\\`*_{}[]<>|#" else letter for letter in " ".join((text or "").split())
    )
