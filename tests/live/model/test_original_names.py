"""Guards that sessions under the original checkpoint's names work with the running diffusers model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFReader
from torch import Tensor

import workbench as wb
from workbench.calibration import CalibrationRecords, records_for
from workbench.checkpoint import open_checkpoint, originally_named
from workbench.errors import ValidationError
from workbench.live.importance.trials import relative_error
from workbench.live.model.modules import match_layers
from workbench.live.validation.apply import require_all
from workbench.live.validation.single_layers import try_alone, with_options
from workbench.session import Session


class Case(NamedTuple):
    model: Any
    folder: Path
    run: Callable[[int], Tensor]
    records: CalibrationRecords


def flux_call(model: Any, chance: torch.Generator, time: float) -> Tensor:
    found: Tensor = model(
        hidden_states=torch.randn(2, 16, 16, generator=chance),
        encoder_hidden_states=torch.randn(2, 5, 64, generator=chance),
        pooled_projections=torch.randn(2, 64, generator=chance), timestep=torch.full((2,), time),
        guidance=torch.ones(2), img_ids=torch.zeros(16, 3), txt_ids=torch.zeros(5, 3), return_dict=False,
    )[0]  # fmt: skip
    return found


def sd3_call(model: Any, chance: torch.Generator, time: float) -> Tensor:
    found: Tensor = model(
        hidden_states=torch.randn(2, 16, 16, 16, generator=chance),
        encoder_hidden_states=torch.randn(2, 5, 256, generator=chance),
        pooled_projections=torch.randn(2, 256, generator=chance), timestep=torch.full((2,), time), return_dict=False,
    )[0]  # fmt: skip
    return found


@pytest.fixture(scope="module", params=["flux", "sd3"])
def case(
    request: pytest.FixtureRequest, flux_model: Any, sd3_model: Any, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    is_flux = request.param == "flux"
    model = (flux_model if is_flux else sd3_model)(num_layers=2).eval()
    call = flux_call if is_flux else sd3_call
    folder = tmp_path_factory.mktemp(request.param) / "model"
    model.save_pretrained(folder)

    def run(number: int) -> Tensor:
        chance = torch.Generator().manual_seed(number)
        return call(model, chance, 0.9) + call(model, chance, 0.1)

    with torch.no_grad(), wb.live.capture(model, folder) as rec:
        run(0)
    return Case(model, folder, run, rec.records)


@pytest.fixture(scope="module")
def session(case: Case) -> Iterator[Session]:
    cache = case.folder.parent / "cache"
    with wb.open(case.folder, "gguf", calibration=case.records, num_time_groups=2, cache=cache) as session:
        assert any("qkv" in layer.name for layer in session.checkpoint.layers)
        session.set_bits("*", 4)
        session.set_bits("*qkv*", 3)
        yield session


def weights_of(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_model_runs_with_what_the_exported_gguf_decodes_to(
    case: Case, session: Session, tmp_path: Path
) -> None:
    plan = session.plan
    session.export(tmp_path / "out").result()
    (path,) = (tmp_path / "out").glob("*.gguf")
    decoded = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in GGUFReader(path).tensors
    }
    own = weights_of(case.model)
    quantized = {name for name, option in plan.choices.items() if not option.is_kept}
    for source, checkpoint in (
        (plan, case.folder), (plan, session.checkpoint), (tmp_path / "out", case.folder),
        (tmp_path / "out", session.checkpoint), (plan, session.checkpoint.stored),
    ):  # fmt: skip
        with wb.live.apply(case.model, source, checkpoint, tables=session.time_aware) as applied:
            found = weights_of(case.model)
        assert not applied.missing
        assert session.checkpoint.parts is not None
        for name in quantized:
            # The original's rows are those of the model's tensors one after the other, halves of some swapped.
            rows = [found[part.tensor][part.start : part.stop] for part in session.checkpoint.parts[name]]
            expected = decoded[name].reshape(-1)
            np.testing.assert_allclose(torch.cat(rows).reshape(-1).numpy(), expected, rtol=1e-6, atol=1e-7)
            for part in session.checkpoint.parts[name]:
                assert not torch.equal(found[part.tensor], own[part.tensor])
    for name, value in case.model.state_dict().items():
        assert torch.equal(value, own[name])


def test_a_capture_is_by_the_models_names_and_fits_under_both(case: Case, session: Session) -> None:
    with torch.no_grad(), wb.live.capture(case.model, session.checkpoint) as rec:
        case.run(0)
    assert rec.records.digest == case.records.digest
    assert session.time_aware is not None
    assert records_for(rec.records, session.checkpoint).digest == session.time_aware.records.digest
    assert not session.time_aware.records.missing(session.checkpoint)
    assert set(wb.live.match_modules(case.model, session.checkpoint)) == set(
        wb.live.match_modules(case.model, case.folder)
    )


def test_a_session_proves_its_plan_in_the_attached_model(case: Case, session: Session) -> None:
    wb.live.attach(session, case.model, case.run)
    found: Any = session.validate(runs=1).result()
    plan, time_aware = session.plan, session.time_aware
    own = {}
    modules = wb.live.match_modules(case.model, case.folder)
    assert session.checkpoint.parts is not None
    # Measured here once more: what each of the model's layers gives with the changed weights at its own inputs.
    with wb.live.apply(case.model, plan, case.folder, tables=time_aware):
        changed = {name: module.weight.detach().clone() for name, module in modules.items()}
    energies: dict[str, np.ndarray[Any, Any]] = {}

    def see(name: str) -> Any:
        def hook(module: Any, args: Any, output: Tensor) -> None:
            delta = changed[name] - module.weight
            conv = module.weight.dim() == 4
            noise = module._conv_forward(args[0], delta, None) if conv else args[0] @ delta.T
            bias = module.bias.reshape(-1, 1, 1) if conv else module.bias
            energies[name] = energies.get(name, np.zeros(2)) + [
                float(values.double().square().sum()) for values in (noise, output - bias)
            ]

        return hook

    handles = [module.register_forward_hook(see(name)) for name, module in modules.items()]
    with torch.no_grad():
        case.run(0)
    for handle in handles:
        handle.remove()
    for name, parts in session.checkpoint.parts.items():
        sources = {part.tensor for part in parts}
        if name in plan.choices and sources <= set(energies):
            noise, signal = np.sum([energies[source] for source in sources], axis=0)
            own[name] = noise / signal
    rows = {row["layer"]: row for row in found.layers.to_pylist()}
    assert set(rows) == {name for name, option in plan.choices.items() if not option.is_kept}
    for name, row in rows.items():
        # One run at two times, each a group of its own: their mean is near that of all calls together.
        assert row["measured"] == pytest.approx(own[name], rel=0.5), name
    assert float(found.errors[0]) > 0
    with torch.no_grad(), wb.live.apply(case.model, plan, case.folder, tables=time_aware):
        quantized = case.run(0)
    with torch.no_grad():
        exact = case.run(0)
    expected = float((quantized - exact).square().sum() / exact.square().sum())
    assert found.errors[0] == pytest.approx(expected, rel=1e-5)


def test_inputs_of_all_parts_of_a_fused_layer_are_rounded(case: Case, session: Session) -> None:
    with wb.live.apply(
        case.model, session.plan, case.folder, activations="int8-time", tables=session.time_aware
    ) as applied:
        assert set(applied.rounded) == set(case.records.layers)


def test_importance_takes_the_session_checkpoint_and_its_changes(case: Case, session: Session) -> None:
    assert session.time_aware is not None
    errors = wb.live.weight_errors(session.checkpoint, session.plan, session.time_aware.records)
    fused = next(name for name in errors if "qkv.weight" in name)
    by_original, by_files = (
        wb.live.importance_by_gradients(
            case.model, case.run, checkpoint, case.records, runs=1, toward=toward, span="step"
        )
        for checkpoint, toward in ((session.checkpoint, errors), (case.folder, in_files(session, errors)))
    )
    assert by_original.digest == by_files.digest
    split = {(name, 0): delta for name, delta in in_files(session, {fused: errors[fused]}).items()}
    assert len(split) == 3
    found = wb.live.directional(
        case.model, case.run, session.checkpoint, case.records, {(fused, 0): errors[fused]}, runs=1
    )
    assert list(found) == [(fused, 0)]
    assert found[fused, 0] > 0


def in_files(session: Session, errors: dict[str, Tensor]) -> dict[str, Tensor]:
    assert session.checkpoint.parts is not None
    found: dict[str, Tensor] = {}
    for name, delta in errors.items():
        at = 0
        pieces: dict[str, list[tuple[int, Tensor]]] = {}
        for part in session.checkpoint.parts[name]:
            rows = part.stop - part.start
            pieces.setdefault(part.tensor, []).append((part.start, delta[at : at + rows]))
            at += rows
        found |= {
            source: torch.cat([rows for _, rows in sorted(some, key=lambda one: one[0])])
            for source, some in pieces.items()
        }
    return found


def test_one_layer_at_a_time_changes_all_parts_of_a_fused_one(case: Case, session: Session) -> None:
    assert session.time_aware is not None
    records = session.time_aware.records
    table = session.options.to_pylist()
    row = next(table[at] for at in session.snapshot.rows if "qkv.weight" in table[at]["layer"])
    name = row["layer"]
    with torch.no_grad():
        exact = case.run(0)
    parts = in_files(session, dict.fromkeys([name], torch.zeros(session.checkpoint.tensors[name].shape)))
    slots = require_all(match_layers(case.model, session.checkpoint), parts)
    assert len(slots) == 3

    def measure() -> list[float]:
        with torch.no_grad():
            return [relative_error(case.run(0), exact)]

    tried = try_alone(session.plan, slots, session.checkpoint, records, {name: row}, measure, True)
    (found,) = tried
    alone = with_options(session.plan, {name: row})
    with torch.no_grad(), wb.live.apply(case.model, alone, session.checkpoint, tables=session.time_aware):
        expected = relative_error(case.run(0), exact)
    assert expected > 0
    assert found["measured"] == pytest.approx([expected], rel=1e-5)
    with torch.no_grad():
        assert torch.equal(case.run(0), exact)


def test_a_record_that_a_part_lacks_is_told_of_the_fused_layer(case: Case) -> None:
    source = next(name for name in case.records.layers if "to_k" in name)
    layers = {name: record for name, record in case.records.layers.items() if name != source}
    made_by = {**case.records.made_by, "missing": {source: "never called"}}
    records = type(case.records)(
        **{
            **{
                key: getattr(case.records, key)
                for key in ("fingerprint", "time", "steps", "step_calls", "buckets", "bucket_calls")
            },
            "layers": layers,
            "made_by": made_by,
        }
    )
    with open_checkpoint(case.folder) as checkpoint:
        original = originally_named(checkpoint)
        assert original is not None
        missing = records_for(records, original).missing(original)
        (name,) = missing
        assert "qkv" in name or "linear1" in name
        assert missing[name] == f"{source}: never called"
        assert records.missing(checkpoint) == {source: "never called"}


def test_a_plan_of_another_model_is_refused_under_both_names(
    case: Case, session: Session, sd3_model: Any, tmp_path: Path
) -> None:
    sd3_model(num_layers=3).save_pretrained(tmp_path / "other")
    with pytest.raises(ValidationError, match="made for another checkpoint"):
        wb.live.apply(case.model, session.plan, tmp_path / "other")
