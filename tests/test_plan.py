"""A plan is a value and a file that people read and compare: stable, whole, and checked where it is read."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from workbench.plan import TOTALS

OPTIONS = (
    wb.Option(2, "asymmetric", 64, 384),
    wb.Option(4, "asymmetric", 64, 640),
    wb.Option(16, "keep", 0, 2048),
)
NAMES = [
    f"blocks.{block}.attn.{part}.weight" for block in range(12) for part in ("to_q", "to_k", "*?: ümlaut")
]
PREDICTED = {"nbytes": 1_234, "bpw": 4.25, "damage": 1.5e-7, "gap": 0.0, "temperature": 3e-12}


def plan(**changes: Any) -> wb.Plan:
    given: dict[str, Any] = {
        "target": "parquet",
        "choices": {name: OPTIONS[place % 3] for place, name in enumerate(NAMES)},
        "fingerprint": "ab" * 32,
        "locks": frozenset(NAMES[:2]),
        "made_by": {"method": "solver", "size": "2MB"},
        "predicted": PREDICTED,
    }
    return wb.Plan(**{**given, **changes})


def test_two_plans_that_differ_in_a_layer_differ_in_its_line(tmp_path: Path) -> None:
    one = plan()
    choices = {**one.choices, NAMES[7]: OPTIONS[0]}
    other = plan(
        choices=choices, made_by={"method": "by hand"}, predicted={**PREDICTED, "nbytes": 1_000, "gap": 0.25}
    )
    one.save(tmp_path / "one.yaml")
    other.save(tmp_path / "other.yaml")
    lines = [
        (tmp_path / name).read_text(encoding="utf-8").splitlines() for name in ("one.yaml", "other.yaml")
    ]
    assert len(lines[0]) == len(lines[1]) == len(NAMES) + 8
    changed = [one.split(":")[0] for one, other in zip(*lines, strict=True) if one != other]
    assert changed == ["made_by", "predicted", f"  {NAMES[7]}"]


def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path: Path) -> None:
    plan().save(tmp_path / "one.yaml")
    read = wb.Plan.load(tmp_path / "one.yaml")
    assert read == plan()
    assert list(read.choices) == NAMES
    read.save(tmp_path / "two.yaml")
    assert (tmp_path / "one.yaml").read_bytes() == (tmp_path / "two.yaml").read_bytes()


numbers = st.none() | st.integers(0, 10**18) | st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.sampled_from(TOTALS), numbers))
def test_predicted_totals_come_back(predicted: dict[str, float | None]) -> None:
    made = plan(predicted=predicted)
    document = yaml.safe_load(yaml.safe_dump(made.to_dict()))
    assert ("predicted" in document) == bool(predicted)
    assert wb.Plan.from_dict(document).predicted == predicted


def test_a_total_that_is_not_finite_is_none() -> None:
    assert plan(predicted={"gap": math.inf, "bpw": math.nan}).predicted == {"gap": None, "bpw": None}


def test_a_file_without_predicted_totals_is_a_plan() -> None:
    document = plan().to_dict()
    del document["predicted"]
    assert wb.Plan.from_dict(document) == plan(predicted={})


@pytest.mark.parametrize(
    "changes", [{"effort": "best"}, {"effort": "normal", "weighted_by": "ab"}, {}], ids=str
)
def test_the_effort_comes_back(changes: dict[str, str], tmp_path: Path) -> None:
    made = plan(**changes)
    made.save(tmp_path / "plan.yaml", overwrite=True)
    assert wb.Plan.load(tmp_path / "plan.yaml") == made
    assert ("effort" in made.to_dict()) == bool(changes), "plans of before stay what they are"


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("effort", {"effort": "great"}),
        ("effort", {"effort": 3}),
        ("weighted_by", {"effort": "best", "weighted_by": 3}),
        ("weighted_by", {"weighted_by": "ab"}),
    ],
)
def test_the_effort_is_checked(key: str, changes: dict[str, object]) -> None:
    with pytest.raises(wb.ConfigurationError, match=rf"^plan\.yaml: .*{key}") as caught:
        wb.Plan.from_dict({**plan().to_dict(), **changes}, "plan.yaml")
    assert caught.value.key == key


@pytest.mark.parametrize("predicted", [[], "much", {"speed": 1}, {"bpw": "4"}, {"gap": True}])
def test_predicted_totals_are_checked(predicted: object) -> None:
    with pytest.raises(wb.ConfigurationError, match=r"^plan\.yaml: .*predicted"):
        wb.Plan.from_dict({**plan().to_dict(), "predicted": predicted}, "plan.yaml")


def test_the_digest_covers_what_a_payload_states_and_not_what_was_predicted() -> None:
    digest = plan().digest
    assert plan(predicted={}).digest == digest
    changes: dict[str, Any]
    for changes in (
        {"choices": {**plan().choices, NAMES[0]: OPTIONS[2]}},
        {"made_by": {"method": "by hand"}},
        {"locks": frozenset()},
        {"target": "mlx"},
        {"effort": "best"},
        {"effort": "best", "weighted_by": "ab"},
    ):
        assert plan(**changes).digest != digest


def test_a_plan_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.yaml"
    plan().save(path)
    before = path.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for broken in ("replace", "write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, broken, full_disk)
            with pytest.raises(wb.ConfigurationError, match="cannot be written: No space left") as caught:
                plan(locks=frozenset()).save(path, overwrite=True)
        assert caught.value.path == path
        assert [entry.name for entry in tmp_path.iterdir()] == ["plan.yaml"]
        assert path.read_bytes() == before
    with pytest.raises(wb.ConfigurationError, match=r"missing/plan\.yaml: cannot be written: No such file"):
        plan().save(tmp_path / "missing" / "plan.yaml")


@pytest.mark.parametrize("target", ["parquet", "mlx"])
def test_a_payload_does_not_depend_on_what_was_predicted(
    target: Any, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_checkpoint()
    engine = wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(target=target, min_accuracy=0.0))
    engine.run(source, tmp_path / "first")
    first = wb.load(tmp_path / "first").plan
    assert first.predicted == {}
    foretold = wb.Plan(target, first.choices, first.fingerprint, first.locks, first.made_by, PREDICTED)
    engine.run(source, tmp_path / "second", plan=foretold)
    for path in (tmp_path / "first").iterdir():
        if path.name != "workbench.json":
            assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name
    assert wb.load(tmp_path / "second").plan == foretold, "workbench.json has it all"
    assert wb.load(tmp_path / "second").payload.plan == first
    assert wb.verify(tmp_path / "second", source).ok


def test_a_plan_can_be_sent_to_another_process() -> None:
    found = pickle.loads(pickle.dumps(plan()))  # noqa: S301 - its own
    assert found == plan()
    assert found.digest == plan().digest
