"""Logging as JSON objects, one per line. Lines about an operation have its key in the field `operation`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

_FIELDS: ContextVar[dict[str, Any] | None] = ContextVar("fields", default=None)


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Adds these fields to every line logged within the context, by any module. A field of the line itself wins."""
    token = _FIELDS.set({**(_FIELDS.get() or {}), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def configure_json_logging(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Sends all logging of this process to the stream, or to standard output, and removes other handlers."""
    logging.basicConfig(level=level, handlers=[_json_handler(stream or sys.stdout)], force=True)


@contextmanager
def json_log(stream: TextIO) -> Iterator[None]:
    """Also sends warnings and errors of the backend to the stream meanwhile, as JSON objects."""
    handler, logger = _json_handler(stream), logging.getLogger("app")
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _json_handler(stream: TextIO) -> logging.Handler:
    from pythonjsonlogger.json import JsonFormatter  # needed by the API only, and not by services on their own

    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )
    )
    handler.addFilter(_add_fields)
    return handler


def _add_fields(record: logging.LogRecord) -> bool:
    for name, value in (_FIELDS.get() or {}).items():
        if name not in record.__dict__:
            setattr(record, name, value)
    return True
