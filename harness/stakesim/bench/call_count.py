"""Counts function calls, of Python and of C: a measure of work that is the same on each machine, busy or idle."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def count_calls() -> Iterator[Callable[[], int]]:
    """Counts the calls of this thread, and of all that start within this context.

    Yields:
        A function that returns the number of calls so far.
    """
    calls = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield lambda: calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
