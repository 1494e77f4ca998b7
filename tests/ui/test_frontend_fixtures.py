"""What the front end's own tests and types are told of Python is what Python does."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest

from workbench.ui.messages import schema
from workbench.ui.table.packing import unpack

from .frontend_fixtures import FIXTURES, SCHEMA, fixtures

STALE = "stale: python tests/ui/frontend_fixtures.py, and npm run build in workbench/ui/frontend"


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    return fixtures()


def plain(value: Any) -> Any:
    """A value of a fixture with its buffers unpacked, as far as it says how."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: plain(one) for key, one in value.items()}
    if "answers" in value:
        sent = [(one["content"], one["buffers"][0]) for one in value["answers"]]
        found["answers"] = [{**content, "arrays": arrays(content["layout"], blob)} for content, blob in sent]
    elif "blob" in value:
        found["blob"] = arrays(value.get("layout") or value["header"]["layout"], value["blob"])
    return found


def arrays(layout: Any, blob: str) -> dict[str, Any]:
    return {name: values.tolist() for name, values in unpack(layout, base64.b64decode(blob)).items()}


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same, but for the last digits that a processor may give otherwise."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-12) or (
            math.isnan(one) and math.isnan(other)
        )
    return bool(one == other)


def test_fixtures_are_what_python_writes_now(now: dict[str, Any]) -> None:
    assert {path.stem for path in FIXTURES.iterdir()} == set(now), STALE
    for name, content in now.items():
        stored = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
        assert alike(plain(stored), plain(json.loads(json.dumps(content)))), f"{name} is {STALE}"


def test_the_messages_schema_is_current() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == schema(), STALE
