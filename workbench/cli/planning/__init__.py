"""``workbench plan``: a plan solved for or converted, and what exporting it will take."""

from workbench.cli.planning.command import add_to

__all__ = ["add_to"]
