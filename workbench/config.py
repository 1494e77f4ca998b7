"""`DiffusionQuantConfig`: the settings of a quantization run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from workbench.config_sources import Given, Places, did_you_mean, environment_values, yaml_values
from workbench.errors import ConfigurationError
from workbench.layer_names import matching
from workbench.text_file import FileKind, write_text

Profile = Literal["edge", "local", "cloud"]
"""Where the quantized model is to run."""

Scheme = Literal["asymmetric", "symmetric"]
"""Whether a group has a zero point or only a scale."""

Effort = Literal["fast", "normal", "best"]
"""How hard to look for good codes."""

Names = Literal["original", "checkpoint"]
"""What layers and tensors are called: as in the original single-file checkpoint, or as in the files given."""

NAMES: Final[tuple[str, ...]] = get_args(Names)
"""The choices of names."""

EFFORTS: Final[tuple[str, ...]] = get_args(Effort)
"""The efforts, the least first."""

GROUP_SIZES: Final = (16, 32, 64, 128, 256)
"""The group sizes a configuration may ask for."""

_PREFIX = "ARROW_QUANT_"

_PROFILES: Mapping[str, Mapping[str, Any]] = {
    "edge": {
        "bit_width": 2, "num_time_groups": 5, "group_size": 256, "min_accuracy": 0.65,
        "calibration_samples": 32, "enable_spatial": False,
    },
    "local": {},
    "cloud": {
        "bit_width": 8, "num_time_groups": 20, "group_size": 64, "min_accuracy": 0.95,
        "calibration_samples": 512,
    },
}  # fmt: skip
"""What a profile changes in the fields' own defaults, which are those of ``local``."""

_HEADER = f"""\
# DiffusionQuantConfig of ArrowQuant Workbench. Arguments and the environment ({_PREFIX}<KEY>)
# override this file; a key left out takes its value from deployment_profile.
"""


def _none_by_name(value: Any) -> Any:
    return None if value == "none" else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _path_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _group_size(value: int) -> int:
    if value not in GROUP_SIZES:
        raise ValueError("not a group size")
    return value


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"does not compile: {error}") from error
    return value


# A description is what an error says is allowed.
_Flag = Annotated[bool, Field(description="true or false")]
_Bits = Annotated[int, Field(ge=2, le=8, description="a whole number from 2 to 8")]
_Scheme = Annotated[
    Scheme | None, BeforeValidator(_none_by_name), Field(description="asymmetric, symmetric or none")
]
_Name = Annotated[str, Field(min_length=1)]
_Megabytes = Annotated[
    Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
    BeforeValidator(_none_by_name),
    Field(description="a number of megabytes (10^6 bytes) above 0, or none"),
]


