"""The command line: `app`, with the commands that the other modules here add to it."""

from workbench.cli import checking, equalizing, planning, serving
from workbench.cli.exports import DEMO_RUNS, DONE, FAILED, INTERRUPTED, WRONG_USAGE, app

checking.add_to(app)
equalizing.add_to(app)
planning.add_to(app)
serving.add_to(app)

__all__ = ["DEMO_RUNS", "DONE", "FAILED", "INTERRUPTED", "WRONG_USAGE", "app"]
