"""Commands by the messages that ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workbench.errors import ArgumentError
from workbench.session.commands.command import Command, Message, Redo, Undo
from workbench.session.commands.layers import Keep, Lock, SetBits, Unlock
from workbench.session.commands.solving import Follow, Solve

EDITS: Mapping[str, type[Command]] = {
    "bits": SetBits,
    "keep": Keep,
    "lock": Lock,
    "unlock": Unlock,
    "undo": Undo,
    "redo": Redo,
}
"""By the ``action`` of a message of type ``edit``, which names layers by ``rows``."""

ACTS: Mapping[str, type[Command]] = {
    "solve": Solve,
    "budget": Solve,
    "follow": Follow,
    "lock": Lock,
    "unlock": Unlock,
}
"""By the ``act`` of a message of type ``do``, which names layers by ``role``."""


def edit_of(message: Message, names: Sequence[str]) -> Command:
    """The command that a message of type ``edit`` asks for.

    Parameters
    ----------
    message : mapping
        From a browser; every value in it is checked.
    names : sequence of str
        Names of the layers, by index.

    Raises
    ------
    ArgumentError
        If it asks for no edit that there is, or not rightly.
    """
    action = message.get("action")
    if not isinstance(action, str) or action not in EDITS:
        raise ArgumentError(
            f"There is no edit {action!r}; allowed: {', '.join(EDITS)}.", key="action", value=action
        )
    return EDITS[action].from_message({"rows": [], **message}, names)


def act_of(message: Message, names: Sequence[str]) -> Command | None:
    """The command that a message of type ``do`` asks for; None where it asks for something else, such as an export.

    Parameters and errors as for `edit_of`.
    """
    act = message.get("act")
    if not isinstance(act, str) or act not in ACTS:
        return None
    return ACTS[act].from_message(message, names)
