"""The toolbar: target, budget, temperature, solve, policies, undo, locks, plans, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from workbench.config import DiffusionQuantConfig
from workbench.formats import target_names
from workbench.session import Session
from workbench.session.values import parse_size
from workbench.thermo import trace
from workbench.ui.job_bar import JobBar
from workbench.ui.strip import Strip

POLICIES = ("uniform", "sorted_greedy", "annealing", "entropy_rule", "threshold")
STEPS = 200
"""Places of the budget's slider."""


class Toolbar:
    """What can be done to a session, as controls; each does what the method of its name does.

    Parameters
    ----------
    session : Session
    strip : Strip
        Where errors and notes are told.
    jobs : JobBar
        Where long work runs.
    retargeted : callable
        Called when the session has another target.
    folder : Path
        Where exports and plans go whose paths are not absolute; with `confined`, only there.
    confined : bool
    """

    def __init__(
        self,
        session: Session,
        strip: Strip,
        jobs: JobBar,
        retargeted: Callable[[], None],
        folder: Path,
        confined: bool,
    ) -> None:
        self.session = session
        self._strip, self._jobs, self._retargeted = strip, jobs, retargeted
        self._folder, self._confined = folder.absolute(), confined
        self._following = False
        small = widgets.Layout(width="auto")
        self.target = widgets.Dropdown(
            options=list(target_names()),
            value=session.target.name,
            description="target",
            layout=_wide("170px"),
        )
        self.budget = widgets.FloatSlider(
            description="budget", readout=False, continuous_update=False, layout=_wide("330px")
        )
        self.size = widgets.Text(continuous_update=False, placeholder="2.5 GB", layout=_wide("110px"))
        self.temperature = widgets.FloatText(
            description="T",
            tooltip="Price of a bit: distortion given up per bit saved",
            layout=_wide("170px"),
        )
        self.solve = widgets.Button(description="Solve", icon="magic", button_style="primary", layout=small)
        self.policy = widgets.Dropdown(
            options=["policy …", *POLICIES],
            layout=_wide("130px"),
            tooltip="Take a simple policy's plan of this size",
        )
        self.undo = widgets.Button(description="Undo", icon="undo", layout=small)
        self.redo = widgets.Button(description="Redo", icon="repeat", layout=small)
        roles = sorted(set(session.layers["role"].to_pylist()))
        self.lock = widgets.Dropdown(options=["lock …", *roles], layout=_wide("140px"))
        self.unlock = widgets.Dropdown(options=["unlock …", "all", *roles], layout=_wide("140px"))
        self.path = widgets.Text(value="plan.yaml", continuous_update=False, layout=_wide("150px"))
        self.save = widgets.Button(description="Save plan", icon="save", layout=small)
        self.load = widgets.Button(description="Load plan", icon="folder-open", layout=small)
        self.export = widgets.ToggleButton(description="Export …", icon="download", layout=small)
        self._out = widgets.Text(
            value="export", continuous_update=False, description="folder", layout=_wide("320px")
        )
        self._dry = widgets.HTML()
        self._write = widgets.Button(description="Write", button_style="primary", layout=small)
        self._dialog = widgets.HBox(
            [self._out, self._write, self._dry], layout=widgets.Layout(display="none")
        )
        title = widgets.HTML(f"<b>{_escaped(session.checkpoint.path.name)}</b>")
        rows = (
            [title, self.target, self.budget, self.size, self.solve, self.temperature],
            [
                self.undo,
                self.redo,
                self.policy,
                self.lock,
                self.unlock,
                self.path,
                self.save,
                self.load,
                self.export,
            ],
        )
        lines = [
            widgets.HBox(row, layout=widgets.Layout(flex_flow="row wrap", align_items="center"))
            for row in rows
        ]
        self.widget = widgets.VBox([*lines, self._dialog])
        self.widget.add_class("aq-toolbar")
        self._wire()
        self.follow()

    def _wire(self) -> None:
        guard = self._strip.guard
        self.budget.observe(guard(self._slid), "value")
        self.size.observe(guard(lambda change: self._solved(change["new"])), "value")
        self.temperature.observe(guard(self._heated), "value")
        self.solve.on_click(guard(lambda _: self._solved(self.size.value)))
        self.undo.on_click(guard(lambda _: self.session.undo()))
        self.redo.on_click(guard(lambda _: self.session.redo()))
        self.policy.observe(guard(self._follow_policy), "value")
        self.lock.observe(
            guard(lambda change: self._by_role(change["new"], self.lock, self.session.lock)), "value"
        )
        self.unlock.observe(
            guard(lambda change: self._by_role(change["new"], self.unlock, self.session.unlock)), "value"
        )
        self.target.observe(guard(lambda change: self._retarget(change["new"])), "value")
        self.save.on_click(guard(lambda _: self._save()))
        self.load.on_click(guard(lambda _: self._load()))
        self.export.observe(guard(lambda change: self._open_dialog(change["new"])), "value")
        self._write.on_click(guard(lambda _: self._export()))

    # ---- following the session ----------------------------------------------------------------------------

    def follow(self) -> None:
        """Show the present plan's size and temperature."""
        snapshot = self.session.snapshot
        totals = snapshot.totals
        self._following = True
        try:
            low, high = self._range()
            self.budget.max, self.budget.min = high / 1e6, low / 1e6
            self.budget.step = max((high - low) / STEPS / 1e6, 1e-6)
            self.budget.value = min(max(totals.nbytes / 1e6, self.budget.min), self.budget.max)
            self.size.value = f"{totals.nbytes / 1e6:.3f} MB"
            self.temperature.value = float(f"{totals.temperature:.4g}")
            self.undo.disabled, self.redo.disabled = not snapshot.can_undo, not snapshot.can_redo
        finally:
            self._following = False

    def _range(self) -> tuple[float, float]:
        """Least and most bytes of a payload that are worth having."""
        session = self.session
        beside = session.totals.nbytes - session.plan.nbytes
        front = trace(session.costs)
        return beside + float(front.nbytes[0]), beside + float(front.nbytes[-1])

    # ---- doing --------------------------------------------------------------------------------------------

    def _slid(self, change: dict[str, Any]) -> None:
        if not self._following:
            self.session.solve(int(change["new"] * 1e6))

    def _solved(self, size: str) -> None:
        if not self._following and size.strip():
            self.session.solve(parse_size(size))

    def _heated(self, change: dict[str, Any]) -> None:
        if not self._following:
            self.session.solve(temperature=change["new"])

    def _follow_policy(self, change: dict[str, Any]) -> None:
        if change["new"] in POLICIES:
            self.policy.value = self.policy.options[0]
            self.session.follow(change["new"])

    def _by_role(self, role: str, control: widgets.Dropdown, action: Callable[[str], None]) -> None:
        if role != control.options[0]:
            control.value = control.options[0]
            action("*" if role == "all" else f"role:{role}")

    def _retarget(self, name: str) -> None:
        if name == self.session.target.name:
            return

        def done(notes: tuple[str, ...]) -> None:
            self._retargeted()
            self._strip.note(*notes)

        self._jobs.run(self.session.retarget_job(name), done)

    def _save(self) -> None:
        path = self._within(self.path.value)
        self.session.plan.save(path)
        self._strip.note(f"The plan is in {path}.")

    def _load(self) -> None:
        notes = self.session.load_plan(self._within(self.path.value))
        self._strip.note(f"The plan of {self.path.value} was taken over.", *notes)

    def _open_dialog(self, is_open: bool) -> None:
        self._dialog.layout.display = "" if is_open else "none"
        if is_open:
            ahead = self.session.predict()
            size = f"{ahead.nbytes:,} bytes" if ahead.is_exact else f"at most {ahead.nbytes:,} bytes"
            seconds, memory = max(ahead.seconds, 1), ahead.peak_bytes / 1e6
            self._dry.value = f"&nbsp;{size}, about {seconds:,.0f} s, at most {memory:,.0f} MB of memory"

    def _export(self) -> None:
        folder = self._within(self._out.value)
        settings = DiffusionQuantConfig.model_validate({"target": self.session.target.name})
        self.export.value = False
        self._jobs.run(
            self.session.export(folder, config=settings),
            lambda report: self._strip.note(
                f"Written to {folder}: {report.actual_bytes:,} bytes, read back and compared."
            ),
        )

    def _within(self, text: str) -> Path:
        """The path meant by a text, in the folder where it must be."""
        path = (self._folder / text.strip()).resolve()
        if self._confined and not path.is_relative_to(self._folder.resolve()):
            raise PermissionError(f"{text!r} is outside {self._folder}; give a name within it")
        return path


def _wide(width: str) -> widgets.Layout:
    return widgets.Layout(width=width)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
