"""Where a tensor of diffusers goes in an original single-file checkpoint, by the rules of its family."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from workbench.architectures.record import Architecture, Rule

SWAP = "~"
"""Before a module whose two halves the original has in the other order."""

NUMBER = "#"
"""A number in a list, in a rule."""

_NUMBER = re.compile(r"(?<![^.])\d{1,6}(?![^.])")
"""A part of a name that is a number."""


@dataclass(frozen=True)
class Place:
    """Where a tensor goes."""

    original: str
    """The name of the original tensor."""
    sources: tuple[str, ...]
    """The tensors whose rows it has, one after the other."""
    is_swapped: bool
    """Whether the halves of its rows change places."""


class OriginalNames:
    """The rules of a family, ready for look-up.

    Parameters
    ----------
    rules : iterable of Rule
        Of several that fit a name the one with the fewest ``#`` counts, then the first.

    Raises
    ------
    ValueError
        If the two sides of a rule have not the same number of ``#``.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules: dict[str, list[tuple[str, Rule]]] = {}
        for rule in rules:
            original, modules = rule
            for module in (module.removeprefix(SWAP) for module in modules):
                if module.count(NUMBER) != original.count(NUMBER):
                    raise ValueError(f"{original!r} and {module!r} have not the same number of {NUMBER}.")
                self._rules.setdefault(_shape(module), []).append((module, rule))
        for found in self._rules.values():
            found.sort(key=lambda entry: entry[0].count(NUMBER))

    def place_of(self, tensor: str) -> Place | None:
        """Where a tensor goes; None where no rule knows it."""
        module, dot, leaf = tensor.rpartition(".")
        for name, ending in ((tensor, ""), (module, dot + leaf)):
            for pattern, (original, modules) in self._rules.get(_shape(name), ()):
                numbers = _numbers(pattern, name)
                if numbers is None:
                    continue
                sources = tuple(_filled(part.removeprefix(SWAP), numbers) + ending for part in modules)
                return Place(_filled(original, numbers) + ending, sources, modules[0].startswith(SWAP))
        return None


def original_names_of(architecture: Architecture | None, tensors: Collection[str]) -> OriginalNames | None:
    """The rules for the tensors of a checkpoint; None for a family whose original names are not known."""
    if architecture is None or architecture.original_names is None:
        return None
    return OriginalNames(architecture.original_names(tensors))


def _shape(name: str) -> str:
    """A name with all its numbers taken out."""
    return _NUMBER.sub(NUMBER, name)


def _numbers(pattern: str, name: str) -> list[str] | None:
    """What ``#`` stands for; None where the other numbers are not those of the pattern."""
    found = []
    for expected, part in zip(pattern.split("."), name.split("."), strict=True):
        if expected == NUMBER:
            found.append(part)
        elif expected != part:
            return None
    return found


def _filled(template: str, numbers: Iterable[str]) -> str:
    for number in numbers:
        template = template.replace(NUMBER, number, 1)
    return template
