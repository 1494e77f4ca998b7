"""Guards the promises of the ArrowQuant V2 names, above all: whatever ends a run early, nothing of it is left."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.arrowquant import BASE_NOTE

Make = Callable[..., Path]


def payload(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def leftovers(tmp_path: Path) -> list[str]:
    """What stands beside the checkpoint, hidden folders included."""
    return sorted(path.name for path in tmp_path.iterdir() if path.name != "model")


@pytest.fixture
def many_calls(small_parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a small run report progress often."""
    monkeypatch.setattr("workbench.work.REFRESH_SECONDS", 0.0)


@pytest.fixture(params=["generated", "zoo"])
def model(request: pytest.FixtureRequest, make_checkpoint: Make) -> str:
    return "zoo:digits-dit" if request.param == "zoo" else str(make_checkpoint())


def test_the_result_is_the_report_and_hides_nothing(model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = wb.ArrowQuantV2().quantize_diffusion_model(model, out)
    assert result == wb.load(out).report
    size = sum(len(data) for data in payload(out).values())
    assert result["model_size_mb"] == size / 1e6
    assert result["compression_ratio"] == result["source_bytes"] / size
    assert 0.99 < result["cosine_similarity"] < 1
    assert {layer["bits"] for layer in result["layers"] if layer["scheme"] != "keep"} == {4}
    assert wb.verify(out, model).ok


def test_base_mode_says_what_it_leaves_out(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    out = tmp_path / "out"
    base = wb.ArrowQuantV2(mode="base").quantize_diffusion_model(source, out, wb.DiffusionQuantConfig())
    assert BASE_NOTE in base["notes"]
    assert wb.load(out).report["notes"] == base["notes"]
    config = wb.load(out).config
    assert (config["enable_time_aware"], config["enable_spatial"]) == (False, False)
    diffusion = wb.ArrowQuantV2(mode="diffusion").quantize_diffusion_model(source, tmp_path / "other")
    assert BASE_NOTE not in diffusion["notes"]
    # Without a calibration there is nothing else to tell them apart.
    assert payload(out) == payload(tmp_path / "other")


@pytest.mark.parametrize("mode", ["audio", "", None, "Base", ["base"]])
@pytest.mark.parametrize("kind", [wb.ArrowQuantV2, wb.AsyncArrowQuantV2])
def test_an_unknown_mode_is_an_error(kind: Any, mode: Any) -> None:
    with pytest.raises(wb.ConfigurationError, match="diffusion or base") as caught:
        kind(mode=mode)
    assert (caught.value.key, caught.value.value) == ("mode", mode)


@pytest.mark.parametrize(
    "config",
    [{"bit_width": 8}, wb.DiffusionQuantConfig(bit_width=8), wb.DiffusionQuantConfig.from_profile("cloud")],
)
def test_a_configuration_may_be_given_in_several_ways(
    config: Any, make_checkpoint: Make, tmp_path: Path
) -> None:
    result = wb.ArrowQuantV2().quantize_diffusion_model(make_checkpoint(), tmp_path / "out", config)
    assert {layer["bits"] for layer in result["layers"]} == {8}


def test_the_solver_and_the_entropy_rule_are_called_by_the_configuration(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    source = make_checkpoint()
    solved = wb.ArrowQuantV2().quantize_diffusion_model(
        source, tmp_path / "solved", {"enable_mixed_precision": True, "target_model_size_mb": 0.3}
    )
    assert solved["model_size_mb"] <= 0.3
    assert wb.load(tmp_path / "solved").plan.made_by["method"] == "mixed precision"
    settings = wb.DiffusionQuantConfig.from_profile("edge", enable_mixed_precision=True)
    again = asyncio.run(
        wb.AsyncArrowQuantV2().quantize_diffusion_model_async(source, tmp_path / "edge", settings)
    )
    assert wb.load(tmp_path / "edge").plan.predicted["nbytes"] == again["predicted_bytes"]
    ruled = wb.ArrowQuantV2(mode="base").quantize_diffusion_model(
        source, tmp_path / "ruled", {"enable_entropy_adaptation": True, "min_accuracy": 0.0}
    )
    assert {layer["bits"] for layer in ruled["layers"]} <= {2, 4, 8, 16, 32}
    with pytest.raises(wb.ConfigurationError, match="are the least"):
        wb.ArrowQuantV2().quantize_diffusion_model(
            source, tmp_path / "out", {"enable_mixed_precision": True, "target_model_size_mb": 0.01}
        )
    assert leftovers(tmp_path) == ["edge", "ruled", "solved"]


@pytest.mark.parametrize("config", ["edge", 4, [("bit_width", 4)], {"bits": 4}, {"bit_width": 9}])
def test_a_wrong_configuration_is_an_error_and_writes_nothing(
    config: Any, make_checkpoint: Make, tmp_path: Path
) -> None:
    source = make_checkpoint()
    with pytest.raises(wb.ConfigurationError):
        wb.ArrowQuantV2().quantize_diffusion_model(source, tmp_path / "out", config)
    with pytest.raises(wb.ConfigurationError):
        asyncio.run(wb.AsyncArrowQuantV2().quantize_diffusion_model_async(source, tmp_path / "out", config))
    assert leftovers(tmp_path) == []


def test_progress_is_heard_in_the_calling_thread(make_checkpoint: Make, tmp_path: Path) -> None:
    heard: list[tuple[float, str, threading.Thread]] = []
    wb.ArrowQuantV2().quantize_diffusion_model(
        make_checkpoint(),
        tmp_path / "out",
        progress_callback=lambda f, m: heard.append((f, m, threading.current_thread())),
    )
    assert heard[-1][0] == 1.0
    assert {thread for *_, thread in heard} == {threading.current_thread()}


class MyError(OSError):
    """An error of the caller's, of a kind that a full disk raises too."""


@pytest.mark.usefixtures("many_calls")
@pytest.mark.parametrize("moment", [0.0, 0.5, 1.0])
def test_an_exception_in_the_callback_ends_the_run(
    moment: float, make_checkpoint: Make, tmp_path: Path
) -> None:
    source = make_checkpoint()

    def callback(fraction: float, message: str) -> None:
        if fraction >= moment:
            raise MyError("mine")

    with pytest.raises(MyError, match="mine"):
        wb.ArrowQuantV2().quantize_diffusion_model(source, tmp_path / "out", progress_callback=callback)
    assert leftovers(tmp_path) == []
    with pytest.raises(MyError, match="mine"):
        asyncio.run(
            wb.AsyncArrowQuantV2().quantize_diffusion_model_async(
                source, tmp_path / "out", progress_callback=callback
            )
        )
    assert leftovers(tmp_path) == []


def test_several_run_at_once_on_one_loop(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()
    threads = set()

    def callback(fraction: float, message: str) -> None:
        threads.add(threading.current_thread())

    async def many() -> list[dict[str, Any]]:
        quantizer = wb.AsyncArrowQuantV2()
        return await asyncio.gather(
            *(
                quantizer.quantize_diffusion_model_async(
                    source, tmp_path / f"out{bits}", {"bit_width": bits}, callback
                )
                for bits in (2, 4, 8)
            )
        )

    results = asyncio.run(many())
    assert threads == {threading.current_thread()}
    for bits, result in zip((2, 4, 8), results, strict=True):
        alone = tmp_path / f"alone{bits}"
        wb.ArrowQuantV2().quantize_diffusion_model(source, alone, {"bit_width": bits})
        assert payload(alone) == payload(tmp_path / f"out{bits}")
        assert result == wb.load(tmp_path / f"out{bits}").report


def test_the_loop_stays_free_meanwhile(tmp_path: Path) -> None:
    async def ticks() -> int:
        work = asyncio.create_task(
            wb.AsyncArrowQuantV2().quantize_diffusion_model_async("zoo:digits-dit", tmp_path / "out")
        )
        count = 0
        while not work.done():
            await asyncio.sleep(0.01)
            count += 1
        await work
        return count

    assert asyncio.run(ticks()) > 3


def test_an_error_of_the_engine_is_raised(tmp_path: Path) -> None:
    with pytest.raises(wb.ModelNotFoundError):
        asyncio.run(
            wb.AsyncArrowQuantV2().quantize_diffusion_model_async(tmp_path / "nothing", tmp_path / "out")
        )
    assert leftovers(tmp_path) == []


async def cancelled(source: Path, out: Path, moment: Callable[[float], bool], times: int = 1) -> None:
    """Cancel a run from its callback at a moment, and make sure that it ends as cancelled."""

    def callback(fraction: float, message: str) -> None:
        if moment(fraction):
            for number in range(times):
                loop.call_later(0.001 * number, task.cancel)

    loop = asyncio.get_running_loop()
    task = loop.create_task(
        wb.AsyncArrowQuantV2().quantize_diffusion_model_async(source, out, None, callback)
    )
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    working = [thread.name for thread in threading.enumerate() if thread.name.startswith("workbench")]
    assert working == [], "the work had not stopped"


@pytest.mark.usefixtures("many_calls")
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("moment", [0.0, 0.2, 0.7])
def test_cancelling_stops_the_work_and_leaves_nothing(
    moment: float, times: int, make_checkpoint: Make, tmp_path: Path
) -> None:
    source = make_checkpoint()
    asyncio.run(cancelled(source, tmp_path / "out", lambda fraction: fraction >= moment, times))
    assert leftovers(tmp_path) == []


def test_cancelling_before_the_first_step_leaves_nothing(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()

    async def at_once() -> None:
        task = asyncio.create_task(
            wb.AsyncArrowQuantV2().quantize_diffusion_model_async(source, tmp_path / "out")
        )
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(at_once())
    assert leftovers(tmp_path) == []


def wait_for(path: Path) -> bool:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return True


def test_cancelling_when_the_output_is_there_already_leaves_nothing(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    """The loop was busy while the run ended: the task is cancelled all the same."""
    out = tmp_path / "out"
    asyncio.run(cancelled(make_checkpoint(), out, lambda fraction: fraction == 1.0 and wait_for(out)))
    assert leftovers(tmp_path) == []


def test_an_exception_when_the_output_is_there_already_leaves_nothing(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def callback(fraction: float, message: str) -> None:
        if fraction == 1.0 and wait_for(out):
            raise MyError("late")

    with pytest.raises(MyError, match="late"):
        asyncio.run(
            wb.AsyncArrowQuantV2().quantize_diffusion_model_async(make_checkpoint(), out, None, callback)
        )
    assert leftovers(tmp_path) == []


@pytest.mark.usefixtures("many_calls")
def test_a_timeout_is_a_cancel(make_checkpoint: Make, tmp_path: Path) -> None:
    source = make_checkpoint()

    async def hurried() -> None:
        async with asyncio.timeout(None) as limit:

            def callback(fraction: float, message: str) -> None:
                limit.reschedule(0)

            await wb.AsyncArrowQuantV2().quantize_diffusion_model_async(
                source, tmp_path / "out", None, callback
            )

    with pytest.raises(TimeoutError):
        asyncio.run(hurried())
    assert leftovers(tmp_path) == []


def test_an_output_that_exists_survives_a_cancel(make_checkpoint: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").touch()
    source = make_checkpoint()

    async def at_once() -> None:
        task = asyncio.create_task(wb.AsyncArrowQuantV2().quantize_diffusion_model_async(source, out))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(at_once())
    assert [path.name for path in out.iterdir()] == ["precious"]


ARROWQUANT_NAMES = {
    "ArrowQuantV2", "AsyncArrowQuantV2", "DiffusionQuantConfig", "load_sharded_safetensors", "DiffusionOrchestrator",
    "SafeTensorsAdapter", "ShardedSafeTensorsAdapter", "ArrowQuantError", "QuantizationError", "ConfigurationError",
    "ValidationError", "ModelNotFoundError", "MetadataError", "ShapeMismatchError",
}  # fmt: skip


def test_every_public_name_is_there_and_comes_from_where_it_lives() -> None:
    assert set(wb.__all__) >= ARROWQUANT_NAMES
    for name in wb.__all__:
        found = getattr(wb, name).__name__.removeprefix("workbench.")
        assert found == ("open_session" if name == "open" else name)
    assert dir(wb) == sorted(wb.__all__)


def test_what_the_public_functions_return_has_public_names(make_checkpoint: Make, tmp_path: Path) -> None:
    report = wb.DiffusionOrchestrator().run(make_checkpoint(), tmp_path / "out")
    with wb.open_checkpoint(tmp_path / "model") as checkpoint:
        values = [
            report, report.layers[0], checkpoint, checkpoint.layers[0], wb.load(tmp_path / "out"),
            wb.load(tmp_path / "out").plan, wb.verify(tmp_path / "out", tmp_path / "model"),
        ]  # fmt: skip
        for value in values:
            assert type(value) is getattr(wb, type(value).__name__)


@pytest.mark.parametrize("name", ["SpatialQuantiser", "quantise"])
def test_names_without_an_engine_are_not_offered(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(wb, name)


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import sys, workbench; sys.exit(not {'numpy', 'pyarrow', 'torch'}.isdisjoint(sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True)
