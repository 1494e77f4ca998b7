"""Links of a page to files outside ``docs/``: relative in the source, to the repository on the site."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from mkdocs.structure.pages import Page

REPOSITORY = "https://github.com/arrowquant/workbench/blob/main/"

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Give links that leave ``docs/`` the repository's address."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def outside(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        return match[1] if path.startswith("docs/") else REPOSITORY + path

    return _LINK.sub(outside, markdown)
