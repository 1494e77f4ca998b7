"""The notebook that ``workbench lab`` makes for a model: its text and its cells follow from the model's own headers."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.formats import kept_as
from workbench.formats.loading import readers
from workbench.plan import Role

if TYPE_CHECKING:
    from workbench.checkpoint import Checkpoint
    from workbench.session.opening import Prepared

USUAL_BPW = 4.5
"""Bits per weight to begin with, scales included: what 4-bit formats with groups of 32 to 64 weights come to."""

_GENERIC = re.compile(
    r"(model|pytorch_model|diffusion_pytorch_model|consolidated)([.-](fp16|bf16|fp32|non_ema))?",
    re.IGNORECASE,
)
_ENDINGS = re.compile(r"(\.safetensors|\.index|\.json|\.gguf|-\d{5}-of-\d{5})+$", re.IGNORECASE)


def name_of(checkpoint: Checkpoint, component: str | None = None) -> str:
    """A short name of a model that is fit for file names, from where the model lies.

    A file with one of the names that every model's file has is called by its folder, a component by its pipeline too,
    and a snapshot in the Hugging Face cache by its repository.

    Parameters
    ----------
    checkpoint : Checkpoint
    component : str, optional
        The component that was asked for, if one was.
    """
    path = checkpoint.path
    folder = path.parent if path.is_file() else path
    if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
        name = folder.parents[1].name.rpartition("--")[2]
    elif (folder.parent / "model_index.json").is_file():
        name = f"{folder.parent.name}-{folder.name}"
    else:
        name = folder.name
    own = _ENDINGS.sub("", path.name)
    if path.is_file() and not _GENERIC.fullmatch(own):
        name = own
    safe = re.sub(r"[^\w.-]+", "-", f"{name}-{component}" if component else name).strip("-.")
    return safe[:60] or "model"


def goal_of(ready: Prepared) -> float:
    """Bits per weight to solve for: `USUAL_BPW` for each layer that can have so few, and what the others take at least.

    Layers that the format can only keep, such as an embedding, are counted on top: else the rest would have to make
    up for their bits. The mean is rounded up to the next quarter of a bit.
    """
    layers = [layer for layer in ready.checkpoint.layers if layer.params]
    bits = sum(
        8 * kept_as(layer, ready.target).nbytes
        if layer.name in ready.keep
        else max(8 * min(option.nbytes for option in ready.target.options(layer)), USUAL_BPW * layer.params)
        for layer in layers
    )
    return math.ceil(4 * bits / sum(layer.params for layer in layers)) / 4


def notebook_for(model: str, ready: Prepared, given: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook of a model.

    Parameters
    ----------
    model : str
        What is opened: an absolute path, or ``zoo:NAME``.
    ready : Prepared
        The same, opened and checked.
    given : mapping
        Further arguments of `workbench.open`, the target among them.

    Returns
    -------
    dict
        A document of Jupyter's notebook format 4.5.
    """
    name, goal, target = name_of(ready.checkpoint, given.get("component")), goal_of(ready), ready.target.name
    opening = "".join(f"    {key}={value!r},\n" for key, value in given.items())
    source = {key: given[key] for key in ("component", "calibration") if key in given}
    checked = "".join(f", {key}={value!r}" for key, value in source.items())
    cells = [
        _markdown(
            f"# {_code(name)} for {ready.target.title}",
            _about(model, ready),
            _roles(ready.checkpoint),
            f"The cells below measure the layers, {_aim(ready, goal)}, write the export into a folder beside this "
            "notebook, prove it, and say what loads it. They run from top to bottom as they are; each number in them "
            "is yours to change.",
            "\n".join(
                f"* {_plain(sentence)}"
                for sentence in (*ready.checkpoint.notes, *readers(ready.checkpoint, target))
            ),
        ),
        _markdown(
            "## Open",
            f"All {_megabytes(ready.checkpoint.nbytes)} are read once, and what each option would cost is measured on "
            "a sample of rows. That is remembered: the next time it takes seconds. *Cancel*, or the notebook's ■, "
            "stops it; what was measured until then is remembered too.",
            _on_calibration(ready),
        ),
        _python(f"import workbench as wb\n\ns = wb.open(\n    {model!r},\n{opening})\ns"),
        _markdown(
            "Choose layers in the table and press **2** to **8** to give them bits, **L** to lock them, Ctrl+Z to "
            "undo. Drag the budget, or type a size. All of it works from Python too: `s.set_bits`, `s.lock`, "
            "`s.solve`, `s.undo`.",
        ),
        _markdown("## Choose the bits", _on_goal(ready, goal)),
        _python(
            f"{'totals = s.totals' if ready.target.keeps_size else f'totals = s.solve(bpw={goal:g})'}\n"
            'most = "" if s.target.is_exact else "at most "\n'
            "print(\n"
            '    f"{most}{totals.nbytes:,} bytes, {totals.ratio:.2f} times smaller, "\n'
            '    f"{totals.bpw:.2f} bits per weight; "\n'
            '    f"no plan of this size is better by more than {totals.gap:.2%}"\n'
            ")"
        ),
        _markdown("The ten layers that this plan costs most, and what other sizes would cost:"),
        _python(
            'for layer in s.thermodynamics.sort_by([("damage", "descending")]).slice(0, 10).to_pylist():\n'
            """    print(f"{layer['bits']:>2} bits  {layer['damage']:.2e}  {layer['name']}")"""
        ),
        _python("wb.figures.front(s)"),
        *_over_time(ready),
        _markdown(
            "## Export",
            "Whatever plan the panel shows now is written and read back. The folder is named by what is in it; one "
            "that is there already is never replaced, the next gets a number.",
        ),
        _python(
            "from itertools import count\n"
            "from pathlib import Path\n\n"
            f'name = f"{name}-{{s.target.name}}-{{s.totals.bpw:.3g}}bpw"\n'
            'numbered = (Path(name if number == 1 else f"{name}-{number}") for number in count(1))\n'
            "folder = next(path for path in numbered if not path.exists())\n"
            "report = s.export(folder).result()\n"
            "print(\n"
            '    f"{folder.absolute()}: {report.actual_bytes:,} bytes, "\n'
            '    f"{report.compression_ratio:.2f} times smaller"\n'
            ")\n"
            'print(*report.notes, sep="\\n")'
        ),
        _markdown("Is what stands in the folder what the report claims? Every block is decoded and compared again:"),
        _python(
            f"proof = wb.verify(folder, {model!r}{checked})\n"
            'print(f"verified: {proof.ok}", *proof.problems, sep="\\n")'
        ),
        _markdown("## Load it", "What is known to load this export, and how:"),
        _python(
            "from workbench.formats.loading import loading_lines, readers\n\n"
            'print(*readers(s.checkpoint, s.target.name, s.plan), "", sep="\\n")\n'
            "print(loading_lines(s.checkpoint, s.target.name, folder.absolute()))"
        ),
        _markdown("Anything the workbench wrote also opens here, decoded to NumPy arrays:"),
        _python(
            "weights = wb.load(folder)\n"
            "first = next(iter(weights.plan.choices))\n"
            "print(first, weights[first].dtype, weights[first].shape)"
        ),
    ]  # fmt: skip
    return document(cells)


