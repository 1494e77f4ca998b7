"""What the engine's two verbs work on: what is exported, how, and with which workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from workbench.calibration import TimeAwareQuantizer
from workbench.checkpoint import Checkpoint
from workbench.checkpoint.readers.row_cache import RowCache
from workbench.config import DiffusionQuantConfig
from workbench.engine.equalization.spatial import SpatialQuantizer
from workbench.formats import Encoder, Format
from workbench.plan import Layer
from workbench.quantize import Encodings
from workbench.thermo import DamageModel
from workbench.work import Progress, run_tasks

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Subject:
    """An open checkpoint, and how it is to be exported."""

    config: DiffusionQuantConfig
    """The settings, with the target that is meant."""
    checkpoint: Checkpoint
    """What is written, under the names that the export will have."""
    target: Format
    """The export format."""
    encodings: Encodings
    """How weights become codes."""
    damage_model: DamageModel | None = None
    """How the configuration's calibration prices errors."""
    time_aware: TimeAwareQuantizer | None = None
    """What gives the export its activation tables."""
    spatial: SpatialQuantizer | None = None
    """The folds that the checkpoint was made with."""
    entropies: Mapping[str, float] = field(default_factory=dict)
    """Ĥ of layers, as far as it is known already."""

    @cached_property
    def streamed(self) -> Checkpoint:
        """The checkpoint, of which each thread keeps the rows, or without streaming the tensor, that it read last."""
        return self.checkpoint.around(RowCache(self.checkpoint, whole=not self.config.enable_streaming))

    @cached_property
    def encoder(self) -> Encoder:
        """What encodes the checkpoint's rows: for looking at them, for writing and for reading back."""
        return self.target.encoder(self.streamed, self.encodings)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that have weights."""
        return tuple(layer for layer in self.checkpoint.layers if layer.params)

    @property
    def layer_bytes(self) -> int:
        """Bytes of the layers in the source."""
        return sum(self.checkpoint.tensors[layer.name].nbytes for layer in self.checkpoint.layers)


@dataclass(frozen=True, eq=False)
class Workers:
    """Who does the work: an executor, tasks under way at a time, and their progress."""

    executor: Executor
    """Runs the tasks."""
    in_flight: int
    """How many tasks are under way at a time."""
    progress: Progress
    """Counts source bytes done."""

    def run(self, tasks: Iterable[Callable[[], T]], on_result: Callable[[T], None]) -> None:
        """Run tasks; results are handed over in this thread, see `workbench.work.run_tasks`."""
        run_tasks(tasks, self.executor, self.in_flight, self.progress, on_result)
