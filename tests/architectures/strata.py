"""An architecture that this package does not know: its record, and the model in torch.

Its blocks stand in lists of lists, none of which is called blocks; the original has query, key and value in one, and
counts its cells through.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from workbench.architectures import Architecture, Clock, Reader, Rule
from workbench.architectures.folds import Config, FoldedBlocks, FoldPlace, Folds, Has, LinearFold, NormFold

WIDTH = 64


class Cell(nn.Module):
    """Attention of one head, and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.calm = nn.LayerNorm(WIDTH)
        self.ask, self.offer, self.give = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.gather = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.calm(x)
        weights = (self.ask(x) @ self.offer(x).transpose(-1, -2)).softmax(-1)
        return self.gather(weights @ self.give(x))


class Stratum(nn.Module):
    """Cells, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList(Cell() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for cell in self.cells:
            x = x + cell(x)
        return x


class StrataModel(nn.Module):
    """Strata, then one cell a crown; how noisy the input is comes as its haze."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = nn.Parameter(torch.randn(4, 8, WIDTH))
        self.haze_in = nn.Linear(1, WIDTH)
        self.strata = nn.ModuleList(Stratum() for _ in range(2))
        self.crowns = nn.ModuleList([Cell()])

    def forward(self, x: Tensor, haze: Tensor) -> Tensor:
        x = x + self.grid[0] + self.haze_in(haze[:, None, None])
        for stratum in self.strata:
            x = stratum(x)
        for crown in self.crowns:
            x = x + crown(x)
        return x


def _original_names(tensors: Collection[str]) -> Iterator[Rule]:
    for original, ours in (("layer.#.cell.#", "strata.#.cells.#"), ("top.#", "crowns.#")):
        yield f"{original}.attn.qkv", (f"{ours}.ask", f"{ours}.offer", f"{ours}.give")
        yield f"{original}.attn.out", (f"{ours}.gather",)
        yield f"{original}.norm", (f"{ours}.calm",)
    yield "table", ("grid",)
    yield "sigma_mlp", ("haze_in",)


def _folds_of_cell(config: Config, has: Has) -> Iterator[FoldPlace]:
    yield NormFold("calm", ("ask", "offer", "give"))
    yield LinearFold(("give",), ("gather",))


_CELL = "calm|ask|offer|give|gather"

STRATA = Architecture(
    name="Strata",
    classes=("StrataModel",),
    signs=(("layer.0.cell.0.attn.qkv.weight", "sigma_mlp.weight"),),
    medium="image",
    library="",
    lists=("strata", "layer", "crowns", "top"),
    roles=(
        ("attention.q", r"\b(ask|attn\.qkv)$"),
        ("attention.k", r"\boffer$"),
        ("attention.v", r"\bgive$"),
        ("attention.out", r"\b(gather|attn\.out)$"),
        ("time_embed", r"^(haze_in|sigma_mlp)$"),
        ("norm", r"\bcalm$"),
    ),
    original_names=_original_names,
    folds=Folds(
        (
            FoldedBlocks(r"strata\.\d+\.cells", _CELL, _folds_of_cell),
            FoldedBlocks("crowns", _CELL, _folds_of_cell),
        )
    ),
    clock=Clock("sigma", ("haze",)),
    high_precision="^(grid|table)$",
    gguf="strata",
    readers=(
        Reader("strata.cpp", lines=("strata-cli --model {export} --steps 20",)),
        Reader("Strata Studio", "safetensors", lines=("from studio import open", "model = open({export})"),
               language="python"),
    ),
)  # fmt: skip
