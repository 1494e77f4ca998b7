"""The toolbar: target, budget, temperature, solve, policies, undo, locks, plans, export."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pyarrow.compute as pc
from ipywidgets.widgets.widget_description import DescriptionStyle
from ipywidgets.widgets.widget_string import TextStyle

from workbench.config import DiffusionQuantConfig
from workbench.formats import target_names
from workbench.session import Session, Snapshot
from workbench.thermo import CostTable, trace
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
    folder : Path
        Where exports and plans go whose paths are not absolute; with `confined`, only there.
    confined : bool
    """

    def __init__(
        self,
        session: Session,
        strip: Strip,
        jobs: JobBar,
        folder: Path,
        confined: bool,
    ) -> None:
        self.session = session
        self._strip, self._jobs = strip, jobs
        self._folder, self._confined = folder.absolute(), confined
        self._follower: int | None = None
        self._front: tuple[CostTable, float, float] | None = None
        # Each layout and style is a message of its own to the page: they are shared.
        small, wide = _wide("auto"), _wide("140px")
        button = {"layout": small, "style": widgets.ButtonStyle()}
        choice = {"layout": wide, "style": DescriptionStyle(description_width="initial")}
        text = {"style": TextStyle(description_width="initial"), "continuous_update": False}
        self.target = widgets.Dropdown(
            options=list(target_names()), value=session.target.name, description="target", **choice
        )
        self.budget = widgets.FloatSlider(
            description="budget", readout=False, continuous_update=False,
            layout=_wide("330px"), style={"description_width": "initial"},
        )  # fmt: skip
        self.size = widgets.Text(placeholder="2.5 GB", layout=wide, **text)
        self.temperature = widgets.FloatText(
            description="T", tooltip="Price of a bit: distortion given up per bit saved", **choice
        )
        self.solve = widgets.Button(description="Solve", icon="magic", button_style="primary", **button)
        self.policy = widgets.Dropdown(
            options=["policy …", *POLICIES], tooltip="Take a simple policy's plan of this size", **choice
        )
        self.undo = widgets.Button(description="Undo", icon="undo", **button)
        self.redo = widgets.Button(description="Redo", icon="repeat", **button)
        roles = sorted(set(session.layers["role"].to_pylist()))
        self.lock = widgets.Dropdown(options=["lock …", *roles], **choice)
        self.unlock = widgets.Dropdown(options=["unlock …", "all", *roles], **choice)
        self.path = widgets.Text(value="plan.yaml", layout=wide, **text)
        self.save = widgets.Button(description="Save plan", icon="save", **button)
        self.load = widgets.Button(description="Load plan", icon="folder-open", **button)
        self.export = widgets.ToggleButton(description="Export …", icon="download", layout=small)
        self.folder = widgets.Text(value="export", description="folder", layout=_wide("320px"), **text)
        self.ahead = widgets.HTML(layout=small)
        self.write = widgets.Button(description="Write", button_style="primary", **button)
        self._dialog = widgets.HBox(
            [self.folder, self.write, self.ahead], layout=widgets.Layout(display="none")
        )
        name = _escaped(session.checkpoint.path.name)
        title = widgets.HTML(f'<b style="padding-right: 16px">{name}</b>')
        rows = (
            [title, self.target, self.budget, self.size, self.solve, self.temperature],
            [
                self.undo, self.redo, self.policy, self.lock, self.unlock, self.path, self.save, self.load,
                self.export,
            ],
        )  # fmt: skip
        line = widgets.Layout(flex_flow="row wrap", align_items="center")
        lines = [widgets.HBox(row, layout=line) for row in rows]
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
        self.write.on_click(guard(lambda _: self._export()))

    # ---- following the session ----------------------------------------------------------------------------

    def follow(self) -> None:
        """Show the target, and the present plan's size and temperature."""
        snapshot = self.session.snapshot
        totals = snapshot.totals
        self._follower = threading.get_ident()
        try:
            self.target.value = self.session.target.name
            low, high = self._range(snapshot)
            with self.budget.hold_sync():
                self.budget.max, self.budget.min = high / 1e6, low / 1e6
                self.budget.step = max((high - low) / STEPS / 1e6, 1e-6)
                self.budget.value = min(max(totals.nbytes / 1e6, self.budget.min), self.budget.max)
            # Upwards, so that what is shown can be solved for again.
            self.size.value = f"{math.ceil(totals.nbytes / 1e3) / 1e3:.3f} MB"
            self.temperature.value = float(f"{totals.temperature:.4g}")
            self.undo.disabled, self.redo.disabled = not snapshot.can_undo, not snapshot.can_redo
        finally:
            self._follower = None

    @property
    def _following(self) -> bool:
        """Whether it is `follow` that changes a control here, and no user, who may do so in another thread."""
        return self._follower == threading.get_ident()

    def _range(self, snapshot: Snapshot) -> tuple[float, float]:
        """Least and most bytes of a payload that are worth having."""
        costs = self.session.costs
        if self._front is None or self._front[0] is not costs:
            ends = trace(costs).nbytes
            self._front = costs, float(ends[0]), float(ends[-1])
        beside = snapshot.totals.nbytes - pc.sum(snapshot.present["nbytes"]).as_py()
        return beside + self._front[1], beside + self._front[2]

    # ---- doing --------------------------------------------------------------------------------------------

    def _slid(self, change: dict[str, Any]) -> None:
        if not self._following:
            self._or_back(lambda: self.session.solve(round(change["new"] * 1e6)))

    def _solved(self, size: str) -> None:
        if not self._following and size.strip():
            self.session.solve(size.strip())

    def _heated(self, change: dict[str, Any]) -> None:
        if not self._following:
            self._or_back(lambda: self.session.solve(temperature=change["new"]))

    def _or_back(self, action: Callable[[], object]) -> None:
        """Do something; if it cannot be done, show again what is the case."""
        try:
            action()
        except Exception:
            self.follow()
            raise

    def _follow_policy(self, change: dict[str, Any]) -> None:
        if change["new"] in POLICIES:
            self.policy.value = self.policy.options[0]
            self.session.follow(change["new"])

    def _by_role(self, role: str, control: widgets.Dropdown, action: Callable[[str], None]) -> None:
        if role != control.options[0]:
            control.value = control.options[0]
            action("*" if role == "all" else f"role:{role}")

    def _retarget(self, name: str) -> None:
        if self._following or name == self.session.target.name:
            return
        self._jobs.run(
            lambda: self.session.retarget_job(name), lambda notes: self._strip.note(*notes), self.follow
        )

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
            self.ahead.value = f"&nbsp;{size}, about {seconds:,.0f} s, at most {memory:,.0f} MB of memory"

    def _export(self) -> None:
        folder = self._within(self.folder.value)
        settings = DiffusionQuantConfig.model_validate({"target": self.session.target.name})
        self.export.value = False
        self._jobs.run(
            lambda: self.session.export(folder, config=settings),
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
