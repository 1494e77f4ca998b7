"""Guards the table of arrowquant_api.md: defaults, profiles, precedence, and an error for everything else.

The bug to fear is silence: a misspelt key, a value of the wrong type or a variable that does not parse which
leaves the user with a default.
"""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.config import GROUP_SIZES, DiffusionQuantConfig, Profile
from workbench.errors import ArrowQuantError, ConfigurationError


@pytest.fixture(autouse=True)
def _no_stray_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.upper().startswith("ARROW_QUANT_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """Write the text of a YAML file."""

    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(build: Callable[[], object], **facts: Any) -> str:
    """The message of the error, whose attributes must be the facts and which must name them."""
    with pytest.raises(ConfigurationError) as caught:
        build()
    expected = {"path": None, "line": None, "variable": None, **facts}
    assert {name: getattr(caught.value, name) for name in expected} == expected
    message = str(caught.value)
    for name in ("key", "variable", "allowed", "path"):
        assert str(facts.get(name, "")) in message
    assert f", line {facts['line']}: " in message if "line" in facts else ", line" not in message
    return message


# The tables

PROFILES = {
    "bit_width": (2, 4, 8),
    "num_time_groups": (5, 10, 20),
    "group_size": (256, 128, 64),
    "min_accuracy": (0.65, 0.85, 0.95),
    "calibration_samples": (32, 128, 512),
    "enable_spatial": (False, True, True),
}

DEFAULTS: dict[str, Any] = {
    "deployment_profile": "local",
    "target": "parquet",
    "scheme": None,
    "effort": None,
    "names": None,
    "modality": None,
    "calibration": None,
    "enable_time_aware": True,
    "keep": (),
    "skip_sensitive_layers": False,
    "sensitive_layer_names": (),
    "sensitive_layer_patterns": (),
    "layer_bit_widths": {},
    "enable_mixed_precision": False,
    "target_model_size_mb": None,
    "enable_entropy_adaptation": False,
    "fail_fast": False,
    "num_threads": 0,
    "max_memory_limit_mb": None,
    "enable_streaming": True,
    "all_widths": False,
    "shard_size_mb": 5000.0,
}

FLAGS = [
    "enable_time_aware",
    "enable_spatial",
    "skip_sensitive_layers",
    "enable_mixed_precision",
    "enable_entropy_adaptation",
    "fail_fast",
    "enable_streaming",
    "all_widths",
]

ALLOWED: dict[str, list[Any]] = {
    "deployment_profile": ["edge", "local", "cloud"],
    "target": ["parquet", "gguf", "mlx", "compressed-tensors", "safetensors", None],
    "bit_width": [2, 3, 4, 5, 6, 7, 8],
    "num_time_groups": [1, 100],
    "group_size": [16, 32, 64, 128, 256],
    "scheme": ["asymmetric", "symmetric", None],
    "effort": ["fast", "normal", "best", None],
    "names": ["original", "checkpoint", None],
    "min_accuracy": [0, 0.5, 1],
    "modality": [None, "text", "code", "image", "audio"],
    "calibration": [None, "records.parquet"],
    "calibration_samples": [1, 10**6],
    "keep": [[], ["a.weight", "b.*", "role:head"]],
    "sensitive_layer_names": [[], ["a.weight", "b.weight"]],
    "sensitive_layer_patterns": [[], [r"^head\.", "emb|norm"]],
    "layer_bit_widths": [{}, {"a.weight": 2, "blocks.*": 8}],
    "target_model_size_mb": [None, 0.5, 1750],
    "shard_size_mb": [0.5, 2000.0],
    "num_threads": [0, 64],
    "max_memory_limit_mb": [None, 1.5, 4096],
    **{flag: [True, False] for flag in FLAGS},
}

REFUSED: dict[str, list[Any]] = {
    "deployment_profile": ["", "Edge", "none", None, 1],
    "target": ["", 1],
    "bit_width": [1, 9, 0, -4, 4.0, 4.5, "4", True, None, [4]],
    "num_time_groups": [0, 101, 10.0, "10", True, None],
    "group_size": [0, 8, 48, 512, 128.0, "128", True, None],
    "scheme": ["", "affine", True],
    "effort": ["", "slow", 1],
    "names": ["", "diffusers", 1],
    "min_accuracy": [-0.01, 1.01, float("nan"), float("inf"), "0.9", True, None],
    "modality": ["", "video", "None", 1, False],
    "calibration": ["", 5, False],
    "calibration_samples": [0, -1, 128.0, "128", True, None],
    "keep": [5, None, {"a": 1}],
    "sensitive_layer_names": ["a.weight", 5, None, {"a": 1}],
    "sensitive_layer_patterns": ["a.*", 5, None],
    "layer_bit_widths": [4, None, ["a"], "a"],
    "target_model_size_mb": [0, -1, float("nan"), float("inf"), "100", True],
    "shard_size_mb": [0, -1, float("nan"), float("inf"), "100", True, None],
    "num_threads": [-1, 1.0, "2", True, None],
    "max_memory_limit_mb": [0, -1, float("nan"), float("inf"), "100", True],
    **{flag: [0, 1, "true", "yes", None] for flag in FLAGS},
}


def rows(table: dict[str, list[Any]]) -> list[Any]:
    return [pytest.param(key, value, id=f"{key}={value!r}") for key in table for value in table[key]]


def test_the_tables_name_every_field() -> None:
    fields = set(DiffusionQuantConfig.model_fields)
    assert fields == set(PROFILES) | set(DEFAULTS) == set(ALLOWED) == set(REFUSED)
    assert ALLOWED["group_size"] == list(GROUP_SIZES)


@pytest.mark.parametrize("key", DEFAULTS)
@pytest.mark.parametrize("profile", ["edge", "local", "cloud"])
def test_defaults_are_the_same_in_every_profile(key: str, profile: Profile) -> None:
    expected = profile if key == "deployment_profile" else DEFAULTS[key]
    assert getattr(DiffusionQuantConfig.from_profile(profile), key) == expected


@pytest.mark.parametrize("key", PROFILES)
def test_profiles(key: str) -> None:
    profiles: tuple[Profile, ...] = ("edge", "local", "cloud")
    assert tuple(getattr(DiffusionQuantConfig.from_profile(name), key) for name in profiles) == PROFILES[key]
    assert getattr(DiffusionQuantConfig(), key) == PROFILES[key][1]


@pytest.mark.parametrize(("key", "value"), rows(ALLOWED))
def test_allowed_values(key: str, value: Any, file: Callable[[str], Path]) -> None:
    expected = tuple(value) if isinstance(value, list) else value
    assert getattr(DiffusionQuantConfig(**{key: value}), key) == expected
    assert getattr(DiffusionQuantConfig.from_yaml(file(yaml.safe_dump({key: value}))), key) == expected


@pytest.mark.parametrize(("key", "value"), rows(REFUSED))
def test_refused_values(key: str, value: Any, file: Callable[[str], Path]) -> None:
    allowed = DiffusionQuantConfig.model_fields[key].description
    facts = {"key": key, "value": pytest.approx(value, nan_ok=True) if value != value else value}
    message = refused(lambda: DiffusionQuantConfig(**{key: value}), **facts, allowed=allowed)
    assert message == f"{key} is {value!r}; {message.split('; ', 1)[1]}"

    path = file("# a comment first\n" + yaml.safe_dump({key: value}))
    refused(lambda: DiffusionQuantConfig.from_yaml(path), **facts, allowed=allowed, path=path, line=2)


@pytest.mark.parametrize(
    "key", ["scheme", "modality", "calibration", "target_model_size_mb", "max_memory_limit_mb"]
)
def test_none_may_be_spelt_as_the_documentation_does(
    key: str, file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    spelt: dict[str, Any] = {key: "none"}
    assert getattr(DiffusionQuantConfig(**spelt), key) is None
    assert getattr(DiffusionQuantConfig.from_yaml(file(f"{key}: none")), key) is None
    assert getattr(DiffusionQuantConfig.from_yaml(file(f"{key}: null")), key) is None
    monkeypatch.setenv(f"ARROW_QUANT_{key.upper()}", "none")
    assert getattr(DiffusionQuantConfig(), key) is None


# Precedence: arguments > environment > YAML > profile > defaults


def test_arguments_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROW_QUANT_BIT_WIDTH", "3")
    assert DiffusionQuantConfig().bit_width == 3
    assert DiffusionQuantConfig(bit_width=5).bit_width == 5
    assert DiffusionQuantConfig.from_profile("edge", bit_width=5).bit_width == 5


def test_the_environment_overrides_yaml(file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = file("bit_width: 6\nnum_threads: 2\n")
    monkeypatch.setenv("ARROW_QUANT_BIT_WIDTH", "3")
    read = DiffusionQuantConfig.from_yaml(path)
    assert (read.bit_width, read.num_threads) == (3, 2)
    assert DiffusionQuantConfig.from_yaml(path, bit_width=5).bit_width == 5


def test_yaml_overrides_the_profile(file: Callable[[str], Path]) -> None:
    read = DiffusionQuantConfig.from_yaml(file("bit_width: 6\ndeployment_profile: cloud\n"))
    assert (read.bit_width, read.group_size) == (6, 64)


def test_the_profile_overrides_the_defaults_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROW_QUANT_BIT_WIDTH", "3")
    edge = DiffusionQuantConfig.from_profile("edge")
    assert (edge.bit_width, edge.group_size) == (3, 256)


def test_the_profile_itself_may_come_from_any_source(
    file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file("deployment_profile: cloud\n")
    assert DiffusionQuantConfig.from_yaml(path).bit_width == 8
    monkeypatch.setenv("ARROW_QUANT_DEPLOYMENT_PROFILE", "edge")
    assert DiffusionQuantConfig.from_yaml(path).bit_width == 2
    assert DiffusionQuantConfig.from_yaml(path, deployment_profile="local").bit_width == 4


def test_an_argument_equal_to_the_default_still_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROW_QUANT_BIT_WIDTH", "3")
    assert DiffusionQuantConfig.from_profile("cloud", bit_width=4).bit_width == 4


def test_an_overridden_value_is_checked_all_the_same(
    file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file("bit_width: 9\n")
    refused(
        lambda: DiffusionQuantConfig.from_yaml(path, bit_width=4), key="bit_width", value=9, path=path, line=1
    )
    monkeypatch.setenv("ARROW_QUANT_BIT_WIDTH", "four")
    refused(
        lambda: DiffusionQuantConfig(bit_width=4),
        key="bit_width",
        value="four",
        variable="ARROW_QUANT_BIT_WIDTH",
    )


# The environment


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("BIT_WIDTH", "3", 3),
        ("GROUP_SIZE", "32", 32),
        ("MIN_ACCURACY", "0.5", 0.5),
        ("SCHEME", "symmetric", "symmetric"),
        ("MODALITY", "image", "image"),
        ("CALIBRATION", "records.parquet", "records.parquet"),
        ("MAX_MEMORY_LIMIT_MB", "1e3", 1000.0),
        *(("ENABLE_STREAMING", text, True) for text in ("true", "True", "1", "yes", "on")),
        *(("ENABLE_STREAMING", text, False) for text in ("false", "FALSE", "0", "no", "off")),
        ("SENSITIVE_LAYER_NAMES", '["a", "b"]', ("a", "b")),
        ("SENSITIVE_LAYER_PATTERNS", '["^a"]', ("^a",)),
        ("LAYER_BIT_WIDTHS", '{"a": 4, "b*": 2}', {"a": 4, "b*": 2}),
    ],
)
def test_environment(variable: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ARROW_QUANT_{variable}", text)
    assert getattr(DiffusionQuantConfig(), variable.lower()) == value


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("bit_width", "four"),
        ("bit_width", ""),
        ("bit_width", "4.5"),
        ("bit_width", "9"),
        ("group_size", "48"),
        ("min_accuracy", "nan"),
        ("enable_streaming", "maybe"),
        ("max_memory_limit_mb", "1 GB"),
    ],
)
def test_environment_that_does_not_parse(key: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"ARROW_QUANT_{key.upper()}"
    monkeypatch.setenv(variable, text)
    allowed = DiffusionQuantConfig.model_fields[key].description
    message = refused(DiffusionQuantConfig, key=key, value=text, variable=variable, allowed=allowed)
    assert repr(text) in message


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("sensitive_layer_names", "a,b", "a,b"),
        ("sensitive_layer_names", '"a"', "a"),
        ("sensitive_layer_names", '["a", 5]', 5),
        ("layer_bit_widths", "a=4", "a=4"),
        ("layer_bit_widths", '{"a": 4, "a": 8}', '{"a": 4, "a": 8}'),
        ("layer_bit_widths", '{"a": "4"}', "4"),
        ("layer_bit_widths", "[" * 100_000, "[" * 100_000),
    ],
    ids=["comma list", "a string", "a number in it", "equals sign", "twice", "bits as text", "nested"],
)
def test_environment_collections_are_json(
    key: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"ARROW_QUANT_{key.upper()}"
    monkeypatch.setenv(variable, text)
    message = refused(DiffusionQuantConfig, key=key, value=value, variable=variable)
    assert message.endswith("as JSON")


@pytest.mark.parametrize(
    "variable", ["ARROW_QUANT_BITWIDTH", "ARROW_QUANT_bit_width", "arrow_quant_bit_width"]
)
def test_unknown_variables_are_not_silent(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "3")
    message = refused(DiffusionQuantConfig, key=variable, value="3", variable=variable)
    assert "did you mean ARROW_QUANT_BIT_WIDTH?" in message


def test_other_programs_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROW_QUANTITY", "3")
    monkeypatch.setenv("BIT_WIDTH", "3")
    assert DiffusionQuantConfig() == DiffusionQuantConfig.from_profile("local")


# Keys and entries


def test_unknown_keys_suggest_the_nearest(file: Callable[[str], Path]) -> None:
    message = refused(lambda: DiffusionQuantConfig(bit_widht=3), key="bit_widht", value=3)  # type: ignore[call-arg]
    assert "(given 3); did you mean bit_width?" in message
    path = file("num_threads: 1\ngroupsize: 64\n")
    message = refused(
        lambda: DiffusionQuantConfig.from_yaml(path), key="groupsize", value=64, path=path, line=2
    )
    assert "did you mean group_size?" in message
    assert "known are deployment_profile, target," in refused(
        lambda: DiffusionQuantConfig.from_profile("edge", zzz=1), key="zzz", value=1
    )


@pytest.mark.parametrize(
    ("text", "key", "value", "line", "words"),
    [
        ("layer_bit_widths:\n  a: 4\n  'b*': 9\n", "layer_bit_widths", 9, 3, "layer_bit_widths['b*'] is 9"),
        ("layer_bit_widths:\n  a: 4\n  5: 4\n", "layer_bit_widths", 5, 3, "layer_bit_widths[5]"),
        (
            "sensitive_layer_names:\n- a\n- 5\n",
            "sensitive_layer_names",
            5,
            3,
            "sensitive_layer_names[1] is 5",
        ),
        (
            "sensitive_layer_patterns:\n- a\n- '('\n",
            "sensitive_layer_patterns",
            "(",
            3,
            "unterminated subpattern",
        ),
        ("sensitive_layer_patterns: ['*a']\n", "sensitive_layer_patterns", "*a", 1, "nothing to repeat"),
        (
            "sensitive_layer_patterns: ['a{9999999999}']",
            "sensitive_layer_patterns",
            "a{9999999999}",
            1,
            "too large",
        ),
    ],
)
def test_an_entry_is_named_with_its_own_line(
    text: str, key: str, value: object, line: int, words: str, file: Callable[[str], Path]
) -> None:
    path = file(text)
    message = refused(
        lambda: DiffusionQuantConfig.from_yaml(path), key=key, value=value, path=path, line=line
    )
    assert words in message


def test_a_long_value_does_not_drown_the_message() -> None:
    message = refused(lambda: DiffusionQuantConfig(bit_width="4" * 10_000), key="bit_width")  # type: ignore[arg-type]
    assert len(message) < 200


# Files


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("bit_width: [\n", 2),
        ("num_threads: 1\nbit_width:\t3: 4\n", 2),
        ("num_threads: 1\nbit_width: 3\nbit_width: 3\n", 3),
        ("layer_bit_widths:\n  a: 3\n  b: 3\n  a: 3\n", 4),
        ("- bit_width\n", 1),
        ("bit_width\n", 1),
        ("\n[bit_width]: 3\n", 2),
        ("num_threads: 1\nbit_width: \x01\n", 2),
        ("num_threads: 1\n---\nbit_width: 3\n", 2),
        ("bit_width: *b\n", 1),
        ("sensitive_layer_names: &a [*a]\n", 1),
        ("\nbit_width: !!int four\n", 2),
        ("\nbit_width: 2020-99-99\n", 2),
        ("\nfail_fast: !!bool perhaps\n", 2),
    ],
)
def test_malformed_yaml(text: str, line: int, file: Callable[[str], Path]) -> None:
    path = file(text)
    with pytest.raises(ConfigurationError, match=f"^{re.escape(str(path))}, line {line}: ") as caught:
        DiffusionQuantConfig.from_yaml(path)
    assert (caught.value.path, caught.value.line) == (path, line)


def test_yaml_runs_no_code(file: Callable[[str], Path], tmp_path: Path) -> None:
    path = file(f"target: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    with pytest.raises(ConfigurationError, match=r"line 1: target is not plain YAML: .*python/object/apply"):
        DiffusionQuantConfig.from_yaml(path)
    assert not (tmp_path / "made").exists()


def test_files_that_cannot_be_read(tmp_path: Path, file: Callable[[str], Path]) -> None:
    missing = tmp_path / "missing.yaml"
    assert "No such file" in refused(lambda: DiffusionQuantConfig.from_yaml(missing), path=missing)
    assert "directory" in refused(lambda: DiffusionQuantConfig.from_yaml(tmp_path), path=tmp_path)
    nested = file("sensitive_layer_names: " + "[" * 5000)
    assert "nested too deeply" in refused(lambda: DiffusionQuantConfig.from_yaml(nested), path=nested)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("num_threads: 1\n# größer\n".encode("latin-1"))
    refused(lambda: DiffusionQuantConfig.from_yaml(latin), path=latin, line=2)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\ufeffbit_width: 4\n"])
def test_a_file_that_says_nothing_gives_the_defaults(text: str, file: Callable[[str], Path]) -> None:
    assert DiffusionQuantConfig.from_yaml(file(text)) == DiffusionQuantConfig()


def test_the_file_written_is_for_people(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    DiffusionQuantConfig.from_profile("edge", layer_bit_widths={"head.*": 8}).to_yaml(str(path))
    text = path.read_text()
    assert text.startswith("# ")
    assert list(yaml.safe_load(text)) == list(DiffusionQuantConfig.model_fields)
    assert "bit_width: 2\n" in text
    assert "modality: none\n" in text
    assert "layer_bit_widths:\n  head.*: 8\n" in text


def test_every_default_is_written_and_has_its_engine(tmp_path: Path) -> None:
    DiffusionQuantConfig().to_yaml(tmp_path / "config.yaml")
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert set(written) == set(DiffusionQuantConfig.model_fields)
    assert written["enable_spatial"] is True
    assert DiffusionQuantConfig.from_yaml(tmp_path / "config.yaml") == DiffusionQuantConfig()


def test_writing_replaces_the_file_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("bit_width: 3\n")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full_disk)
        message = refused(lambda: DiffusionQuantConfig().to_yaml(path, overwrite=True), path=path)
        assert "cannot be written: No space left" in message
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]
    assert path.read_text() == "bit_width: 3\n"
    DiffusionQuantConfig().to_yaml(path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]
    for wrong in (tmp_path / "missing" / "config.yaml", path / "config.yaml"):
        refused(lambda wrong=wrong: DiffusionQuantConfig().to_yaml(wrong), path=wrong)  # type: ignore[misc]


_names = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() or "\n" in text)
_size = st.none() | st.floats(min_value=0, exclude_min=True, allow_infinity=False) | st.integers(1, 10**9)

_configs = st.builds(
    DiffusionQuantConfig,
    deployment_profile=st.sampled_from(["edge", "local", "cloud"]),
    bit_width=st.integers(2, 8),
    num_time_groups=st.integers(1, 100),
    group_size=st.sampled_from(GROUP_SIZES),
    scheme=st.sampled_from(["asymmetric", "symmetric", None]),
    min_accuracy=st.floats(0, 1) | st.integers(0, 1),
    fail_fast=st.booleans(),
    modality=st.sampled_from([None, "text", "code", "image", "audio"]),
    calibration_samples=st.integers(1),
    enable_time_aware=st.booleans(),
    enable_spatial=st.booleans(),
    skip_sensitive_layers=st.booleans(),
    sensitive_layer_names=st.lists(_names),
    sensitive_layer_patterns=st.lists(_names.map(re.escape)),
    layer_bit_widths=st.dictionaries(_names, st.integers(2, 8)),
    enable_mixed_precision=st.booleans(),
    target_model_size_mb=_size,
    num_threads=st.integers(0),
    max_memory_limit_mb=_size,
    enable_streaming=st.booleans(),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(config=_configs)
def test_yaml_round_trip(config: DiffusionQuantConfig, tmp_path: Path) -> None:
    config.to_yaml(tmp_path / "config.yaml", overwrite=True)
    read = DiffusionQuantConfig.from_yaml(tmp_path / "config.yaml")
    assert read == config
    assert list(read.layer_bit_widths) == list(config.layer_bit_widths)  # the order decides between globs


# Settings that change nothing, or exclude each other


def test_what_is_on_but_changes_nothing_is_reported() -> None:
    assert DiffusionQuantConfig().inactive == {
        "enable_time_aware": "there is no calibration",
        "enable_spatial": "there is no calibration",
    }
    assert DiffusionQuantConfig(calibration="records.parquet").inactive == {}
    for key in ("enable_time_aware", "enable_spatial"):  # one of them is enough to use a calibration
        off: dict[str, Any] = {key: False}
        assert DiffusionQuantConfig(calibration="records.parquet", **off).inactive == {}
    neither = DiffusionQuantConfig(calibration="a", enable_time_aware=False, enable_spatial=False).inactive
    assert neither == {"calibration": "enable_time_aware and enable_spatial are false"}
    assert set(DiffusionQuantConfig.from_profile("edge").inactive) == {"enable_time_aware"}
    assert DiffusionQuantConfig(enable_time_aware=False, enable_spatial=False).inactive == {}
    named = DiffusionQuantConfig.from_profile("edge", sensitive_layer_names=["a"], enable_time_aware=False)
    assert named.inactive == {"sensitive_layer_names": "skip_sensitive_layers is false"}
    quiet: dict[str, Any] = {"enable_time_aware": False, "enable_spatial": False}
    assert DiffusionQuantConfig(target_model_size_mb=100, **quiet).inactive == {
        "target_model_size_mb": "enable_mixed_precision is false"
    }
    assert DiffusionQuantConfig(enable_mixed_precision=True, fail_fast=True, **quiet).inactive == {
        "fail_fast": "with enable_mixed_precision no layer falls back"
    }
    solved = DiffusionQuantConfig(enable_mixed_precision=True, target_model_size_mb=100, **quiet)
    assert solved.inactive == {}
    for profile in ("edge", "local", "cloud"):
        assert "calibration_samples" not in DiffusionQuantConfig(deployment_profile=profile).inactive
        assert DiffusionQuantConfig(deployment_profile=profile, calibration_samples=64, **quiet).inactive == {
            "calibration_samples": "calibration records hold the samples that they were captured with"
        }


def test_only_one_of_solver_and_entropy_rule_chooses_the_bits(
    file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    both: dict[str, Any] = {"enable_mixed_precision": True, "enable_entropy_adaptation": True}
    facts: dict[str, Any] = {"key": "enable_entropy_adaptation", "allowed": "false"}
    message = refused(lambda: DiffusionQuantConfig(**both), value=True, **facts)
    assert "while enable_mixed_precision is on" in message
    path = file("enable_entropy_adaptation: true\nenable_mixed_precision: true\n")
    refused(lambda: DiffusionQuantConfig.from_yaml(path), value=True, path=path, line=1, **facts)
    assert DiffusionQuantConfig.from_yaml(path, enable_entropy_adaptation=False).enable_mixed_precision
    variable = "ARROW_QUANT_ENABLE_ENTROPY_ADAPTATION"
    monkeypatch.setenv(variable, "true")
    refused(
        lambda: DiffusionQuantConfig(enable_mixed_precision=True), value="true", variable=variable, **facts
    )
    assert DiffusionQuantConfig().enable_entropy_adaptation


# Layers


def test_bits_for_prefers_the_exact_name_then_the_first_glob() -> None:
    widths = {"blocks.*": 3, "blocks.0.*": 5, "blocks.0.to_q.weight": 8, "Head*": 6, "a[0]": 7}
    config = DiffusionQuantConfig(layer_bit_widths=widths)
    assert config.bits_for("blocks.0.to_q.weight") == 8
    assert config.bits_for("blocks.0.to_k.weight") == 3
    assert config.bits_for("head.weight") == 4
    assert config.bits_for("a[0]") == 7
    assert config.bits_for("a0") == 7
    named = ("blocks.0.to_q.weight", "blocks.0.to_k.weight", "head.weight")
    assert [config.bits_named(name) for name in named] == [8, 3, None]


def test_names_sensitive_matches_names_whole_and_patterns_anywhere() -> None:
    config = DiffusionQuantConfig(
        sensitive_layer_names=["head.weight"], sensitive_layer_patterns=["emb", "^x"]
    )
    assert config.names_sensitive("head.weight")
    assert config.names_sensitive("time_embed.weight")
    assert not config.names_sensitive("my.head.weight")
    assert not config.names_sensitive("a.x")


# A value


def test_a_configuration_is_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    given = OrderedDict(a=3)
    config = DiffusionQuantConfig(layer_bit_widths=given, sensitive_layer_names=["a"])
    given["b"] = 9
    assert type(config.layer_bit_widths) is dict
    assert config.layer_bit_widths == {"a": 3}
    with pytest.raises(ValueError, match="frozen"):
        config.bit_width = 2
    monkeypatch.setenv("ARROW_QUANT_BIT_WIDTH", "3")  # a copy is the same configuration, not a new one
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config  # noqa: S301
    assert DiffusionQuantConfig.model_validate(config) is config


def test_every_error_is_an_arrowquant_error() -> None:
    with pytest.raises(ArrowQuantError):
        DiffusionQuantConfig(bit_width=1)


def test_the_import_stays_light() -> None:
    code = "import sys, workbench.config; print({'numpy', 'pyarrow', 'torch'} & {*sys.modules})"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert run.stdout == "set()\n"


def test_one_layer_to_keep_needs_no_list() -> None:
    config = DiffusionQuantConfig(keep="a.*")
    assert config.keep == ("a.*",)
    assert config.keeps("a.weight", "other")
    assert not config.keeps("b.weight", "other")
    assert DiffusionQuantConfig(keep=["role:head"]).keeps("b.weight", "head")
