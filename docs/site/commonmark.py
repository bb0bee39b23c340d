"""Rewrites the lists of a page as the site's builder reads them.

Code hosts read CommonMark: what belongs to an item begins where its text does, and a list may follow a paragraph at
once. The builder reads Python-Markdown: what belongs to an item is indented by four, and a list follows a blank line.
"""

from __future__ import annotations

import re

_ITEM = re.compile(r"( *)([-*]|\d+\.) +(?=\S)")
_INDENT = 4


def rewrite_lists(text: str) -> str:
    """Returns the page with its lists rewritten. Everything else stays as it is."""
    lines: list[str] = []
    columns: list[int] = []  # where the text of each item begins that the line is in
    fence = ""
    is_loose = False
    for line in text.splitlines():
        is_after_blank = not lines or not lines[-1]
        indent = len(line) - len(line.lstrip(" "))
        item = None if fence else _ITEM.match(line)
        if not line.strip():
            lines.append("")
            continue
        is_in_list = bool(columns)
        if item or (is_after_blank and not fence):
            while columns and indent < columns[-1]:
                columns.pop()
        if item:
            if not is_after_blank and (is_loose or not is_in_list):
                lines.append("")
            lines.append(" " * _INDENT * len(columns) + line[indent:])
            columns.append(item.end())
            continue
        is_loose = bool(columns) and (is_loose or is_after_blank)
        extra = max(indent - columns[-1], 0) if columns else indent
        lines.append(" " * (_INDENT * len(columns) + extra) + line[indent:])
        if mark := re.match(r" *(```+)", line):
            fence = "" if fence else mark[1]
    return "\n".join(lines) + "\n"
