"""What a rule of another tool requests for a layer, and the option that it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from workbench.errors import PlanError
from workbench.plan import Layer, Option, Plan

Naming = Callable[[str], str]
"""What rules call a layer's tensor."""


class Offer(Protocol):
    """What an export format offers, as far as rules ask."""

    @property
    def name(self) -> str:
        """The format."""

    def options(self, layer: Layer) -> Sequence[Option]:
        """The options of a layer."""


@dataclass(frozen=True)
class Request:
    """How a rule has a layer stored."""

    text: str
    """How the rule says it, for messages."""
    schemes: tuple[str, ...] = ()
    """Names of schemes that it could mean, in lower case; none for keeping the source's dtype."""
    bits: int | None = None
    """Its width; None where the scheme implies it."""
    group_size: int | None = None
    """Weights that share a scale, 0 for a whole row; None where the scheme implies it."""

    def option(self, layer: Layer, target: Offer, where: str) -> Option:
        """The target's option that is meant.

        Raises
        ------
        PlanError
            If there is none, or several: the message names the layer, and what it can be stored as.
        """
        options = target.options(layer)
        found = [option for option in options if self._means(option, layer)]
        if len(found) == 1:
            return found[0]
        problem = (
            f"{where}: {layer.name!r} cannot be stored as {self.text} in {target.name}; its shape is "
            f"{layer.shape}, its dtype {layer.dtype}."
            if not found
            else f"{where}: {self.text} could be {len(found)} things of {layer.name!r} in {target.name}."
        )
        raise PlanError(
            f"{problem} It can be {described(options, layer)}. Write one of these in its rule, or take it out of the "
            "rules.",
            key="rules",
            tensor=layer.name,
            value=self.text,
            allowed=described(options, layer),
        )

    def _means(self, option: Option, layer: Layer) -> bool:
        if option.is_kept:
            return not self.schemes or layer.dtype.lower() in self.schemes
        group_size = layer.cols if self.group_size == 0 else self.group_size
        return (
            option.scheme.lower() in self.schemes
            and self.bits in (None, option.bits)
            and group_size in (None, option.group_size)
        )


KEPT = Request("its own dtype")
"""That a layer keeps its dtype."""


@dataclass(frozen=True)
class RulesSyntax:
    """The way in which another tool writes its rules."""

    read: Callable[[str, Sequence[Layer], Naming, str], Mapping[str, Request]]
    """What a text requests for each layer that it names; the last argument begins every message."""
    write: Callable[[Plan, Sequence[Layer], Offer, Naming], str]
    """A plan as text."""
    holds: Callable[[str], bool]
    """Whether a text is such rules and nothing else, as a whole config.json would be."""


def type_name(option: Option, layer: Layer) -> str:
    """What GGML calls the type of an option: ``q4_0``, ``q4_K``, or the source's dtype where it is kept."""
    if option.is_kept:
        return layer.dtype.lower()
    name = option.scheme.lower()
    return f"{name[:-2]}_K" if name.endswith("_k") else name


def described(options: Sequence[Option], layer: Layer) -> str:
    """The options of a layer in few words: those of a scheme together."""
    by_scheme: dict[str, list[Option]] = {}
    for option in options:
        by_scheme.setdefault(type_name(option, layer), []).append(option)
    parts = []
    for name, alike in by_scheme.items():
        if len(alike) == 1:
            parts.append(name)
            continue
        widths = _either(sorted({str(option.bits) for option in alike}))
        sizes = [str(size) for size in sorted({option.group_size for option in alike})]
        parts.append(f"{name} of {widths} bits in groups of {_either(sizes)}")
    return "; or ".join(parts)


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
