"""Names of layers: the patterns that match them, what a mistyped one was meant to be, and their natural order."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from fnmatch import translate

ROLE = "role:"
"""What a pattern begins with that is about roles and not names."""

_WILDCARD = re.compile(r"[*?\[]")
_NUMBER = re.compile(r"(\d+)")


def matching(pattern: str, names: Sequence[str], roles: Sequence[str]) -> list[int]:
    """Indices of the layers that a pattern matches, rising.

    Parameters
    ----------
    pattern : str
        A layer's name, a glob on names (case counts, ``*`` crosses dots), or after ``role:`` a glob on roles, in which
        ``attn`` stands for ``attention``.
    names, roles : sequence of str
        Of the layers.
    """
    if pattern.startswith(ROLE):
        matches = re.compile(translate(pattern.removeprefix(ROLE).strip())).match
        found = {role: bool(matches(role) or matches(_short(role))) for role in set(roles)}
        return [row for row, role in enumerate(roles) if found[role]]
    exact = [row for row, name in enumerate(names) if name == pattern]
    if exact or not is_glob(pattern):
        return exact
    matches = re.compile(translate(pattern)).match
    return [row for row, name in enumerate(names) if matches(name)]


def is_glob(pattern: str) -> bool:
    """Whether a pattern has wildcards, and so may match many layers or none."""
    return _WILDCARD.search(pattern) is not None


def unmatched(pattern: str, names: Sequence[str], roles: Sequence[str]) -> str:
    """What to say of a pattern that matches no layer: with one like it that does, where there is such."""
    near = nearest(pattern, names, roles)
    if near is not None:
        return f"{pattern!r} matches no layer. Did you mean {near!r}?"
    if pattern.startswith(ROLE):
        return f"{pattern!r} matches no layer. Roles here are {', '.join(sorted(set(roles)))}."
    return f"{pattern!r} matches no layer."


def natural_order(names: Sequence[str]) -> list[int]:
    """Indices of names as people count them: block 2 before block 10.

    Only numbers are put in order. Words that stand at the same place of a name follow each other as they first come, so
    that names in the order of the model stay in it.
    """
    seen: dict[tuple[str, ...], dict[str, int]] = {}
    keys: list[tuple[int, ...]] = []
    for name in names:
        parts = _NUMBER.split(name)
        key = []
        for place, part in enumerate(parts):
            siblings = seen.setdefault(tuple(parts[:place]), {})
            key.append(int(part) if place % 2 else siblings.setdefault(part, len(siblings)))
        keys.append(tuple(key))
    return sorted(range(len(names)), key=keys.__getitem__)


def nearest(pattern: str, names: Sequence[str], roles: Sequence[str]) -> str | None:
    """A pattern that matches some layer and is much like one that matches none; None if there is no such."""
    if pattern.startswith(ROLE):
        known = {form: form for role in roles for form in (role, _short(role))}
        families = {form.split(".")[0]: f"{form.split('.')[0]}*" for form in known if "." in form}
        forms = {**families, **known}
        near = difflib.get_close_matches(pattern.removeprefix(ROLE).strip("*?. "), forms, 1)
        return ROLE + forms[near[0]] if near else None
    tried = [_respelt(pattern, names)]
    if not is_glob(pattern):
        tried += [*difflib.get_close_matches(pattern, names, 1), f"*{pattern}*"]
    return next((one for one in tried if one != pattern and matching(one, names, roles)), None)


def _short(role: str) -> str:
    return re.sub(r"^attention\b", "attn", role)


def _respelt(pattern: str, names: Sequence[str]) -> str:
    """The pattern with each of its words that is in no name replaced by the nearest that is."""
    known = sorted({part for name in names for part in name.split(".") if not part.isdigit()})

    def near(found: re.Match[str]) -> str:
        word = found[0]
        if word.isdigit() or any(word in part for part in known):
            return word
        return (difflib.get_close_matches(word, known, 1) or [word])[0]

    return re.sub(r"\w+", near, pattern)
