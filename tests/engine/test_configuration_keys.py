"""No key of the configuration is left unread: a run reads it, or is told that it changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

import workbench as wb
from workbench.checkpoint import open_checkpoint
from workbench.config import GROUP_SIZES, Scheme
from workbench.formats import target_named
from workbench.plan import KEEP

PACKAGE = str(Path(wb.__file__).parent)
KEYS = tuple(wb.DiffusionQuantConfig.model_fields)
ONLY_TELL = ("inactive", "to_yaml")
"""Functions that read keys and do nothing by them."""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The keys that the package has read since."""
    found: set[str] = set()
    get = wb.DiffusionQuantConfig.__getattribute__

    def watched(self: Any, name: str) -> Any:
        if name in KEYS:
            code = sys._getframe(1).f_code
            if code.co_filename.startswith(PACKAGE) and code.co_name not in ONLY_TELL:
                found.add(name)
        return get(self, name)

    monkeypatch.setattr(wb.DiffusionQuantConfig, "__getattribute__", watched)
    return found


def run(source: str | Path, output: Path, **settings: Any) -> None:
    wb.DiffusionOrchestrator(wb.DiffusionQuantConfig(**settings)).run(source, output)


def test_every_key_is_read_or_said_to_change_nothing(
    make_checkpoint: Callable[..., Path], tmp_path: Path, read: set[str]
) -> None:
    source = make_checkpoint()
    run(source, tmp_path / "plain", min_accuracy=0.0)
    with pytest.raises(wb.QuantizationError):
        run(source, tmp_path / "inaccurate", min_accuracy=1.0, fail_fast=True)
    calibrated: dict[str, Any] = {"calibration": "zoo:digits-dit", "enable_spatial": False}
    run(
        "zoo:digits-dit", tmp_path / "solved", target="mlx", enable_mixed_precision=True, min_accuracy=0.0,
        target_model_size_mb=2.2, **calibrated,
    )  # fmt: skip
    unread = set(KEYS) - read
    assert unread == {"calibration_samples"}
    for key in unread:
        usual = wb.DiffusionQuantConfig.model_fields[key].default
        assert key in wb.DiffusionQuantConfig(**{key: usual + 1}).inactive


def test_the_choices_are_what_there_is(make_checkpoint: Callable[..., Path]) -> None:
    with open_checkpoint(make_checkpoint()) as checkpoint:
        options = target_named("parquet").options(checkpoint.layers[0])
    assert {option.scheme for option in options} == {*get_args(Scheme), KEEP}
    assert {option.group_size for option in options if not option.is_kept} == set(GROUP_SIZES)
    for bits in {option.bits for option in options if not option.is_kept}:
        assert wb.DiffusionQuantConfig(bit_width=bits).bit_width == bits
