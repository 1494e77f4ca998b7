"""The entry of the command line, ``workbench`` or ``python -m workbench``: exit codes and errors."""

from __future__ import annotations

import difflib
import sys
import traceback
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any, TextIO

import typer

from workbench.cli import DONE, FAILED, INTERRUPTED, WRONG_USAGE, app
from workbench.cli.arguments import name_formats
from workbench.cli.spelling import on_command_line
from workbench.errors import ArrowQuantError, CancelledError, UsageError
from workbench.terminal import print_error

_UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""Typer's base of usage errors, for which it has no public name."""


def main() -> None:
    """Run the command line of this process and end it with the exit code."""
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character is no reason to fail
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; an error is one message on stderr and, with ``--json``, a document on stdout.

    Parameters
    ----------
    arguments : sequence of str
        Without the program's name.

    Returns
    -------
    int
        The exit code: 0 when all is done, 1 when it failed or an export was found wrong, 2 for wrong usage or a
        wrong configuration, 130 for Ctrl-C.
    """
    as_json = "--json" in arguments
    try:
        command = typer.main.get_command(app)
        if "--help" in arguments:
            name_formats(command)
        outcome = command.main(list(arguments), prog_name="workbench", standalone_mode=False)
        if outcome == INTERRUPTED:  # what typer makes of a KeyboardInterrupt
            raise CancelledError("Interrupted.")
    except _UsageError as error:
        asked = error.ctx.command_path if error.ctx else "workbench"
        print_error("UsageError", f"{_usage_problem(error)} See {asked} --help.", as_json)
        return WRONG_USAGE
    except UsageError as error:
        print_error(error, error.said(on_command_line), as_json)
        return WRONG_USAGE
    except (CancelledError, KeyboardInterrupt, typer.Abort) as error:
        print_error(error, str(error) or "Interrupted.", as_json)
        return INTERRUPTED
    except (ArrowQuantError, OSError) as error:
        message = error.said(on_command_line) if isinstance(error, ArrowQuantError) else str(error)
        print_error(error, message, as_json)
        return FAILED
    except Exception as error:  # noqa: BLE001 - the last resort, which tells everything
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}. This is a bug; please report it with the lines above."
        print_error(error, message, as_json)
        return FAILED
    return outcome if isinstance(outcome, int) else DONE


def _usage_problem(error: Any) -> str:
    """What is wrong with the arguments; for an unknown option, with those most like it."""
    unknown = getattr(error, "option_name", None)
    if not hasattr(error, "possibilities") or unknown is None or error.ctx is None:
        return str(error.format_message())
    known = [option for parameter in error.ctx.command.params for option in parameter.opts]
    near = difflib.get_close_matches(unknown, known, n=2, cutoff=0.5)
    near += [option for option in known if option.startswith(unknown) and option not in near]
    return f"No such option {unknown}." + (f" Did you mean {' or '.join(near)}?" if near else "")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"Warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
