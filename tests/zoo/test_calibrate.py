"""Guards the script that makes the calibration file of digits-dit: its records fit, are complete and the same again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workbench import zoo
from workbench.calibration import CalibrationRecords
from workbench.checkpoint import open_checkpoint
from workbench.zoo.digits_dit.calibrate import main


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_script_writes_records_of_every_layer(tmp_path: Path) -> None:
    paths = [tmp_path / "one.parquet", tmp_path / "again.parquet"]
    for path in paths:
        main(["--out", str(path), "--steps", "3", "--batch", "2", "--runs", "1"])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    records = CalibrationRecords.load(paths[0])
    with open_checkpoint(str(zoo.locate("digits-dit"))) as checkpoint:
        records.check_fit(checkpoint)
        assert list(records.layers) == [layer.name for layer in checkpoint.layers]
    assert records.estimators == ("fisher:step", "fisher:trajectory")
    assert len(records.buckets) == 3
    for record in records.layers.values():
        for values in record.sensitivity.values():
            assert (values >= 0).all()
            assert np.isfinite(values).all()
            assert values.sum() > 0
