"""How messages name settings and calls on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from workbench.errors import ANY

_OPTIONS: Mapping[str, str] = {
    "all_widths": "--all-widths",
    "bit_width": "--bit-width",
    "bpw": "--bpw",
    "calibration": "--calibration",
    "ceilings": "--ceiling",
    "component": "--component",
    "deployment_profile": "--profile",
    "effort": "--effort",
    "fail_fast": "--fail-fast",
    "floors": "--floor",
    "group_size": "--group-size",
    "keep": "--keep",
    "layer_bit_widths": "--override",
    "locks": "--lock",
    "max_damage": "--max-damage",
    "min_accuracy": "--min-accuracy",
    "min_cosine": "--min-cosine",
    "names": "--names",
    "num_threads": "--threads",
    "num_time_groups": "--time-groups",
    "resume": "--resume",
    "scheme": "--scheme",
    "shard_size_mb": "--shard-size",
    "size": "--size",
    "target": "--target",
    "temperature": "--temperature",
    "ties": "--tie",
}
"""Options by the setting they give; the other settings are keys of --config."""

_COMMANDS: Mapping[str, str] = {"open": "workbench analyze", "load": "workbench inspect"}

_PLACEHOLDERS: Mapping[str, str] = {
    "calibration": "FILE",
    "component": "NAME",
    "open": "MODEL",
    "load": "OUT",
}
"""What stands for a value that the reader has to fill in, as in the help texts."""


def on_command_line(name: str, value: str | None) -> str:
    """The spelling of a setting or a call on the command line, see `workbench.errors.Spelling`."""
    call = name.removesuffix("()")
    given = (
        "" if value is None else f" {_PLACEHOLDERS.get(call, ANY) if value == ANY else shlex.quote(value)}"
    )
    if name.endswith("()"):
        return _COMMANDS[call] + given
    option = _OPTIONS.get(name)
    if option is None:
        return f"{name} in --config" if value is None else f"{name}: {value} in --config"
    return option + given
