"""The edits of a session: each a value that changes a state, writes its line of Python, and is read from a message.

To add one: a frozen dataclass under `Edit`, a method of `Session` that does it, and, where the panel offers it, its
name in `workbench.session.commands.messages`.
"""

from workbench.session.commands.command import Command, Edit, Redo, Step, Undo
from workbench.session.commands.layers import Keep, Lock, SetBits, SetOption, Unlock
from workbench.session.commands.learning import Learn
from workbench.session.commands.messages import act_of, edit_of
from workbench.session.commands.plans import LoadPlan, LoadRules
from workbench.session.commands.retargeting import Retarget
from workbench.session.commands.solving import POLICIES, Follow, Solve

__all__ = [
    "POLICIES",
    "Command",
    "Edit",
    "Follow",
    "Keep",
    "Learn",
    "LoadPlan",
    "LoadRules",
    "Lock",
    "Redo",
    "Retarget",
    "SetBits",
    "SetOption",
    "Solve",
    "Step",
    "Undo",
    "Unlock",
    "act_of",
    "edit_of",
]