class DiffusionQuantConfig(BaseModel):
    """The settings of a quantization run; immutable.

    A setting is taken from the first of these that gives it: the arguments, the environment
    (``ARROW_QUANT_BIT_WIDTH=4``; lists and mappings as JSON), the YAML file, the deployment profile, the
    defaults below. Every given value is checked, also one that is overridden.

    Raises
    ------
    ConfigurationError
        For an unknown key or variable, a wrong type, a value that is not allowed or whose engine does not
        exist yet, a malformed file. Its attributes ``key``, ``value``, ``allowed``, ``path``, ``line`` and
        ``variable`` are None where they do not apply.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    _places: Places = PrivateAttr(default_factory=Places)

    deployment_profile: Annotated[Profile, Field(description="edge, local or cloud")] = "local"
    """Selects the defaults of other fields: ``edge`` is smallest, ``cloud`` most faithful."""
    target: Annotated[
        _Name | None,
        BeforeValidator(_none_by_name),
        Field(description="the name of an export format, or none"),
    ] = "parquet"
    """Export format, see `workbench.formats.formats`; whether there is one of the name is checked when a checkpoint is
    opened. None is the one that the usual runtime of the model's family loads, see
    `workbench.formats.loading.best_target`; the command line has it so where nothing is said."""
    bit_width: _Bits = 4
    """Bits per weight, where ``layer_bit_widths`` says nothing else. 2 on edge, 8 on cloud."""
    num_time_groups: Annotated[int, Field(ge=1, le=100, description="a whole number from 1 to 100")] = 10
    """Groups into which the denoising steps are taken together. 5 on edge, 20 on cloud."""
    group_size: Annotated[
        int, AfterValidator(_group_size), Field(description=", ".join(map(str, GROUP_SIZES)))
    ] = 128
    """Consecutive weights along the input axis that share a scale. 256 on edge, 64 on cloud.

    It and ``scheme`` go with every width that is named; ``enable_mixed_precision`` chooses among all there are."""
    scheme: _Scheme = None
    """Whether a group has a zero point (asymmetric) or only a scale (symmetric). None is symmetric for
    compressed-tensors, as transformers loads it, and asymmetric for the others. compressed-tensors has asymmetric
    options, also to solve among, only where it is said here."""
    all_widths: _Flag = False
    """Offer widths too that only newer versions of a format's runtimes read right: 3, 5, 6 and 7 bits of
    compressed-tensors, which need its version 0.18."""
    shard_size_mb: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="a number of megabytes (10^6 bytes) above 0")
    ] = 5000.0
    """Tensor data in MB (10^6 bytes) after which a safetensors file is closed and another begun; with more than one
    comes an index. Dequantized safetensors are divided as the source is."""
    effort: Annotated[
        Effort | None, BeforeValidator(_none_by_name), Field(description="fast, normal, best or none")
    ] = None
    """How hard to look for good codes: ``fast`` is min-max, the others search for less error in the same format,
    weighed by the calibration where there is one. None is ``normal`` for GGUF, ``fast`` for the others."""
    names: Annotated[
        Names | None, BeforeValidator(_none_by_name), Field(description="original, checkpoint or none")
    ] = None
    """What layers and tensors are called. ``original`` is as in the single-file checkpoint that a diffusers folder was
    converted from (Flux, SD3, Wan, HunyuanVideo, AuraFlow), with query, key and value fused, as ComfyUI and
    stable-diffusion.cpp read them; ``checkpoint`` is as in the files. None is ``original`` for GGUF where it is known,
    ``checkpoint`` otherwise."""
    min_accuracy: Annotated[
        float, Field(ge=0, le=1, allow_inf_nan=False, description="a number from 0 to 1")
    ] = 0.85
    """Least cosine between a layer's weights and what is decoded. 0.65 on edge, 0.95 on cloud."""
    fail_fast: _Flag = False
    """Raise where a layer is under ``min_accuracy`` instead of falling back to more bits; a large layer whose sample
    was not is found out when it is read back."""
    modality: Annotated[
        Literal["text", "code", "image", "audio"] | None,
        BeforeValidator(_none_by_name),
        Field(description="text, code, image, audio or none"),
    ] = None
    """What the model generates; None detects it."""
    calibration: Annotated[
        _Name | None,
        BeforeValidator(_none_by_name),
        BeforeValidator(_path_text),
        Field(description="the path of calibration records, or none"),
    ] = None
    """Path of calibration records, or ``zoo:NAME`` for those that ship with a model of the zoo."""
    calibration_samples: Annotated[int, Field(ge=1, description="a whole number from 1")] = 128
    """Samples that a calibration is to be made with; no run makes one, see `inactive`. 32 on edge, 512 on cloud."""
    enable_time_aware: _Flag = True
    """Use the calibration by time group; see `inactive`."""
    enable_spatial: _Flag = True
    """Equalise channels where an exact fold exists and helps, by the calibration. Off on edge; see `inactive`."""
    keep: Annotated[
        Sequence[_Name],
        BeforeValidator(_listed),
        AfterValidator(tuple),
        Field(description="a name, or a list of names, globs or roles such as role:head"),
    ] = ()
    """Layers to keep in their source dtype: names, globs, or globs on roles after ``role:``; a tuple. Their weights
    may be NaN or Inf."""
    skip_sensitive_layers: _Flag = False
    """Keep sensitive layers in source precision."""
    sensitive_layer_names: Annotated[
        Sequence[_Name], AfterValidator(tuple), Field(description="a list of tensor names")
    ] = ()
    """Layers to count as sensitive, by exact name; a tuple."""
    sensitive_layer_patterns: Annotated[
        Sequence[Annotated[_Name, AfterValidator(_regular_expression)]],
        AfterValidator(tuple),
        Field(description="a list of regular expressions"),
    ] = ()
    """Layers to count as sensitive, by regular expressions found anywhere in the name; a tuple."""
    layer_bit_widths: Annotated[
        Mapping[_Name, _Bits],
        Field(description="a mapping of layer names or globs to whole numbers from 2 to 8"),
    ] = {}
    """Bits per weight of layers, by exact name or glob; see `bits_for`."""
    enable_mixed_precision: _Flag = False
    """Solve for each layer's bits within ``target_model_size_mb``, or the bytes of uniform ``bit_width``.

    Layers of ``layer_bit_widths`` stay at their width, sensitive ones in source precision if
    ``skip_sensitive_layers`` says so; every other layer reaches ``min_accuracy``. There is no fallback."""
    target_model_size_mb: _Megabytes = None
    """Budget of the payload in MB (10^6 bytes); see `inactive`."""
    enable_entropy_adaptation: _Flag = False
    """Choose bits by ArrowQuant V2's rule on the normalised histogram entropy, where ``layer_bit_widths`` says
    nothing else. Excludes ``enable_mixed_precision``."""
    num_threads: Annotated[
        int, Field(ge=0, description="a whole number from 0, where 0 keeps all cores busy")
    ] = 0
    """Worker threads; 0 = one more than there are cores, since one may wait for the disk."""
    max_memory_limit_mb: _Megabytes = None
    """Bound of the working memory in MB (10^6 bytes); None sizes blocks to 1 GB in all."""
    enable_streaming: _Flag = True
    """Read tensors in blocks of rows; False reads whole tensors."""

    @classmethod
    def from_profile(cls, profile: Profile, **overrides: Any) -> Self:
        """Configuration of a deployment profile; overrides are arguments."""
        return cls(deployment_profile=profile, **overrides)

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], **overrides: Any) -> Self:
        """Configuration of a YAML file; overrides are arguments."""
        return cls.model_validate(overrides, context=Path(path))

    def to_yaml(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write all keys to a YAML file, in one step: `from_yaml` gives an equal configuration.

        With `overwrite` it replaces the configuration that is there; another file it never replaces.
        """
        text = _HEADER
        for key in type(self).model_fields:
            value = getattr(self, key)
            plain = "none" if value is None else list(value) if isinstance(value, tuple) else value
            text += yaml.safe_dump({key: plain}, sort_keys=False, allow_unicode=True, width=float("inf"))
        write_text(path, text, _CONFIG_FILE, overwrite=overwrite)

    def given(self, key: str) -> Given:
        """The value of a setting with the place that it comes from, for what is wrong with it only later."""
        return self._places.get(key) or Given(key, getattr(self, key))

    @property
    def inactive(self) -> dict[str, str]:
        """Keys that are set but change nothing in this run, each with the reason."""
        reasons = {}
        if self.calibration is None:
            for key in ("enable_time_aware", "enable_spatial"):
                if getattr(self, key):
                    reasons[key] = "there is no calibration"
        elif not self.enable_time_aware and not self.enable_spatial:
            reasons["calibration"] = "enable_time_aware and enable_spatial are false"
        if not self.skip_sensitive_layers:
            for key in ("sensitive_layer_names", "sensitive_layer_patterns"):
                if getattr(self, key):
                    reasons[key] = "skip_sensitive_layers is false"
        if not self.enable_mixed_precision and self.target_model_size_mb is not None:
            reasons["target_model_size_mb"] = "enable_mixed_precision is false"
        if self.enable_mixed_precision and self.fail_fast:
            reasons["fail_fast"] = "with enable_mixed_precision no layer falls back"
        usual = _PROFILES[self.deployment_profile].get("calibration_samples", 128)
        if self.calibration_samples != usual:
            reasons["calibration_samples"] = (
                "calibration records hold the samples that they were captured with"
            )
        return reasons

    def bits_for(self, name: str) -> int:
        """Bits per weight of a layer.

        Its exact name in ``layer_bit_widths`` decides, else the first glob there that matches (case counts,
        ``*`` crosses dots), else ``bit_width``.
        """
        bits = self.bits_named(name)
        return self.bit_width if bits is None else bits

    def bits_named(self, name: str) -> int | None:
        """Bits per weight of a layer by ``layer_bit_widths``; None where nothing there matches."""
        if name in self.layer_bit_widths:
            return self.layer_bit_widths[name]
        return next((bits for glob, bits in self.layer_bit_widths.items() if fnmatchcase(name, glob)), None)

    def keeps(self, name: str, role: str) -> bool:
        """Whether a layer is to stay in its source dtype by ``keep``."""
        return any(matching(pattern, [name], [role]) for pattern in self.keep)

    def names_sensitive(self, name: str) -> bool:
        """Whether the user counts a layer as sensitive, by its name or by a pattern found in it."""
        return name in self.sensitive_layer_names or any(
            re.search(pattern, name) for pattern in self.sensitive_layer_patterns
        )

    @model_validator(mode="wrap")
    @classmethod
    def _gather(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Put the sources together. Every construction passes here; the context is the YAML file, if any."""
        if not isinstance(data, dict):
            return handler(data)
        sources = (
            *(yaml_values(info.context) if info.context else ()),
            *environment_values(_PREFIX, cls.model_fields),
            *(Given(key, value) for key, value in data.items()),
        )
        values = {given.key: _parse(given) for given in sources}
        last = {given.key: given for given in sources}
        if values.get("enable_mixed_precision") and values.get("enable_entropy_adaptation"):
            given = last["enable_entropy_adaptation"]
            problem = (
                "allowed: false while enable_mixed_precision is on, as only one of them can choose the bits"
            )
            raise given.error(problem, given.value, allowed="false")
        found = handler({**_PROFILES[values.get("deployment_profile", "local")], **values})
        found._places = Places(last)
        return found


def _is_config(path: Path) -> bool:
    try:
        keys = {given.key for given in yaml_values(path)}
    except ConfigurationError:
        return False
    return bool(keys) and keys <= set(DiffusionQuantConfig.model_fields)


_CONFIG_FILE = FileKind("a configuration", _is_config, error=ConfigurationError)


def _parse(given: Given) -> Any:
    """The value in its field's type: strictly, except that text of the environment is converted."""
    if given.key not in DiffusionQuantConfig.model_fields:
        raise given.error_unknown(DiffusionQuantConfig.model_fields)
    field = DiffusionQuantConfig.model_fields[given.key]
    allowed = str(field.description)
    value, is_text = given.value, given.variable is not None
    if is_text and isinstance(field.default, tuple | dict):
        allowed += ", as JSON"
        try:
            value, is_text = json.loads(value, object_pairs_hook=_distinct), False
        except (ValueError, RecursionError) as error:
            raise given.error(f"not JSON ({error}); allowed: {allowed}", value, allowed=allowed) from error
    try:
        return TypeAdapter(field.rebuild_annotation()).validate_python(value, strict=not is_text)
    except ValidationError as error:
        first = error.errors()[0]
        cause = f"{first['ctx']['error']}; " if first["type"] == "value_error" else ""
        near = did_you_mean(value, re.split(", | or ", allowed)) if first["type"] == "literal_error" else ""
        problem = f"{cause}allowed: {allowed}{'; ' if near else ''}{near}"
        raise given.error(problem, first["input"], allowed=allowed, entry=first["loc"][:1]) from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key is given twice")
    return mapping
