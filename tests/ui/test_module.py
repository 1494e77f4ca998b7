"""The browser's side as it is shipped: bundles of today's sources, small, and needing nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import workbench.ui
from workbench.figures.widths import COLOURS, KEPT_COLOUR
from workbench.ui.module import STATIC, bundle

REPOSITORY = Path(__file__).parents[2]
FRONTEND = REPOSITORY / "workbench" / "ui" / "frontend"
SOURCES = sorted(path for path in (FRONTEND / "src").iterdir() if path.suffix in (".js", ".css"))
BUDGETS = {
    "panel.js": 125_000, "table.js": 90_000, "progress.js": 3_000, "plotly_library.js": 2_000,
    "panel.css": 20_000, "table.css": 13_000, "progress.css": 2_000,
}  # fmt: skip
"""Bytes of each bundle at most; all of them are there."""


def test_bundles_are_of_todays_sources() -> None:
    digest = hashlib.sha256()
    for path in SOURCES:
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    for name in BUDGETS:
        first = bundle(name).partition("\n")[0]
        assert digest.hexdigest() in first, f"{name} is stale: npm run build, in {FRONTEND}"


def test_each_bundle_has_its_budget() -> None:
    assert {path.name for path in STATIC.iterdir()} == set(BUDGETS)
    for name, most in BUDGETS.items():
        assert len(bundle(name).encode()) < most


@pytest.mark.parametrize("name", BUDGETS)
def test_a_bundle_asks_nobody(name: str) -> None:
    text = bundle(name)
    assert not re.search(r"^\s*import[ (]|@import|https?://(?!www\.w3\.org)", text, re.MULTILINE)


def test_sources_are_small_files() -> None:
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 600 for path in SOURCES)


def test_an_install_has_the_bundles_and_not_their_sources() -> None:
    assert "exclude_directories: ['__pycache__', 'ui/frontend']" in (REPOSITORY / "meson.build").read_text()
    assert STATIC.parent == Path(workbench.ui.__file__).parent


def test_widths_look_as_in_the_figures() -> None:
    text = (FRONTEND / "src" / "columns.js").read_text(encoding="utf-8")
    colours = {int(bits): colour for bits, colour in re.findall(r'^  (\d): \["(#\w+)"', text, re.MULTILINE)}
    assert colours == COLOURS
    assert f'KEPT = ["{KEPT_COLOUR}"' in text
