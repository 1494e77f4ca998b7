"""Edits that take over a plan which was made elsewhere: its file, or the rules of another tool."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.errors import ConfigurationError
from workbench.formats.rules import naming_of, read_rules
from workbench.plan import Plan
from workbench.session.commands.command import Edit
from workbench.session.script import call
from workbench.session.state import State
from workbench.thermo import Constraints


@dataclass(frozen=True)
class LoadPlan(Edit):
    """Take over a plan, see `Session.load_plan`."""

    path: str
    """Its file, which messages and the script name."""
    plan: Plan = field(repr=False)
    """What is in it."""

    def apply(self, state: State) -> State:
        measured, plan = state.measurements, self.plan
        if plan.target != measured.target.name:
            raise ConfigurationError(
                f"{self.path}: the plan is for {plan.target}, this session for {measured.target.name}; open the "
                f"checkpoint with target={plan.target!r}.",
                key="target",
            )
        unlike = sorted(set(plan.choices) ^ set(measured.index))
        if unlike:
            lacking = "the plan" if unlike[0] in measured.index else "the checkpoint"
            raise ConfigurationError(
                f"{self.path}: {len(unlike)} layers do not match; {unlike[0]!r} is not in {lacking}.",
                key="layers",
            )
        for name, option in plan.choices.items():
            row = measured.index[name]
            if option in measured.options[row]:
                continue
            if measured.target.stores(measured.layers[row], option):
                raise ConfigurationError(
                    f"{self.path}: {name!r} is stored as {option}, which {measured.target.name} offers only where "
                    f"asked: open the checkpoint with scheme={option.scheme!r}, all_widths=True.",
                    key=name,
                )
            raise ConfigurationError(
                f"{self.path}: {name!r} cannot be stored as {option}; its shape here is "
                f"{measured.layers[row].shape}.",
                key=name,
            )
        choice = tuple(
            options.index(plan.choices[layer.name])
            for layer, options in zip(measured.layers, measured.options, strict=True)
        )
        return State(
            measured,
            choice,
            frozenset(measured.index[name] for name in plan.locks),
            plan.made_by,
            notes=self._differences(state),
        )

    def _differences(self, state: State) -> tuple[str, ...]:
        """What does not match but does not matter."""
        plan, measured = self.plan, state.measurements
        notes = []
        if plan.fingerprint != measured.checkpoint.fingerprint:
            notes.append("The plan was made for a checkpoint with the same layers and other contents.")
        encodings = measured.encodings
        if (plan.effort, plan.weighted_by) != (encodings.effort, encodings.weighted_by):
            theirs, ours = (
                f"{one.effort}{' by a calibration' if one.weighted_by else ''}" for one in (plan, encodings)
            )
            notes.append(f"The plan was made with the effort {theirs}; here it is {ours}.")
        return tuple(notes)

    def to_python(self) -> str:
        return call("load_plan", self.path)


@dataclass(frozen=True)
class LoadRules(Edit):
    """Give layers the options that another tool's rules say, see `Session.load_rules`."""

    path: str
    """Their file, which messages and the script name."""
    rules_format: str
    text: str = field(repr=False)
    """What is in the file."""
    names: str | None = None
    """What the rules call tensors; None takes what is usual for them."""

    def apply(self, state: State) -> State:
        measured = state.measurements
        naming = naming_of(measured.checkpoint, self.rules_format, self.names)
        found = read_rules(
            self.text, self.rules_format, measured.layers, measured.target,
            measured.planner.choices(state.choice), where=self.path, naming=naming,
        )  # fmt: skip
        choice = tuple(measured.place_of(row, found[layer.name]) for row, layer in enumerate(measured.layers))
        made_by = {"method": "rules", "format": self.rules_format}
        return state.changed(choice=choice, made_by=made_by, limits=Constraints(), by_hand=frozenset())

    def to_python(self) -> str:
        return call("load_rules", self.path, self.rules_format, names=self.names)
