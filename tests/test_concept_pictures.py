"""Guards the pictures of the concept pages: they are what their script draws from the product today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PAGES = sorted((IMAGES.parent).rglob("*.md"))
NUMBER = re.compile(r"-?\d+\.?\d*")
NEAR = 1.0
"""Pixels by which a mark may be off where a processor sums in another order."""


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("draw_concepts", IMAGES / "draw_concepts.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    pictures: dict[str, str] = script.draw()
    return pictures


def test_the_pictures_are_drawn_from_the_product(drawn: dict[str, str]) -> None:
    for name, svg in drawn.items():
        shipped = (IMAGES / name).read_text(encoding="utf-8")
        assert NUMBER.sub("#", svg) == NUMBER.sub("#", shipped), name
        numbers = [[float(found) for found in NUMBER.findall(text)] for text in (svg, shipped)]
        assert numbers[0] == pytest.approx(numbers[1], abs=NEAR), name


def test_every_picture_is_shown_on_a_page(drawn: dict[str, str]) -> None:
    shown = {
        Path(link).name
        for page in PAGES
        for link in re.findall(r"\]\(([^)]*\.svg)\)", page.read_text("utf-8"))
    }
    assert set(drawn) <= shown
