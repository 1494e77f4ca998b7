"""Finding the weights: what was given may be a file, an index, or a folder in one of two layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from workbench.checkpoint.folders.links import is_broken, is_there
from workbench.checkpoint.folders.shards import SUFFIX, check_complete, refuse_part, shard_stem
from workbench.checkpoint.refusals.adapters import ADAPTER_CONFIG
from workbench.checkpoint.refusals.containers import PICKLE_SUFFIXES, pickle_error
from workbench.checkpoint.strict_json import read_object
from workbench.errors import ANY, ModelNotFoundError, ValidationError, action, setting

Layout = Literal["file", "sharded", "huggingface", "diffusers"]

DENOISERS = ("transformer", "unet", "prior", "decoder")
"""Components that are the denoiser, the first one present."""

_DENOISER = re.compile(rf"(?:{'|'.join(DENOISERS)})(?:_\d+)?")
"""The same with those that take over for some of the steps, such as ``transformer_2``."""

_CANONICAL = ("diffusion_pytorch_model", "model")
"""Weights by these names are what diffusers and transformers load when no variant is asked for."""

_INDEX = re.compile(r"(?P<stem>.+)\.safetensors\.index(?P<variant>\.[^.]+)?\.json")
_MODEL_KEYS = ("_class_name", "architectures", "model_type")


@dataclass(frozen=True)
class Weights:
    """Where a model's weights and descriptions are."""

    layout: Layout
    """How the model is stored."""
    paths: tuple[Path, ...]
    """One index, or the safetensors files."""
    root: Path | None
    """The model's folder, None for a file that stands alone."""
    component: str | None = None
    """The component of a diffusers folder."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """config.json of the component."""
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    """model_index.json of a diffusers folder."""
    adapter: Mapping[str, Any] = field(default_factory=dict)
    """PEFT's adapter_config.json, where the weights are an adapter's by that."""
    denoisers: tuple[str, ...] = ()
    """The components of a diffusers folder that are denoisers."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders whose small files belong to the model."""
        if self.root is None:
            return ()
        if self.layout != "diffusers":
            return (self.root,)
        return (self.root, *_subfolders(self.root, self.pipeline))


def find_weights(path: Path, component: str | None = None, *, whole: bool = True) -> Weights:
    """Find the weights of a model.

    Parameters
    ----------
    path : Path
        A safetensors file, an index, a folder with weights and config.json, or a diffusers folder.
    component : str, optional
        The component of a diffusers folder; by default its denoiser.
    whole : bool
        Refuse a file that is one of several shards.

    Returns
    -------
    Weights
        A file beside a config.json that describes a model is read with that configuration.

    Raises
    ------
    ModelNotFoundError
        If there is nothing at `path`, no weights or no such component in the folder, or a shard is missing.
    ValidationError
        If the weights are pickles, the folder is an export, a file is one of several shards, or it is not clear which
        weights are meant.
    MetadataError
        If a configuration file is malformed or a link that leads nowhere, or shards without index belong to different
        splits.
    """
    try:
        if is_broken(path):
            raise ModelNotFoundError(
                f"{path}: this is a symbolic link that leads nowhere, to {path.readlink()}.", path=path
            )
        if path.is_dir():
            if is_there(path / "workbench.json"):
                raise ValidationError(
                    f"{path}: this is an export of this workbench, already quantized: it has "
                    "workbench.json. Open the checkpoint it was made from, or read it with "
                    f"{action('load', path)}.",
                    path=path,
                )
            if is_there(path / "model_index.json") or _denoiser_below(path):
                return _find_in_diffusers(path, component)
            paths = _choose(path)
            weights = Weights(
                "huggingface",
                paths,
                path,
                config=_read_config(path),
                adapter=_read_adapter_config(path, paths[0]),
            )
        elif path.exists():
            weights = _find_file(path, whole)
        else:
            raise ModelNotFoundError(f"{path}: there is no such file or folder.", path=path)
    except OSError as error:
        raise ValidationError(f"{path}: it cannot be read: {error}.", path=path) from error
    if component is not None:
        raise ValidationError(
            f"{path}: the component {component!r} was asked for, but only a diffusers folder has components.",
            path=path,
            component=component,
        )
    return weights


def _find_file(path: Path, whole: bool) -> Weights:
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise pickle_error([path], path)
    if path.suffix == ".json" and _INDEX.fullmatch(path.name) is None:
        raise ValidationError(
            f"{path}: this is not weights; give the folder, a {SUFFIX} file or its {SUFFIX}.index.json.",
            path=path,
        )
    if whole and path.suffix == SUFFIX:
        refuse_part(path)
    config = _read_config(path.parent)
    describes = any(key in config for key in _MODEL_KEYS)
    return Weights(
        "sharded" if path.suffix == ".json" else "file",
        (path,),
        path.parent if describes else None,
        config=config if describes else {},
        adapter=_read_adapter_config(path.parent, path),
    )


