"""Where the values of a configuration come from: a YAML file or the environment, each with its place."""

from __future__ import annotations

import difflib
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import ConfigurationError, UsageError, setting


@dataclass(frozen=True)
class Given:
    """A value as somebody gave it; without a variable or path it is an argument."""

    key: str
    """Name of the setting."""
    value: Any
    """The value; the unparsed text where it comes from the environment."""
    variable: str | None = None
    """Environment variable it comes from."""
    path: Path | None = None
    """YAML file it comes from."""
    line: int | None = None
    """Line of the key in the file, from 1."""
    entry_lines: Mapping[str, int] = field(default_factory=dict)
    """Lines of the entries of a list (by index) or mapping (by key) in the file."""

    def error(
        self, problem: str, value: Any, *, allowed: str, entry: tuple[int | str, ...] = ()
    ) -> UsageError:
        """The error that this value, or the value of one entry of it, is not allowed."""
        is_argument = self.variable is None and self.path is None
        key = setting(self.key) if is_argument else self.key
        name = f"{key}[{show(entry[0])}]" if entry else key
        line = self.entry_lines.get(str(entry[0]), self.line) if entry else self.line
        return error_at(
            f"{name} is {show(value)}; {problem}",
            key=self.key, value=value, allowed=allowed, variable=self.variable, path=self.path, line=line,
        )  # fmt: skip

    def error_unknown(self, known: Iterable[str]) -> UsageError:
        """The error that nothing has this key; it names the nearest of the known ones."""
        return error_at(
            f"unknown key {self.key!r} (given {show(self.value)}); {_nearest(self.key, known)}",
            key=self.key, value=self.value, path=self.path, line=self.line,
        )  # fmt: skip


class Places(dict[str, Given]):
    """Values of a configuration by key, each with its place; all are equal, since the place makes no difference."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None


def environment_values(prefix: str, keys: Iterable[str]) -> Iterator[Given]:
    """The values of the environment variables named prefix + key in upper case.

    Raises
    ------
    ConfigurationError
        For any other variable that begins with the prefix, in whatever case: a typo must not go unnoticed.
    """
    known = {prefix + key.upper(): key for key in keys}
    for variable, text in sorted(os.environ.items()):
        if variable in known:
            yield Given(known[variable], text, variable=variable)
        elif variable.upper().startswith(prefix):
            problem = f"unknown, set to {show(text)}; {_nearest(variable.upper(), known)} Else unset it"
            raise error_at(problem, key=variable, value=text, variable=variable)


def yaml_values(path: Path, kind: type[UsageError] = ConfigurationError) -> Iterator[Given]:
    """The values of a YAML file, with their lines; read by the safe loader, keys distinct.

    Parameters
    ----------
    path : Path
    kind : type of UsageError
        The error that is raised.

    Raises
    ------
    UsageError
        Of that kind, for a file that cannot be read or is not a YAML mapping, and for a key that is given twice.
    """
    text = read_text(path, kind)
    fault = partial(error_at, path=path, kind=kind)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise fault(f"not YAML: {error.problem}", line=line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise fault(f"not YAML: {error.reason}", line=line) from error
    except RecursionError as error:
        raise fault("nested too deeply") from error
    if root is None or root.tag == "tag:yaml.org,2002:null":
        return
    if not isinstance(root, yaml.MappingNode):
        raise fault("must be a mapping of keys to values", line=root.start_mark.line + 1)
    for key, node, line in _pairs(root, fault):
        lines: dict[str, int] = {}
        if isinstance(node, yaml.MappingNode):
            lines = {entry: entry_line for entry, _, entry_line in _pairs(node, fault)}
        elif isinstance(node, yaml.SequenceNode):
            lines = {str(index): item.start_mark.line + 1 for index, item in enumerate(node.value)}
        try:
            value = loader.construct_object(node, deep=True)
        except yaml.MarkedYAMLError as error:
            raise fault(f"{key} is not plain YAML: {error.problem}", key=key, line=line) from error
        except (ValueError, KeyError, AttributeError) as error:
            # What PyYAML lets through for an impossible date, or text under a tag such as !!int.
            raise fault(f"{key} is not plain YAML: {error}", key=key, line=line) from error
        yield Given(key, value, path=path, line=line, entry_lines=lines)


def read_text(path: Path, kind: type[UsageError] = ConfigurationError) -> str:
    """The text of a file that somebody named; errors are of a kind.

    Raises
    ------
    UsageError
        If it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise error_at("not UTF-8 text; save it as UTF-8", path=path, line=line, kind=kind) from error
    except OSError as error:
        raise error_at(
            f"cannot be read: {error.strerror}; give the path of a file", path=path, kind=kind
        ) from error


def _pairs(
    mapping: yaml.MappingNode, fault: Callable[..., UsageError]
) -> Iterator[tuple[str, yaml.Node, int]]:
    """Key, value and line of each entry of a mapping, whose keys must be scalars and distinct."""
    first: dict[str, int] = {}
    for key, value in mapping.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise fault("a key must be a single word, not a list or mapping", line=line)
        name = str(key.value)
        if name in first:
            problem = f"{name!r} is given twice, first in line {first[name]}; remove one"
            raise fault(problem, key=name, line=line)
        first[name] = line
        yield name, value, line


def error_at(
    problem: str,
    *,
    path: Path | None = None,
    line: int | None = None,
    variable: str | None = None,
    kind: type[UsageError] = ConfigurationError,
    **facts: Any,
) -> UsageError:
    """An error whose message begins with the place; facts that are not given are None."""
    if variable:
        problem = f"environment variable {variable}: {problem}"
    elif path:
        problem = f"{path}, line {line}: {problem}" if line else f"{path}: {problem}"
    facts = {"key": None, "value": None, "allowed": None, **facts}
    return kind(problem, path=path, line=line, variable=variable, **facts)


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    return did_you_mean(name, known) or f"known are {', '.join(known)}."


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """A question that names the nearest of some words; empty where none is near."""
    if not isinstance(value, str):
        return ""
    # Case is the commonest slip, and to difflib as far away as another letter.
    words = {word.lower(): word for word in known}
    close = difflib.get_close_matches(value.lower(), words, n=1)
    return f"did you mean {words[close[0]]}?" if close else ""


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def show(value: object) -> str:
    """The repr of a value, cut to a length fit for a message."""
    return _short.repr(value)
