"""Plans from and to the rules that other tools take: which tensor is stored as which type.

========================  =====================================================================================
``llama-quantize``        ``name=type`` lines, as its ``--tensor-type`` (and ``--tensor-type-file``) takes them
``stable-diffusion.cpp``  ``pattern=type,pattern=type``, as its ``--tensor-type-rules`` takes them
``mlx``                   the ``quantization`` of config.json, or a whole config.json
``compressed-tensors``    the ``quantization_config`` of config.json, or a whole config.json
========================  =====================================================================================

The first two name regular expressions, searched for in tensors' names, of which the first that matches counts, and
types by a target's own names of its schemes (https://github.com/ggml-org/llama.cpp, tools/quantize;
https://github.com/leejet/stable-diffusion.cpp, model.cpp). The others name modules, widths and group sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.checkpoint import Checkpoint
from workbench.config_sources import read_text
from workbench.errors import ArgumentError, PlanError, UsageError
from workbench.formats.registry import formats, target_named
from workbench.formats.requests import Naming, Offer, RulesSyntax
from workbench.plan import Layer, Option, Plan
from workbench.text_file import FileKind


def syntaxes() -> Mapping[str, tuple[str, RulesSyntax]]:
    """The ways of writing rules by name, each with the format whose plans it speaks of."""
    return {name: (one.name, syntax) for one in formats().values() for name, syntax in one.rules.items()}


def same_name(name: str) -> str:
    """The naming of rules that call tensors as the checkpoint does."""
    return name


AS_CHECKPOINT = "checkpoint"
"""That rules call tensors as the checkpoint does."""


def naming_choices() -> tuple[str, ...]:
    """What rules can call tensors: as the files of a format do that have names of their own, or as the checkpoint."""
    return (*(name for name, one in formats().items() if one.file_names is not None), AS_CHECKPOINT)


def naming_of(checkpoint: Checkpoint, rules_format: str, names: str | None = None) -> Naming:
    """What the rules of a syntax call the tensors of a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
    rules_format : str
        One of `syntaxes`.
    names : str, optional
        One of `naming_choices`; by default as the files do that the other tool works on.

    Raises
    ------
    PlanError
        If there are no such names.
    ValidationError
        If the checkpoint's tensors have no such names.
    """
    target = target_of_rules(rules_format)
    chosen = names or (AS_CHECKPOINT if target_named(target).file_names is None else target)
    if chosen not in naming_choices():
        allowed = ", ".join(naming_choices())
        raise ArgumentError(
            f"Rules cannot go by the names {chosen!r}; allowed: {allowed}.",
            key="names",
            value=chosen,
            allowed=allowed,
        )
    in_files = None if chosen == AS_CHECKPOINT else target_named(chosen).file_names
    return same_name if in_files is None else in_files(checkpoint).__getitem__


def target_of_rules(name: str) -> str:
    """The export format whose plans the rules of a syntax speak of, see `syntax_named`."""
    return _named(name)[0]


def syntax_named(name: str) -> RulesSyntax:
    """The syntax of a name.

    Raises
    ------
    PlanError
        If there is none.
    """
    return _named(name)[1]


def _named(name: str) -> tuple[str, RulesSyntax]:
    known = syntaxes()
    if name not in known:
        allowed = ", ".join(known)
        raise ArgumentError(
            f"There is no rules format {name!r}; allowed: {allowed}.",
            key="rules_format",
            value=name,
            allowed=allowed,
        )
    return known[name]


def rules_file(name: str) -> FileKind:
    """The kind of file that holds the rules of a syntax, one of `syntaxes`."""
    syntax = syntax_named(name)

    def holds(path: Path) -> bool:
        try:
            return syntax.holds(read_text(path, PlanError))
        except (UsageError, ValueError, TypeError, RecursionError):
            return False

    return FileKind(f"a file of rules for {name}", holds, error=PlanError)


def read_rules(
    text: str,
    rules_format: str,
    layers: Sequence[Layer],
    target: Offer,
    otherwise: Mapping[str, Option],
    *,
    where: str = "rules",
    naming: Naming = same_name,
) -> dict[str, Option]:
    """The option of every layer by some rules.

    Parameters
    ----------
    text : str
        The rules.
    rules_format : str
        One of `syntaxes`.
    layers : sequence of Layer
        Those of the checkpoint.
    target : Format
        What the plan is for.
    otherwise : mapping of str to Option
        The option of each layer that no rule names.
    where : str
        Begins every message.
    naming : callable
        What the rules call a layer's tensor; by default as the checkpoint does.

    Raises
    ------
    PlanError
        If the text is malformed, a rule names no layer, or a layer cannot be stored as its rule says: the message
        names the layer, what it can be stored as, and the way out.
    """
    requests = syntax_named(rules_format).read(text, layers, naming, where)
    return {
        layer.name: requests[layer.name].option(layer, target, where)
        if layer.name in requests
        else otherwise[layer.name]
        for layer in layers
    }


def write_rules(
    plan: Plan, rules_format: str, layers: Sequence[Layer], target: Offer, *, naming: Naming = same_name
) -> str:
    """A plan as rules, one for each layer.

    Parameters
    ----------
    plan : Plan
    rules_format : str
        One of `syntaxes`.
    layers : sequence of Layer
        Those of its checkpoint.
    target : Format
        The plan's.
    naming : callable
        What the rules are to call a layer's tensor; by default as the checkpoint does.

    Raises
    ------
    PlanError
        If the rules cannot say what the plan does with a layer.
    """
    return syntax_named(rules_format).write(plan, layers, target, naming)