def app_notebook(model: str, folder: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook that ``workbench app`` serves: one cell, the panel, whose files stay in a folder.

    Parameters
    ----------
    model, given
        As for `notebook_for`.
    folder : Path
        Where plans and exports go.
    """
    arguments = "".join(f", {key}={value!r}" for key, value in given.items())
    return document(
        [
            _python(
                "from workbench.ui.opening import opening\n\n"
                f"opening({model!r}, folder={str(folder)!r}{arguments})"
            )
        ]
    )


def document(cells: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A notebook of cells."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(cells, start=1)],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _markdown(*paragraphs: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": "\n\n".join(filter(None, paragraphs))}


def _python(source: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def _about(model: str, ready: Prepared) -> str:
    """What the model is, from its headers and configuration."""
    checkpoint = ready.checkpoint
    layers = [layer for layer in checkpoint.layers if layer.params]
    names = {layer.name for layer in layers}
    others = [info.nbytes for name, info in checkpoint.tensors.items() if name not in names]
    dtypes = ", ".join(sorted({layer.dtype for layer in layers}))
    what = (
        f"a {_code(checkpoint.architecture)}"
        if checkpoint.architecture
        else "a model of unknown architecture"
    )
    part = f", component {_code(checkpoint.component)}," if checkpoint.component else ""
    weights = sum(layer.params for layer in layers)
    sentences = [
        f"{_code(model)}{part} is {what} with {_counted(len(layers), 'layer')} of {weights:,} weights in {dtypes} "
        f"({_megabytes(checkpoint.nbytes)} in all)."
    ]
    if others:
        sentences.append(
            f"Besides, it has {_counted(len(others), 'tensor')} ({_megabytes(sum(others))}) that "
            f"{'keeps its' if len(others) == 1 else 'keep their'} dtype: norms, biases, tables."
        )
    return " ".join(sentences)


def _roles(checkpoint: Checkpoint) -> str:
    """A table of what the layers are for."""
    layers = [layer for layer in checkpoint.layers if layer.params]
    total = sum(layer.params for layer in layers)
    numbers = Counter(layer.role for layer in layers)
    weights: Counter[Role] = Counter()
    for layer in layers:
        weights[layer.role] += layer.params
    lines = [
        f"| {_code(role)} | {numbers[role]} | {number:,} | {number / total:.1%} |"
        for role, number in weights.most_common()
    ]
    return "\n".join(["| role | layers | weights | share |", "|:--|--:|--:|--:|", *lines])


def _on_calibration(ready: Prepared) -> str:
    """Whether the bits are priced by what the layers' inputs were."""
    if ready.damage_model is None:
        return (
            "There is no calibration: the cost of a layer is the relative error of its weights, whatever its role. "
            "With records of real denoising steps (`wb.live.capture`, then `workbench lab … --calibration FILE`) it is "
            "the predicted error of the model's output."
        )
    records = ready.damage_model.time_aware.records
    layers = [layer.name for layer in ready.checkpoint.layers if layer.params]
    seen = sum(name in records.layers for name in layers)
    text = (
        f"The calibration has {_counted(len(records.steps), 'denoising step')} in "
        f"{_counted(len(ready.damage_model.time_aware.groups), 'time group')} and {seen} of "
        f"{_counted(len(layers), 'layer')}: the cost of a layer is the predicted error of the model's output."
    )
    lacking = len(layers) - seen
    return f"{text} **{_counted(lacking, 'layer')} never ran while it was captured.**" if lacking else text


def _aim(ready: Prepared, goal: float) -> str:
    if ready.target.keeps_size:
        return "give each layer 4 bits"
    return f"find the bits of each layer that lose least at **{goal:g} bits per weight**"


def _on_goal(ready: Prepared, goal: float) -> str:
    """What the goal comes to, and why it is no smaller."""
    if ready.target.keeps_size:
        return (
            "This target writes what a plan decodes to, in the source's dtype and at the source's size, to try the "
            "plan in whatever loads the source. A size is no goal here: every layer begins with 4 bits; give layers "
            'the bits that you want to try, such as `s.set_bits("role:attention.*", 3)`.'
        )
    checkpoint, target = ready.checkpoint, ready.target
    layers = [layer for layer in checkpoint.layers if layer.params]
    weights = sum(layer.params for layer in layers)
    beside = checkpoint.nbytes - sum(checkpoint.tensors[layer.name].nbytes for layer in layers)
    size = _megabytes(goal * weights / 8 + beside)
    text = (
        f"At {goal:g} bits per weight, scales included, the export takes about {size}. `s.solve` also takes a size, "
        f'such as `s.solve(size="{size}")`, or the least cosine that every layer must have, `s.solve(min_cosine=0.99)`.'
    )
    fixed = [
        layer for layer in layers if all(option == kept_as(layer, target) for option in target.options(layer))
    ]
    if fixed:
        share = sum(layer.params for layer in fixed) / weights
        text += (
            f" {_counted(len(fixed), 'layer')} of {len(layers)} ({share:.1%} of the weights) cannot be stored in fewer "
            f"bits in {target.title} and "
            f"{'keeps its' if len(fixed) == 1 else 'keep their'} dtype."
        )
    if goal > USUAL_BPW:
        text += f" The goal is the mean of the bits that such layers take and of {USUAL_BPW:g} for each of the others."
    return text


def _over_time(ready: Prepared) -> list[dict[str, Any]]:
    """The cells on denoising time, where there is a calibration."""
    if ready.damage_model is None:
        return []
    return [
        _markdown("When in the denoising does this plan cost, layer by layer?"),
        _python("wb.figures.damage_over_time(s)"),
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _megabytes(nbytes: float) -> str:
    """A size that people read, and that `Session.solve` takes."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if nbytes >= factor:
            return (
                f"{nbytes / factor:.3g} {unit}" if nbytes < 100 * factor else f"{nbytes / factor:.0f} {unit}"
            )
    return f"{nbytes / 1e3:.1f} kB"


def _code(text: str) -> str:
    """Text as a Markdown code span, whatever is in it, also within a table."""
    # A path may hold bytes that are no text.
    text = " ".join(text.encode("utf-8", "replace").decode().split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def _plain(text: str) -> str:
    """Text in which Markdown sees no markup."""
    return re.sub(r"([\\`*_{}\[\]<>$|#])", r"\\\1", text)


def write_new(notebook: Mapping[str, Any], folder: Path, stem: str) -> Path:
    """Write a notebook into a folder under a name that no file there has.

    Returns
    -------
    Path
        ``STEM.ipynb``, or with a number before the dot.
    """
    text = json.dumps(notebook, ensure_ascii=False, indent=1)
    for number in count(1):
        path = folder.absolute() / f"{stem}{'' if number == 1 else f'-{number}'}.ipynb"
        with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except BaseException:
                path.unlink()
                raise
            return path
    raise AssertionError("there is no last number")
