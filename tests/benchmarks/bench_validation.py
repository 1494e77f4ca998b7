"""What plans do to the models of the zoo: quality, what feedback adds, 8-bit activations, predicted against measured.

    python tests/benchmarks/bench_validation.py [--models digits,mdlm] [--seeds N] [--draws N] [--quick] [--json FILE]

Parquet, groups of 64 for uniform plans; solved plans take no more bytes than the uniform one they stand beside ("bytes"
is theirs over its), out of all group sizes. Calibration, learning and judging have seeds of their own. "error" is that
of the final output, averaged over held-out seeds: ‖Δy‖² / ‖y‖² of the digits, twice the KL divergence per masked token
of the language model. A few images turn into others and make most of a mean, so there is a "median" too: over the
images of all seeds, or the seeds of the language model. A plan "with feedback" was solved again, for the same bytes,
after the session learnt from a comparison that quantizes one layer at a time, and given up again where it would gain
less than 3 % of what is now predicted; each draw learns from runs of its own.

The models run side by side, one thread each: about 10 minutes for both, 2 with --quick.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from printed import print_table
from subjects import JUDGED, Subject, digits, language_model

import workbench as wb
from workbench.calibration import TimeAwareQuantizer
from workbench.live import Comparison
from workbench.session import Session

MODELS: dict[str, tuple[Callable[[], Subject], Callable[[], Subject], str]] = {
    "digits": (digits, digits, "zoo:digits-dit"),
    "mdlm": (language_model, partial(language_model, 4), "zoo:stdlib-mdlm"),
}
"""What judges, what is learnt from on a smaller scale, and the checkpoint."""
GROUP = 64
WIDTHS = (8, 6, 4, 3, 2)
SOLVED = {3: 4, 2: 3}
"""Bits of the uniform plans that solved ones stand beside, and the bits a weight that both then take."""
TIME_GROUPS = (5, 10)
WORTH = 0.03
"""Least part of the predicted error that must be gained for a plan to be given up: less than that is not measured."""
LEARNING = 1_000
"""First of the seeds that feedback is learnt from; they are neither those that judge nor those of the calibration."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    seeds: int
    """That judge."""
    draws: int
    """Of feedback."""
    runs: int
    """That a draw learns from."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="digits,mdlm")
    parser.add_argument("--seeds", type=int, default=5, help="that judge (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=2, help="of seeds to learn from (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=2, help="that a draw learns from (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="2 seeds and one draw of 2 runs, to see that it works"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    effort = Effort(2, 1, 2) if given.quick else Effort(given.seeds, given.draws, given.runs)
    names = given.models.split(",")
    with ProcessPoolExecutor(len(names), mp_context=get_context("spawn")) as pool:
        results = []
        for result in pool.map(partial(study, effort=effort), names):
            show(result)
            results.append(result)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


def study(name: str, effort: Effort) -> dict[str, Any]:
    """All that is measured of a model: tables by title."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    judging, learning, checkpoint = MODELS[name]
    subject = judging()
    tables: dict[str, list[Row]] = {}
    with wb.open(checkpoint, calibration=checkpoint, group_size=GROUP) as session, torch.no_grad():
        judge = Judge(subject, session, effort.seeds)
        tables["quality"], tables["predicted against measured"] = quality(judge, learning(), effort)
        tables["8-bit activations, weights as they are"] = activations(judge)
    return {"model": subject.name, "seconds": round(time.perf_counter() - started), "tables": tables}


class Judge:
    """Runs plans on held-out seeds."""

    def __init__(self, subject: Subject, session: Session, seeds: int) -> None:
        self.subject = subject
        self.session = session
        self.seeds = range(JUDGED, JUDGED + seeds)
        self.exact = [subject.judged(seed) for seed in self.seeds]

    def row(self, name: str, budget: int | None = None, **settings: Any) -> Row:
        """The session's present plan."""
        session, subject = self.session, self.subject
        print(f"{subject.name}: {name}", file=sys.stderr, flush=True)
        predicted, nbytes = session.totals.damage, session.totals.nbytes
        with wb.live.apply(subject.module, session.plan, session.checkpoint, **settings):
            outputs = [subject.judged(seed) for seed in self.seeds]
        pairs = list(zip(outputs, self.exact, strict=True))
        errors = [subject.distance(*pair) for pair in pairs]
        return {
            "plan": name, "bpw": session.totals.bpw, "bytes": nbytes / budget if budget else None,
            "predicted": predicted, "error": float(np.mean(errors)), "median": median(subject, pairs, errors),
            **subject.quality(outputs), "errors": errors,
        }  # fmt: skip

    def unquantized(self) -> Row:
        return {
            "plan": "not quantized", "bpw": None, "bytes": None, "predicted": None, "error": None, "median": None,
            **self.subject.quality(self.exact), "errors": [],
        }  # fmt: skip


