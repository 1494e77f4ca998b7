"""What a notebook keeps of a view: the plan as it was last, small, with nothing that needs a kernel."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from safetensors.numpy import save_file

import workbench as wb
from workbench.session import Session
from workbench.ui import LayerTable, Panel
from workbench.ui.cells.pictures import entropy_picture, front_picture

Displayed = list[tuple[Any, Any]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(tmp_path: Path, cache: Path) -> Iterator[Callable[..., Session]]:
    """Open a checkpoint of so many layers."""
    sessions = []

    def made(count: int, name: str = "blocks.{}.proj.weight") -> Session:
        rng = np.random.default_rng(count)
        tensors = {
            name.format(row): (rng.standard_normal((32, 64)) * np.exp(rng.normal())).astype(np.float32)
            for row in range(count)
        }
        save_file(tensors, tmp_path / "model.safetensors")
        sessions.append(wb.open(tmp_path / "model.safetensors", "mlx", group_size=32, cache=cache))
        return sessions[-1]

    yield made
    for session in sessions:
        session.close()


def pictures(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", html)]


def follows(displayed: Displayed, count: int) -> None:
    end = time.monotonic() + 60
    while len(displayed) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_is_the_plan_as_it_was_last(make: Callable[..., Session], displayed: Displayed) -> None:
    session = make(5)
    table = LayerTable(session)
    table._ipython_display_()
    identity, first = displayed[1]
    assert identity == table.model_id
    session.set_bits("blocks.3.*", 8)
    session.lock("blocks.3.*")
    follows(displayed, 3)
    again, last = displayed[2]
    assert again == identity
    assert len(displayed) == 3, "edits one after the other are one update"
    assert first != last
    assert f"{session.totals.nbytes / 1e6:,.3f} MB" in last["text/plain"]
    assert last["text/plain"].count("locked") == 1
    assert "4 bits: 4, 8 bits: 1" in last["text/html"]
    assert "Run the cell again to edit." in last["text/html"]
    for line in session.script:
        assert line in last["text/html"].replace("&#x27;", "'")
    session.set_bits("*", 2)
    table.keep()
    assert len(displayed) == 4, "at once, where a cell ends"
    assert "2 bits: 5" in displayed[3][1]["text/html"]
    table.keep()
    table.close()
    session.set_bits("*", 3)
    table.keep()
    assert len(displayed) == 4, "nothing changed, and then nobody follows any more"


def test_nothing_is_displayed_that_was_not_before(make: Callable[..., Session], displayed: Displayed) -> None:
    session = make(3)
    table = LayerTable(session)
    session.set_bits("*", 3)
    table.keep()
    table.static_copy.ask(anew=True)
    table.close()
    assert displayed == []


def test_a_page_that_comes_back_gets_the_newest(
    make: Callable[..., Session], displayed: Displayed, wired: Callable[[LayerTable], Any]
) -> None:
    table = LayerTable(make(3))
    table._ipython_display_()
    wired(table).ask(type="hello", version=0)
    follows(displayed, 3)
    assert displayed[2] == displayed[1]
    table.close()


def test_a_panel_that_is_served_alone_keeps_nothing(
    make: Callable[..., Session], displayed: Displayed, tmp_path: Path
) -> None:
    panel = Panel(make(3), folder=tmp_path, confined=True)
    panel._ipython_display_()
    panel.close()
    ((_, bundle),) = displayed
    assert "application/vnd.jupyter.widget-view+json" in bundle


@pytest.mark.parametrize("count", [1, 40, 1505])
def test_it_is_small_however_many_layers(
    make: Callable[..., Session], displayed: Displayed, count: int
) -> None:
    session = make(count)
    table = LayerTable(session)
    table._ipython_display_()
    table.close()
    (_, copy) = displayed[1]
    assert len(str(copy)) < 90_000
    rows = copy["text/html"].count("<tr>") - 1
    assert rows == min(count, 40)
    assert f"{count:,} layers" in copy["text/html"]
    assert ("1,465 more are not" in copy["text/html"]) == (count == 1505)
    if count == 1505:
        worst = max(session.thermodynamics.to_pylist(), key=lambda row: row["damage"])["name"]
        assert copy["text/html"].index("<td>") == copy["text/html"].index(f"<td>{worst}")
    assert len(pictures(copy["text/html"])) == 2


def test_pictures_show_every_width_and_the_plan(make: Callable[..., Session]) -> None:
    session = make(12)
    session.set_bits("blocks.1.*", 2)
    session.keep("blocks.2.*")
    (entropy,) = pictures(entropy_picture(session, session.snapshot))
    texts = [found.text for found in entropy.iter("{http://www.w3.org/2000/svg}text")]
    assert {"2 bits", "4 bits", "kept (32 bits)"} <= set(texts)
    marks = [
        len(found.get("d", "").split("h0")) - 1 for found in entropy.iter("{http://www.w3.org/2000/svg}path")
    ]
    assert marks[1] == sum(marks[2:]) == 12, "a mark a layer, and an edge around each"

    def place() -> tuple[float, float]:
        (front,) = pictures(front_picture(session, session.snapshot))
        (circle,) = front.iter("{http://www.w3.org/2000/svg}circle")
        return float(circle.get("cx", "")), float(circle.get("cy", ""))

    session.set_bits("*", 2)
    before = place()
    session.set_bits("*", 8)
    after = place()
    assert after[0] > before[0], "more bits are further right"
    assert after[1] > before[1], "and less damage further down"
    session.keep("*")
    (front,) = pictures(front_picture(session, session.snapshot))
    assert not list(front.iter("{http://www.w3.org/2000/svg}circle")), (
        "nought has no place on a logarithmic axis"
    )
    assert "this plan does none" in ElementTree.tostring(front, "unicode")


def test_names_are_escaped_and_nothing_is_asked_of_others(
    make: Callable[..., Session], displayed: Displayed
) -> None:
    table = LayerTable(make(2, "blocks.{}.<img src=x onerror=alert(1)>.weight"))
    table.session.set_bits("blocks.1.*", 8)
    table._ipython_display_()
    table.close()
    copy = displayed[1][1]["text/html"]
    assert "<img" not in copy
    assert "<script" not in copy
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*['\"]?(?!http://www\.w3\.org)https?:", copy)


def test_edits_too_long_to_be_kept_are_not_kept_in_part(
    make: Callable[..., Session], displayed: Displayed
) -> None:
    session = make(3)
    table = LayerTable(session)
    for _ in range(130):
        session.set_bits(list(session.plan.choices), 5)
    table._ipython_display_()
    table.close()
    copy = displayed[1][1]["text/html"]
    assert "Its 130 edits are too long to be kept here" in copy
    assert "set_bits" not in copy


def test_a_notebook_that_runs_without_a_page_keeps_the_last_plan(
    make: Callable[..., Session], tmp_path: Path, cache: Path
) -> None:
    make(6).close()
    document = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(source)
            for source in (
                f"import workbench as wb\ns = wb.open({str(tmp_path / 'model.safetensors')!r}, 'mlx', group_size=32, "
                f"cache={str(cache)!r})\ns",
                "s",
                "s.set_bits('blocks.1.*', 7)\ns.set_bits('blocks.1.*', 8)",
            )
        ]
    )
    client = NotebookClient(document, kernel_name="python3", timeout=120, store_widget_state=False)
    client.execute()
    for cell in document.cells:
        # Of the bar that showed how far opening was, nothing is left.
        cell.outputs = [output for output in cell.outputs if output.data]
    page, _ = HTMLExporter(embed_images=False).from_notebook_node(document)
    assert len(nbformat.writes(document)) < 100_000
    assert page.count("<b>The plan as it was last.</b>") == 2
    assert page.count("4 bits: 5, 8 bits: 1") == 2, "the last, in each output"
    assert len(re.findall(r"<svg[^>]+role=.img", page)) == 4
    assert "widget-view+json" not in page, "no widget that would wait for a kernel"
    for cell in document.cells[:2]:
        assert [output.output_type for output in cell.outputs] == ["display_data"] * 2
