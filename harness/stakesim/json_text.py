"""Parses JSON that somebody else may have written."""

from __future__ import annotations

import json
import re
from typing import Any

_BRACKETS_AND_STRINGS = re.compile(r'"(?:[^"\\]|\\(?:.|\Z))*+(?:"|\Z)|[\[\]{}]', re.DOTALL)
_MAX_DEPTH = 100


def parse_json(text: str) -> Any:
    """Parses JSON. Raises `ValueError` for text that is no JSON, or nested too deeply.

    The depth is checked first: py-evm raises Python's recursion limit, and `json` then overflows the C stack.
    """
    depth = 0
    for match in _BRACKETS_AND_STRINGS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
    return json.loads(text)
