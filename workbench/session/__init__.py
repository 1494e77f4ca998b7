"""A checkpoint under study: its measurements, the plan being tuned, and what follows from every edit."""

from workbench.session.jobs.job import Job
from workbench.session.observers import ObserverWarning
from workbench.session.opening import open_session
from workbench.session.prediction import Prediction
from workbench.session.session import Session
from workbench.session.snapshot import Change, Snapshot
from workbench.session.state import Totals
from workbench.session.tables.layer_detail import LayerDetail

__all__ = [
    "Change",
    "Job",
    "LayerDetail",
    "ObserverWarning",
    "Prediction",
    "Session",
    "Snapshot",
    "Totals",
    "open_session",
]
