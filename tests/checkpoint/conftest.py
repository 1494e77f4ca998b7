"""Checkpoints to read: real ones by the safetensors library, and raw bytes that it would never write."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a real safetensors file below tmp_path; tensors may be given as shapes."""

    def write(name: str, tensors: Mapping[str, Any], metadata: dict[str, str] | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        arrays = {
            key: np.asarray(rng.standard_normal(value), np.float32) if isinstance(value, tuple) else value
            for key, value in tensors.items()
        }
        save_file(arrays, path, metadata)
        return path

    return write


@pytest.fixture
def write_raw(tmp_path: Path) -> Callable[..., Path]:
    """Write a file with a header as given, JSON or bytes."""

    def write_raw(
        header: Mapping[str, Any] | bytes, data: bytes = b"", name: str = "raw.safetensors"
    ) -> Path:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        path = tmp_path / name
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
        return path

    return write_raw


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[..., Path]:
    """Write a JSON file below tmp_path."""

    def write_json(name: str, value: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
        return path

    return write_json
