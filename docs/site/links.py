"""Checks a built site: each link leads to a page and a heading in it, and nothing is loaded from another server."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""Attribute of each element by which a browser loads something."""


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag in _LOADED and (target := values.get(_LOADED[tag])):
            self.loads.append(target)
        if tag == "a" and (target := values.get("href")):
            self.links.append(target)


def problems(site: Path) -> list[str]:
    """Returns a sentence for each link that leads nowhere, and for each thing that is loaded from another server."""
    pages = {file: _Page(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    pages.pop(site / "404.html", None)  # for servers: its links are absolute
    found = []
    for file, page in pages.items():
        name = file.relative_to(site)
        found += [f"{name}: loads {target} from another server" for target in page.loads if _is_remote(target)]
        for target in dict.fromkeys([*page.links, *page.loads]):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            other = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not other.is_file():
                found.append(f"{name}: {target} leads to no file")
            elif other in pages and unquote(parts.fragment) not in pages[other].anchors:
                found.append(f"{name}: {target} leads to no heading")
    for sheet in sorted(site.rglob("*.css")):
        urls = re.findall(r"(?:url\(|@import\s)['\"]?((?:https?:)?//[^)'\"]*)", sheet.read_text(encoding="utf-8"))
        found += [f"{sheet.relative_to(site)}: loads {url} from another server" for url in urls]
    return found


def _is_remote(target: str) -> bool:
    return bool(urlsplit(target).netloc)
