"""Log lines as JSON objects, one a line; what is about an operation has its key in the field `operation`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

_FIELDS: ContextVar[dict[str, Any] | None] = ContextVar("fields", default=None)


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Every line that is logged inside has these fields, from whatever module, unless the line has its own."""
    token = _FIELDS.set({**(_FIELDS.get() or {}), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def log_as_json(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Sends all that is logged to the stream, standard output where none is given. For a process's start."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    )
    handler.addFilter(_add_fields)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _add_fields(record: logging.LogRecord) -> bool:
    for name, value in (_FIELDS.get() or {}).items():
        if name not in record.__dict__:
            setattr(record, name, value)
    return True
