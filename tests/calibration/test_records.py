"""Guards that records can be printed: what they are in two lines, and no arrays."""

from __future__ import annotations

import pytest

from workbench.calibration import CalibrationRecords


@pytest.mark.parametrize(
    ("model", "layers", "time"),
    [("zoo:digits-dit", 33, "timestep 49 to 999"), ("zoo:stdlib-mdlm", 37, "mask ratio 0.039")],
)
def test_records_print_as_two_lines(model: str, layers: int, time: str) -> None:
    records = CalibrationRecords.load(model)
    first, second = str(records).splitlines()
    assert f"{layers} layers" in first
    assert time in first
    assert all(estimator in second for estimator in records.estimators)
    assert max(len(first), len(second)) < 120
    assert repr(records) == str(records)
