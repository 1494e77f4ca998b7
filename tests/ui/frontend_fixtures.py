"""What the front end's unit tests know of Python's side. ``python tests/ui/frontend_fixtures.py`` writes it anew.

States and messages are those of a real table of a real session, so that both sides agree on what they mean.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import workbench as wb
from workbench.expressions.parsing import is_condition
from workbench.session import Session
from workbench.ui import LayerTable
from workbench.ui.messages import schema
from workbench.ui.table.packing import KINDS, pack
from workbench.ui.table.rows import Columns

FRONTEND = Path(__file__).parents[2] / "workbench" / "ui" / "frontend"
FIXTURES = FRONTEND / "test" / "fixtures"
SCHEMA = FRONTEND / "messages.schema.json"

SHAPES = {
    "blocks.10.attn.to_q": (64, 128),
    "blocks.2.attn.to_q": (64, 128),
    "blocks.2.attn.to_out.0": (128, 64),
    "blocks.2.ff.net.0.proj": (256, 64),
    "blocks.2.norm1.linear": (96, 64),
    "proj_out": (8, 20),
}
"""Block 2 and block 10, several roles, and one layer whose rows no group divides."""

FILTERS = (
    "", "attn q", "=bits < 4", "bits<4", "*to_q*", "role:attention.q", "to_q?", "a=b", "bits == 4", "damage != 0",
    "role attn", " = 1",
)  # fmt: skip


def text_of(buffer: bytes | memoryview) -> str:
    """A buffer as JSON has it."""
    return base64.b64encode(bytes(buffer)).decode()


def packing() -> dict[str, Any]:
    """An array of each kind, and how they are packed."""
    arrays = {kind: np.array([0, 1, 7, 200]).astype(kind) for kind in KINDS}
    arrays |= {"none": np.zeros(0, "u4"), "fine": np.array([np.nan, np.inf, -1e-300, 0.1])}
    layout, blob = pack(arrays)
    finite = {name: values.tolist() for name, values in arrays.items() if name != "fine"}
    return {
        "layout": layout,
        "blob": text_of(blob),
        "arrays": finite,
        "fine": ["NaN", "Infinity", -1e-300, 0.1],
    }


def present(session: Session) -> dict[str, Any]:
    """The session's plan in plain words."""
    options, totals = session.plan.choices.values(), session.totals
    return {
        "bits": [option.bits for option in options],
        "scheme": [option.scheme for option in options],
        "group": [option.group_size for option in options],
        "nbytes": [option.nbytes for option in options],
        "locked": [name in session.locked for name in session.plan.choices],
        "totals": {
            "nbytes": totals.nbytes,
            "bpw": totals.bpw,
            "damage": totals.damage,
            "ratio": totals.ratio,
        },
        "version": session.version,
    }


def transcript(session: Session) -> dict[str, Any]:
    """A table's first state; then edits that a browser or another view asks for, the answers, and the plan then."""
    table = LayerTable(session)
    sent: list[dict[str, Any]] = []

    def keep(content: Any, buffers: Any = None) -> None:
        sent.append({"content": content, "buffers": [text_of(one) for one in buffers or []]})

    table.send = keep
    state = table.state()
    steps: list[dict[str, Any]] = []

    def note(request: dict[str, Any] | None, act: Callable[[], Any]) -> None:
        sent.clear()
        act()
        steps.append({"request": request, "answers": list(sent), "after": present(session)})

    edits: list[dict[str, Any]] = [
        {"action": "bits", "rows": [0, 3], "bits": 2},
        {"action": "bits", "rows": [1, 2], "bits": 7},
        {"action": "keep", "rows": [2]},
        {"action": "lock", "rows": [0, 4]},
        {"action": "undo"},
        {"action": "redo"},
        {"action": "unlock", "rows": [0]},
        {"action": "bits", "rows": [1], "bits": 4, "scheme": "affine", "group_size": 32},
    ]
    for number, edit in enumerate(edits):
        request = {"type": "edit", "id": f"e{number}", **edit}
        note(request, partial(table._handle_custom_msg, request, []))
    note(None, lambda: session.solve(bpw=5))
    table.close()
    state["header"]["model_id"] = "table"
    return {"header": state["header"], "blob": text_of(state["blob"]), "steps": steps}


def hulls(session: Session) -> dict[str, Any]:
    """The way along the hulls, and where the front is within some budgets of all layers' bytes."""
    front = session.front
    layout, blob = pack(Columns(session.snapshot).steps(front))
    low, high = int(front.nbytes[0]), int(front.nbytes[-1])
    walks = []
    for budget in [low, *np.linspace(low, high, 7).astype(int).tolist(), high]:
        corner = front.corner_within(budget)
        walks.append(
            {
                "budget": budget,
                "nbytes": int(front.nbytes[corner]),
                "places": front.choice_at(corner).tolist(),
            }
        )
    starts = session.snapshot.measurements.starts.tolist()
    bits = session.options["bits"].to_pylist()
    for walk in walks:
        walk["bits"] = [bits[start + place] for start, place in zip(starts, walk.pop("places"), strict=True)]
    return {"layout": layout, "blob": text_of(blob), "range": [low, high], "walks": walks}


def fixtures() -> dict[str, Any]:
    """All of it, by name of its file."""
    rng = np.random.default_rng(16)
    with tempfile.TemporaryDirectory() as folder:
        weights = {
            f"{name}.weight": rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()
        }
        save_file(weights, Path(folder) / "model.safetensors")
        with wb.open(
            Path(folder) / "model.safetensors", target="mlx", group_size=64, cache=folder
        ) as session:
            steps = hulls(session)
            table = transcript(session)
    return {
        "packing": packing(),
        "table": table,
        "steps": steps,
        "filters": {text: is_condition(text) for text in FILTERS},
    }


if __name__ == "__main__":
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, content in fixtures().items():
        lines = (f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in content.items())
        (FIXTURES / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    SCHEMA.write_text(json.dumps(schema(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
