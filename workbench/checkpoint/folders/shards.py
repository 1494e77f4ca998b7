"""Which files make up one model: by an index, or by names such as ``model-00001-of-00003.safetensors``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from workbench.checkpoint.strict_json import quote, read_object
from workbench.errors import MetadataError, ModelNotFoundError, ValidationError

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5,})-of-(?P<count>\d{5,})\.safetensors")


def read_index(path: Path) -> Mapping[str, Path]:
    """Read the index of a sharded checkpoint.

    Parameters
    ----------
    path : Path
        The index, ``{"weight_map": {tensor: file name, ...}, ...}``.

    Returns
    -------
    dict of str to Path
        The shard of every tensor. The shards lie in the index's folder; that they exist is not checked.

    Raises
    ------
    MetadataError
        If the index is malformed, or names a shard by anything but a plain file name in its own folder.

    Notes
    -----
    A shard may be a symbolic link that leads elsewhere: the Hugging Face cache consists of such links.
    """
    weight_map = read_object(path, "index").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise MetadataError(
            f"{path}: an index must have a weight_map from tensor names to file names.", path=path
        )
    shards = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str):
            raise MetadataError(
                f"{path}: the weight_map gives tensor {quote(tensor)} a file that is not a string.",
                path=path,
                tensor=tensor,
            )
        if not name.endswith(SUFFIX) or not name.isprintable() or "/" in name or "\\" in name:
            raise MetadataError(
                f"{path}: the weight_map puts tensor {quote(tensor)} in {quote(name)}; a shard must be a "
                f"plain name ending in {SUFFIX}, in the folder of the index.",
                path=path,
                tensor=tensor,
                shard=name,
            )
        shards[tensor] = path.parent / name
    return shards


def shard_stem(name: str) -> str | None:
    """The name that the shards of one model have in common, or None for a name that is no shard's.

    Parameters
    ----------
    name : str
        A file name.

    Returns
    -------
    str or None
        For example ``"model"`` for ``"model-00001-of-00003.safetensors"``.
    """
    match = _SHARD.fullmatch(name)
    return None if match is None else match["stem"]


def refuse_part(path: Path) -> None:
    """Raise when a file is only a part of a model: one shard of several.

    Parameters
    ----------
    path : Path
        A safetensors file, which is there.

    Raises
    ------
    ValidationError
        If an index beside it lists it among others, or its name says that there are several.
    """
    for index in sorted(path.parent.glob("*.index*.json")):
        try:
            shards = {shard.name for shard in read_index(index).values()}
        except MetadataError:  # of another model, or damaged: whoever opens the folder hears of it
            continue
        if path.name in shards and len(shards) > 1:
            raise ValidationError(
                f"{path}: this is one of the {len(shards)} shards of a model, and not the whole. Give its index, "
                f"{index}, or the folder, {path.parent}.",
                path=path,
                index=index,
            )
    match = _SHARD.fullmatch(path.name)
    if match is not None and int(match["count"]) > 1:
        raise ValidationError(
            f"{path}: this is shard {int(match['number'])} of {int(match['count'])} of a model by its name, and not "
            f"the whole. Give the folder with all of them, {path.parent}.",
            path=path,
        )


def check_complete(shards: Iterable[Path], folder: Path) -> None:
    """Make sure that shards without an index are all there.

    Parameters
    ----------
    shards : iterable of Path
        The files of one stem, see `shard_stem`; at least one.
    folder : Path
        Their folder, for messages.

    Raises
    ------
    ModelNotFoundError
        If a shard is missing; the message names it.
    MetadataError
        If their names disagree about how many there are.
    """
    matches = [match for path in shards if (match := _SHARD.fullmatch(path.name))]
    stem = matches[0]["stem"]
    counts = sorted({int(match["count"]) for match in matches})
    if len(counts) != 1:
        raise MetadataError(
            f"{folder}: the shards of {stem!r} belong to splits into {' and '.join(map(str, counts))} files "
            "and there is no index; keep the files of one split, or put its index beside them.",
            path=folder,
        )
    count = counts[0]
    present = {int(match["number"]) for match in matches}
    missing = (number for number in range(1, count + 1) if number not in present)
    if first := next(missing, None):
        raise ModelNotFoundError(
            f"{folder}: there is no index and only {len(present)} of {count} shards of {stem!r}; the first "
            f"missing is {stem}-{first:05d}-of-{count:05d}{SUFFIX}. Get the whole checkpoint again.",
            path=folder,
        )