def _find_in_diffusers(path: Path, component: str | None) -> Weights:
    index = path / "model_index.json"
    pipeline = read_object(index, "model_index.json") if index.exists() else {}
    for name, entry in pipeline.items():
        if _DENOISER.fullmatch(name) and _is_component(entry):
            is_there(path / name)
    components = {folder.name: folder for folder in _subfolders(path, pipeline) if _has_weights(folder)}
    listed = ", ".join(components) or "none"
    denoisers = tuple(name for name in components if _DENOISER.fullmatch(name))
    if component is None:
        component = next((name for name in (*DENOISERS, *denoisers) if name in components), None)
        if component is None:
            raise ModelNotFoundError(
                f"{path}: none of its components is a denoiser ({', '.join(DENOISERS)}); the components with "
                f"weights are: {listed}. Name one of them: {setting('component', ANY)}.",
                path=path,
            )
    if component not in components:
        raise ModelNotFoundError(
            f"{path}: there is no component {component!r} with weights; there are: {listed}.",
            path=path,
            component=component,
        )
    folder = components[component]
    paths, config = _choose(folder), _read_config(folder)
    return Weights("diffusers", paths, path, component, config, pipeline, denoisers=denoisers)


def _subfolders(path: Path, pipeline: Mapping[str, Any]) -> list[Path]:
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return [folder for folder in folders if not pipeline or _is_component(pipeline.get(folder.name))]


def _is_component(entry: object) -> bool:
    """Whether an entry of model_index.json names a class; ``[null, null]`` says that there is no such component."""
    return isinstance(entry, list) and any(part is not None for part in entry)


def _denoiser_below(path: Path) -> bool:
    return not _has_weights(path) and any(_has_weights(path / name) for name in DENOISERS)


def _has_weights(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return any(
        entry.suffix == SUFFIX or entry.suffix.lower() in PICKLE_SUFFIXES or _INDEX.fullmatch(entry.name)
        for entry in folder.iterdir()
    )


def _choose(folder: Path) -> tuple[Path, ...]:
    """Choose the weights of a folder: the only ones, or those by a canonical name."""
    files = sorted(entry for entry in folder.iterdir() if not entry.is_dir())
    candidates: list[tuple[str, tuple[Path, ...]]] = []
    indexed = set()
    for file in files:
        if match := _INDEX.fullmatch(file.name):
            stem = match["stem"] + (match["variant"] or "")
            indexed.add(stem)
            candidates.append((stem, (file,)))
    families: dict[str, list[Path]] = {}
    for file in (file for file in files if file.suffix == SUFFIX):
        family = shard_stem(file.name)
        if family is None:
            candidates.append((file.name.removesuffix(SUFFIX), (file,)))
        elif family not in indexed:
            families.setdefault(family, []).append(file)
    candidates += [(stem, tuple(shards)) for stem, shards in families.items()]

    chosen = [paths for stem, paths in candidates if stem in _CANONICAL] or [paths for _, paths in candidates]
    if len(chosen) == 1:
        if shard_stem(chosen[0][0].name) is not None:
            check_complete(chosen[0], folder)
        return chosen[0]
    if chosen:
        listed = ", ".join(paths[0].name for paths in chosen)
        raise ValidationError(
            f"{folder}: it is not clear which weights are meant: {listed}. "
            "Give the path of one of these files instead of the folder.",
            path=folder,
        )
    pickles = [file for file in files if file.suffix.lower() in PICKLE_SUFFIXES]
    if pickles:
        raise pickle_error(pickles, folder)
    revisions = sorted((folder / "snapshots").iterdir()) if (folder / "snapshots").is_dir() else []
    if revisions:
        listed = ", ".join(str(revision) for revision in revisions)
        raise ModelNotFoundError(
            f"{folder}: this is a model's folder in the Hugging Face cache; its weights are under "
            f"snapshots/<revision>. Give one of these instead: {listed}.",
            path=folder,
        )
    raise ModelNotFoundError(
        f"{folder}: there are no weights here; looked for *{SUFFIX}, *{SUFFIX}.index.json, and "
        f"model_index.json with a {' or '.join(DENOISERS[:2])} folder.",
        path=folder,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    return read_object(path, "config.json") if is_there(path) else {}


def _read_adapter_config(folder: Path, weights: Path) -> dict[str, Any]:
    """PEFT's adapter_config.json, where it speaks of these weights and not of others in the folder."""
    path = folder / ADAPTER_CONFIG
    if not is_there(path) or (is_there(folder / "config.json") and not weights.name.startswith("adapter_")):
        return {}
    return read_object(path, ADAPTER_CONFIG)
