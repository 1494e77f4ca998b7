"""A session: every edit is one step, nothing is lost between threads, and the plan is what gets written."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.session import Change, ObserverWarning, Session
from workbench.thermo.goal import parse_size
from workbench.work import Progress


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def session(cache: Path) -> Iterator[Session]:
    with_digits = wb.open("zoo:digits-dit", target="mlx", group_size=64, cache=cache)
    yield with_digits
    with_digits.close()


# ---- editing --------------------------------------------------------------------------------------------------


def test_it_begins_uniform_and_every_edit_is_one_step(session: Session) -> None:
    first = session.plan
    assert {option.bits for option in first.choices.values() if not option.is_kept} == {4}
    session.set_bits("*attn1*", 6)
    attention = session.select("*attn1*")
    assert len(attention) == 12
    assert {session.plan.choices[name].bits for name in attention} == {6}
    assert {
        o.bits for name, o in session.plan.choices.items() if name not in attention and not o.is_kept
    } == {4}
    session.set_bits(["role:modulation", "proj_out_2.weight"], 3)
    assert session.undo()
    assert session.undo()
    assert not session.undo()
    assert session.plan == first
    assert session.redo()
    assert session.redo()
    assert not session.redo()
    assert session.plan.choices["proj_out_2.weight"].bits == 3
    assert session.undo()
    session.lock("*")
    assert not session.redo(), "a new edit forgets what was undone"


def test_a_width_that_the_target_lacks_becomes_the_next_wider(session: Session) -> None:
    session.set_bits("*ff.net.2*", 7)
    assert {session.plan.choices[name].bits for name in session.select("*ff.net.2*")} == {8}
    with pytest.raises(wb.ConfigurationError, match="allowed: 2 to 8"):
        session.set_bits("*", 9)
    with pytest.raises(wb.ConfigurationError, match=r"'\*nothing\*' matches no layer"):
        session.set_bits("*nothing*", 4)


def test_a_solver_leaves_locked_layers(session: Session) -> None:
    session.lock("*.attn1.to_v.weight", bits=8)
    locked = session.select("*.attn1.to_v.weight")
    assert session.locked == locked
    totals = session.solve(bpw=3.5)
    assert {session.plan.choices[name].bits for name in locked} == {8}
    assert session.plan.locks == frozenset(locked)
    assert totals.bpw <= 3.5
    session.unlock()
    session.solve(bpw=3.5)
    assert {session.plan.choices[name].bits for name in locked} != {8}


@pytest.mark.parametrize("size", ["2.4MB", "1.7 MB", 3_000_000, "2 MiB"])
def test_a_size_is_the_whole_payload(session: Session, tmp_path: Path, size: int | str) -> None:
    totals = session.solve(size)
    assert totals.nbytes <= parse_size(size)
    assert totals.nbytes > 0.97 * parse_size(size), "room is not wasted"
    assert 0 <= totals.gap < 0.1
    report = session.export(tmp_path / "out").result(120)
    assert report.actual_bytes == totals.nbytes
    written = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors"))
    assert written == totals.nbytes
    assert wb.load(tmp_path / "out").plan == session.plan


def test_other_goals(session: Session) -> None:
    loose = session.solve(temperature=1e-6).nbytes
    tight = session.solve(temperature=1e-9).nbytes
    assert loose < tight
    assert session.solve(max_damage=0.5).damage <= 0.5
    session.solve(min_cosine=0.99)
    chosen = session.plan.choices
    cosine = {
        (row["layer"], row["bits"], row["scheme"], row["group_size"]): row["cosine"]
        for row in session.options.to_pylist()
    }
    assert min(cosine[name, o.bits, o.scheme, o.group_size] for name, o in chosen.items()) >= 0.99
    session.solve(bpw=4.0, floors={"role:modulation": 5}, ceilings={"*ff*": 4}, ties=["*to_[qkv].weight"])
    chosen = session.plan.choices
    assert min(chosen[name].bits for name in session.select("role:modulation")) >= 5
    assert max(chosen[name].bits for name in session.select("*ff*")) <= 4
    assert len({chosen[name].bits for name in session.select("*to_[qkv].weight")}) == 1


def test_what_cannot_be_reached_names_the_floor_and_changes_nothing(session: Session) -> None:
    before, version = session.plan, session.version
    with pytest.raises(wb.ConfigurationError) as caught:
        session.solve("0.3MB")
    floor = caught.value.floor
    assert f"{floor:,} are the least" in str(caught.value)
    with pytest.raises(wb.ConfigurationError, match="one goal"):
        session.solve()
    with pytest.raises(wb.ConfigurationError, match="one goal"):
        session.solve("2MB", bpw=4)
    assert (session.plan, session.version) == (before, version)
    assert session.solve(floor + 1000).nbytes <= floor + 1000
    with pytest.raises(wb.ConfigurationError) as caught:
        session.solve(1_000_000)
    assert session.solve(caught.value.floor).nbytes == caught.value.floor
    with pytest.raises(wb.ConfigurationError, match=r"are the least.*is 1 short|1 short.*are the least"):
        session.solve(caught.value.floor - 1)


@pytest.mark.parametrize("target", ["mlx", "parquet"])
def test_no_room_is_left_of_a_size(target: str, cache: Path) -> None:
    with wb.open("zoo:digits-dit", target=target, cache=cache) as session:
        smallest = min(
            abs(one["nbytes"] - other["nbytes"])
            for one, other in itertools.pairwise(session.options.to_pylist())
            if one["layer"] == other["layer"] and one["nbytes"] != other["nbytes"]
        )
        for size in range(1_700_000, 4_000_000, 300_000):
            session.set_bits("*", 8)  # where it begins must not matter
            totals = session.solve(size)
            assert size - max(0.002 * size, 4 * smallest) < totals.nbytes <= size


def test_the_solver_is_no_worse_than_any_policy_at_equal_bytes(session: Session) -> None:
    session.solve(bpw=3.6)
    table = session.compare().to_pylist()
    assert {row["policy"] for row in table} == {
        "uniform", "threshold", "sorted_greedy", "annealing", "solver", "entropy_rule",
    }  # fmt: skip
    for row in table:
        assert row["solver_damage"] <= row["damage"] * (1 + 1e-9), row["policy"]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("bits"), st.integers(0, 32), st.integers(2, 8)),
        st.tuples(st.just("lock"), st.integers(0, 32), st.none()),
        st.tuples(st.just("unlock"), st.integers(0, 32), st.none()),
        st.tuples(st.just("solve"), st.floats(2.6, 7.5), st.none()),
        st.tuples(st.just("undo"), st.none(), st.none()),
        st.tuples(st.just("redo"), st.none(), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_undoing_everything_gives_the_first_plan(
    session: Session, actions: list[tuple[str, Any, Any]]
) -> None:
    while session.undo():
        pass
    first, edits = session.plan, 0
    names = list(first.choices)
    for kind, what, value in actions:
        match kind:
            case "bits":
                session.set_bits(names[what], value)
            case "lock":
                session.lock(names[what])
            case "unlock":
                session.unlock(names[what])
            case "solve":
                session.solve(bpw=what) if not session.locked else session.set_bits("*", 5)
            case "undo":
                edits -= session.undo()
            case "redo":
                edits += session.redo()
        edits += kind in ("bits", "lock", "unlock", "solve")
    for _ in range(edits):
        assert session.undo()
    assert not session.undo()
    assert session.plan == first
    assert session.plan.to_dict() == first.to_dict()


def test_eight_threads_lose_nothing(session: Session) -> None:
    names = list(session.plan.choices)
    heard: list[int] = []
    session.observe(lambda change: heard.append(change.version))
    failures: list[BaseException] = []

    def edit(worker: int) -> None:
        try:
            for step in range(20):
                session.lock(names[(worker * 4 + step) % len(names)])
                session.set_bits(names[worker], 2 + step % 7)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    workers = [threading.Thread(target=edit, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    assert session.version == 8 * 20 * 2
    assert heard == list(range(1, session.version + 1))
    undone = 0
    while session.undo():
        undone += 1
    assert undone == 8 * 20 * 2


# ---- observers ------------------------------------------------------------------------------------------------


def test_observers_hear_rows_and_totals(session: Session) -> None:
    heard: list[Change] = []
    stop = session.observe(heard.append)
    name = "proj_out_1.weight"
    row = list(session.plan.choices).index(name)
    session.set_bits(name, 8)
    assert (heard[-1].rows, heard[-1].totals) == ((row,), session.totals)
    session.lock(name)
    assert heard[-1].rows == (row,)
    session.undo()
    assert [change.version for change in heard] == [1, 2, 3]
    stop()
    session.redo()
    assert len(heard) == 3


def test_an_observer_may_edit(session: Session) -> None:
    heard: list[int] = []

    def lock_what_changed(change: Change) -> None:
        heard.append(change.version)
        if change.version == 1:
            session.lock("proj_out_1.weight")

    session.observe(lock_what_changed)
    late: list[int] = []
    session.observe(lambda change: late.append(change.version))
    session.set_bits("proj_out_1.weight", 8)
    assert heard == late == [1, 2]
    assert session.locked == ("proj_out_1.weight",)


def test_a_failing_observer_does_not_stop_the_edit(session: Session) -> None:
    heard: list[int] = []

    def fail(change: Change) -> None:
        raise ZeroDivisionError

    session.observe(fail)
    session.observe(lambda change: heard.append(change.version))
    with pytest.warns(ObserverWarning, match="ZeroDivisionError"):
        session.set_bits("*", 3)
    assert heard == [1]
    assert {o.bits for o in session.plan.choices.values() if not o.is_kept} == {3}


# ---- plans, exports, looks ------------------------------------------------------------------------------------


def test_a_plan_comes_back_from_its_file(session: Session, tmp_path: Path) -> None:
    session.lock("role:head", bits=8)
    session.solve(bpw=4.2)
    plan = session.plan
    plan.save(tmp_path / "plan.yaml")
    session.set_bits("*", 2)
    assert session.load_plan(tmp_path / "plan.yaml") == ()
    assert session.plan == plan
    assert session.undo()
    other = wb.Plan(plan.target, plan.choices, "0" * 64, plan.locks, plan.made_by)
    other.save(tmp_path / "other.yaml")
    (note,) = session.load_plan(tmp_path / "other.yaml")
    assert "other contents" in note
    with pytest.raises(wb.ConfigurationError, match=r"'extra\.weight' is not in the checkpoint"):
        extra = {**plan.choices, "extra.weight": next(iter(plan.choices.values()))}
        wb.Plan(plan.target, extra, plan.fingerprint).save(tmp_path / "extra.yaml")
        session.load_plan(tmp_path / "extra.yaml")
    with pytest.raises(wb.ConfigurationError, match="plan is for parquet"):
        wb.Plan("parquet", plan.choices, plan.fingerprint).save(tmp_path / "parquet.yaml")
        session.load_plan(tmp_path / "parquet.yaml")


def test_an_export_can_be_cancelled(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.work.REFRESH_SECONDS", 0.0)
    started = threading.Event()
    advance = Progress.advance

    def slow(self: Progress, amount: int) -> None:
        started.set()
        threading.Event().wait(0.01)
        advance(self, amount)

    monkeypatch.setattr("workbench.work.Progress.advance", slow)
    job = session.export(tmp_path / "out")
    assert started.wait(30)
    job.cancel()
    with pytest.raises(wb.CancelledError):
        job.result(60)
    assert job.state == "cancelled"
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_says_why(session: Session, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    job = session.export(tmp_path / "out")
    with pytest.raises(wb.ValidationError, match="exists already"):
        job.result(60)
    assert job.state == "failed"


def test_it_shows_itself_without_a_widget(session: Session) -> None:
    session.lock("proj_out_1.weight")
    bundle = session._repr_mimebundle_()
    assert f"{session.totals.nbytes / 1e6:,.3f} MB" in bundle["text/plain"]
    for name in session.plan.choices:
        assert name in bundle["text/plain"]
        assert name in bundle["text/html"]
    assert bundle["text/plain"].count("locked") == 1
    assert "  damage" in bundle["text/plain"]
    assert "<th>damage</th>" in bundle["text/html"]


def test_names_of_a_checkpoint_are_escaped(make_checkpoint: Callable[..., Path], cache: Path) -> None:
    name = "blocks.0.<img src=x onerror=alert(1)>.weight"
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    with_markup = wb.open(make_checkpoint({name: weights}), cache=cache)
    assert "<img" not in with_markup._repr_mimebundle_()["text/html"]
    assert "&lt;img" in with_markup._repr_mimebundle_()["text/html"]
    with_markup.close()


def test_the_table_of_the_present_plan(session: Session) -> None:
    session.lock("proj_out_2.weight", bits=8)
    session.solve(bpw=4.0)
    session.set_option("pos_embed.proj.weight", session.plan.choices["pos_embed.proj.weight"])
    rows = session.thermodynamics.to_pylist()
    planner = {
        (row["layer"], row["bits"], row["scheme"], row["group_size"]): row
        for row in session.options.to_pylist()
    }
    params = dict(zip(session.layers["name"].to_pylist(), session.layers["params"].to_pylist(), strict=True))
    for row, (name, option) in zip(rows, session.plan.choices.items(), strict=True):
        assert row["name"] == name
        assert wb.Option(*(row[key] for key in ("bits", "scheme", "group_size", "nbytes"))) == option
        found = planner[name, option.bits, option.scheme, option.group_size]
        assert [row[key] for key in ("nsr", "damage", "cosine", "code_entropy")] == [
            found[key] for key in ("nsr", "damage", "cosine", "code_entropy")
        ]
        assert row["damage"] == found["nsr"], "weights only: D is the NSR"
        assert row["bpw"] == pytest.approx(8 * option.nbytes / params[name])
        assert (row["code_entropy"] is None) == option.is_kept
        if not option.is_kept:
            assert 0 < row["code_entropy"] <= option.bits
    assert sum(row["damage"] for row in rows) == pytest.approx(session.totals.damage)


def test_a_plan_carries_what_it_adds_up_to(session: Session, tmp_path: Path) -> None:
    session.solve("2.2MB", floors={"role:modulation": 4}, ties=["*0.attn1.to_[qkv].weight"])
    plan, totals = session.plan, session.totals
    keys = ("nbytes", "bpw", "damage", "gap", "temperature")
    assert plan.predicted == {key: getattr(totals, key) for key in keys}
    assert plan.made_by == {
        "method": "solver", "size": "2.2MB", "floors": {"role:modulation": 4}, "ties": ["*0.attn1.to_[qkv].weight"],
    }  # fmt: skip
    report = session.export(tmp_path / "out").result(120)
    assert report.actual_bytes == plan.predicted["nbytes"]
    assert wb.load(tmp_path / "out").plan == plan


def test_the_gap_is_that_under_the_limits_of_the_solve(session: Session) -> None:
    limited = session.solve(bpw=4.5, ceilings={"*ff*": 3})
    assert limited.gap < 0.02
    session.lock("*attn1*")
    assert session.totals.gap < 0.02, "a lock alone changes no option"
    session.undo()
    session.set_bits("proj_out_2.weight", session.plan.choices["proj_out_2.weight"].bits)
    assert session.totals.gap > 2 * limited.gap + 0.02, "a plan by hand is under no limit"
    session.undo()
    assert session.totals == limited


def test_goals_that_are_no_plain_numbers_can_be_written(session: Session, tmp_path: Path) -> None:
    session.solve(temperature=np.inf, min_cosine=np.float64(0.9))
    assert session.plan.made_by == {"method": "solver", "temperature": "inf", "min_cosine": 0.9}
    session.plan.save(tmp_path / "plan.yaml")
    assert wb.Plan.load(tmp_path / "plan.yaml") == session.plan
    session.export(tmp_path / "out").result(120)
    assert wb.load(tmp_path / "out").plan == session.plan


def test_thermodynamics_of_the_present_plan(session: Session) -> None:
    session.solve(bpw=4.0)
    table = session.thermodynamics
    price = session.totals.temperature
    entropy = table["entropy"].to_numpy()
    assert table["name"].to_pylist() == list(session.plan.choices)
    assert (entropy >= 0).all()
    assert (table["heat_capacity"].to_numpy() >= 0).all()
    up, down = table["temperature_up"].to_numpy(), table["temperature_down"].to_numpy()
    balanced = ((up <= price * 1.001) & (price <= down * 1.001)).mean()
    assert balanced > 0.8, "at the optimum nearly every layer is content with the common price"


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("2.5GB", 2_500_000_000), ("900 MiB", 943_718_400), ("17", 17), ("3kb", 3000), (12, 12), ("1 B", 1)],
)
def test_sizes_as_people_write_them(text: int | str, nbytes: int) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize("text", ["", "GB", "2.5 horses", "1e999GB", "--3MB"])
def test_sizes_that_mean_nothing(text: str) -> None:
    with pytest.raises(wb.ConfigurationError, match="not a size"):
        parse_size(text)


def test_a_snapshot_is_of_one_version(session: Session) -> None:
    session.lock("proj_out_2.weight", bits=8)
    session.set_bits("*attn1*", 6)
    now = session.snapshot
    assert session.snapshot is now, "remembered until the next edit"
    assert (now.version, now.totals, now.can_undo, now.can_redo) == (2, session.totals, True, False)
    assert now.present.equals(session.thermodynamics)
    names = session.layers["name"].to_pylist()
    assert [name for name, locked in zip(names, now.locked, strict=True) if locked] == ["proj_out_2.weight"]
    chosen = session.options.take(now.rows).select(["layer", "bits", "scheme", "group_size", "nbytes"])
    assert {row.pop("layer"): wb.Option(**row) for row in chosen.to_pylist()} == session.plan.choices
    session.undo()
    assert (session.snapshot.version, session.snapshot.can_redo) == (3, True)


def test_the_menu_is_what_edits_do(session: Session) -> None:
    menu = session.menu
    names = session.layers["name"].to_pylist()
    for column, edit in enumerate([*(lambda b=b: session.set_bits("*", b) for b in range(2, 9)), None]):
        session.keep("*") if edit is None else edit()
        assert menu[:, column].tolist() == session.snapshot.rows.tolist()
    assert all(option.is_kept for option in session.plan.choices.values())
    assert session.undo(), "keeping is one step"
    assert session.options.take(menu[:, -1])["layer"].to_pylist() == names


def test_expressions_speak_of_the_layers_and_the_present_plan(session: Session) -> None:
    session.lock("*to_v*")
    session.set_bits("*attn1*", 6)
    assert session.where('bits == 6 and "to_v" in name') == session.select("*attn1.to_v.weight")
    assert session.where("locked") == session.locked
    assert session.where("role == 'modulation'") == session.select("role:modulation")
    assert session.evaluate("damage").sum() == pytest.approx(session.totals.damage)
    assert session.evaluate("8 * nbytes / params").tolist() == pytest.approx(
        session.thermodynamics["bpw"].to_pylist()
    )
    assert session.evaluate("rows * cols").tolist() == session.layers["params"].to_pylist()
    assert np.isnan(session.evaluate("depth")).sum() == session.layers["depth"].null_count
    with pytest.raises(wb.ConfigurationError, match="did you mean cosine"):
        session.where("cosin > 0.99")


def test_where_takes_patterns_and_the_tables_headings(unet: Path, tmp_path: Path) -> None:
    with wb.open(
        unet / "model", target="mlx", group_size=32, calibration=unet / "calibration.parquet", cache=tmp_path
    ) as session:
        names = session.layers["name"].to_pylist()
        session.set_bits("role:attn.q", 3)
        queries = tuple(name for name in names if "to_q" in name)
        assert (
            session.where("bits < 4")
            == session.where("role:attention.q")
            == session.select("*to_q*")
            == queries
        )
        assert session.where("*to_q* and not *attn2*") == tuple(name for name in queries if "attn1" in name)
        assert session.where("kB > 1.5") == tuple(
            n for n, o in session.plan.choices.items() if o.nbytes > 1500
        )
        now = session.snapshot.present
        damage = dict(zip(now["name"].to_pylist(), now["damage"].to_pylist(), strict=True))
        assert (
            session.where("D > 1e-2")
            == session.where("Damage > 1e-2")
            == tuple(n for n in names if damage[n] > 1e-2)
        )
        assert session.where("κ > 0 and V >= 0 and heat >= 0 and Ĥ > 0 and H(q) > 0 and S >= 0")
        assert session.where('"32×32" in shape') == tuple(
            session.layers.filter(session.layers["params"].to_numpy() == 1024)["name"].to_pylist()
        )
        with pytest.raises(wb.ConfigurationError, match=r"Did you mean 'role:attention\.q'"):
            session.select("role:atention.q")
        with pytest.raises(wb.ConfigurationError, match=r"Did you mean '\*attn1\*'"):
            session.select("*attn1x*")
        with pytest.raises(wb.ConfigurationError, match="did you mean damage"):
            session.where("damge > 1")


def test_a_session_in_text_counts_blocks_as_people_do(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    tensors = {f"blocks.{n}.attn.to_q.weight": rng.standard_normal((64, 64), np.float32) for n in range(12)}
    with wb.open(make_checkpoint(tensors), target="mlx", cache=tmp_path / "cache") as session:
        assert session.layers["name"].to_pylist() == sorted(tensors), "as safetensors writes them"
        lines = session._repr_mimebundle_()["text/plain"].splitlines()
        assert [line.split(".")[1] for line in lines if line.startswith("blocks.")] == [
            str(n) for n in range(12)
        ]
