"""Reads the text of a Solidity file without a compiler: comments, and what it imports."""

from __future__ import annotations

import re

_TEXT = r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'"""
# \v, \f and the two separators of Unicode end a line for the compiler, too
_COMMENT_OR_TEXT = re.compile(rf"(?P<text>{_TEXT})|//[^\n\v\f\r\u2028\u2029]*|/\*.*?\*/", re.DOTALL)
_IMPORT_OR_TEXT = re.compile(rf"""\bimport\b[^;"']*["'](?P<path>[^"'\n]+)["']|{_TEXT}""")


def without_comments(source: str) -> str:
    """Returns a Solidity source with each comment replaced by a blank; its lines stay where they are."""
    return _COMMENT_OR_TEXT.sub(lambda match: match["text"] or " " + "\n" * match[0].count("\n"), source)


def imports(source: str) -> list[str]:
    """Returns what a Solidity source imports, as it is written there."""
    found = _IMPORT_OR_TEXT.finditer(without_comments(source))
    return [match["path"] for match in found if match["path"]]