def median(
    subject: Subject, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], errors: Sequence[float]
) -> float:
    """Of the errors of single images; of texts that of the errors of the runs."""
    if pairs[0][0].ndim == 4:
        errors = [
            subject.distance(image, exact)
            for output, undisturbed in pairs
            for image, exact in zip(output, undisturbed, strict=True)
        ]
    return float(np.median(errors))


def quality(judge: Judge, learning: Subject, effort: Effort) -> tuple[list[Row], list[Row]]:
    """Uniform plans, solved ones and those with feedback; and what comparisons say of the solved ones."""
    session = judge.session
    rows, compared = [judge.unquantized()], []
    for bits in WIDTHS:
        session.set_bits("*", bits)
        rows.append(judge.row(f"uniform {bits} bits"))
        if bits not in SOLVED:
            continue
        budget = session.totals.nbytes
        name = f"solved, {SOLVED[bits]} bpw"
        session.solve(budget)
        rows.append(judge.row(name, budget))
        solved = session.plan.choices
        for draw in range(effort.draws):
            first = LEARNING + draw * effort.runs
            comparison = wb.live.compare(
                learning.module, lambda number: learning.run(first + number), session,  # noqa: B023 - called here
                runs=effort.runs, alone=True, distance=learning.distance,
            )  # fmt: skip
            compared.append(correlations(f"{name}, draw {draw + 1}", comparison))
            before = session.learn(comparison).damage
            gain = 1.0 - session.solve(budget).damage / before
            moved = sum(option != solved[layer] for layer, option in session.plan.choices.items())
            told = f"{name}, feedback {draw + 1}: {moved} moved"
            if gain < WORTH:
                session.undo()
                told = f"{name}, feedback {draw + 1}: kept, {moved} would gain {gain:.1%}"
            rows.append(judge.row(told, budget))
            session.learn(dict.fromkeys(session.learnt, 1.0))  # which forgets
            session.solve(budget)
            assert session.plan.choices == solved
    return rows, compared


def correlations(name: str, comparison: Comparison) -> Row:
    return {
        "plan": name, "own outputs, rank": comparison.rank_correlation,
        "final output, rank": comparison.rank_correlation_alone, "measured / predicted": comparison.ratio,
        "factors from": min(comparison.factors.values()), "to": max(comparison.factors.values()),
    }  # fmt: skip


def activations(judge: Judge) -> list[Row]:
    """Inputs rounded to eight bits: one scale for all times, and one for each of some time groups."""
    session = judge.session
    session.keep("*")
    assert session.time_aware is not None
    records = session.time_aware.records
    rows: list[Any] = []
    for count in TIME_GROUPS:
        for grouping in ("uniform", "optimal"):
            tables = TimeAwareQuantizer.of(records, count, grouping)
            if not rows:
                rows.append(judge.row("int8-static", activations="int8-static", tables=tables))
            name = f"int8-time, {len(tables.groups)} {grouping} groups"
            rows.append(judge.row(name, activations="int8-time", tables=tables))
    static = np.array(rows[0]["errors"])
    return [
        {
            "activations": row["plan"], "error": row["error"], "median": row["median"],
            "over static": row["error"] / rows[0]["error"],
            "better seeds": f"{int((np.array(row['errors']) < static).sum())}/{len(static)}",
            **{key: row[key] for key in judge.subject.quality(judge.exact)}, "errors": row["errors"],
        }
        for row in rows
    ]  # fmt: skip


def show(result: Mapping[str, Any]) -> None:
    print(f"\n{result['model']}, {result['seconds']} s on one thread")
    for title, rows in result["tables"].items():
        print(f"\n{title}")
        print_table([{key: value for key, value in row.items() if key != "errors"} for row in rows])


if __name__ == "__main__":
    main()
