"""A limit on the time of an operation, so that one that never ends gives a verdict and no hung process.

It needs the process's main thread, which processes of `worker_pool` work in. In any other thread, as on a Dask worker,
there is no limit.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.util import Finalize
from pathlib import Path
from types import FrameType
from typing import NoReturn

from stakesim.project import current_project

AGAIN_S = 2.0
"""Seconds after which an operation is interrupted again that goes on, as it waits while it cleans up."""
MAX_INTERRUPTIONS = 10
"""Interruptions after which the process ends, as the operation ignores them."""
_LIBRARY = Path(__file__).parents[1]
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
_expired = 0


class NeverEnds(BaseException):
    """An operation took longer than its time limit. No `Exception`, so that the operation does not handle it.

    Attributes:
        seconds: The limit.
        places: Where the operation was, as `file.py:12 (function)`; several if it had several threads.
    """

    def __init__(self, seconds: float, places: list[str]) -> None:
        super().__init__(f"it had not ended after {seconds:g} s, and was at {' and '.join(places)}")
        self.seconds, self.places = seconds, places


def expirations() -> int:
    """Returns how many operations of this process have exceeded a limit. Threads of theirs may still be running."""
    return _expired


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupts what is done within the context once it has taken this time.

    Raises:
        NeverEnds: At the point where the operation is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interruptions, began = 0, time.monotonic()

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal interruptions
        interruptions += 1
        error = NeverEnds(seconds, _places(frame))
        if interruptions == 1:
            _note_expiration()
        elif interruptions > MAX_INTERRUPTIONS:
            print(f"stakesim: an operation can't be stopped: {error}", file=sys.stderr)  # noqa: T201 - the last words
            leave(1)
        raise error

    previous_handler = signal.signal(signal.SIGALRM, interrupt)
    previous_delay, previous_interval = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)
        if previous_delay:
            left = max(previous_delay - (time.monotonic() - began), 0.001)
            signal.setitimer(signal.ITIMER_REAL, left, previous_interval)


def leave_if_threads_hang(code: int) -> None:
    """Ends the process at once if an operation that exceeded its limit has left threads: Python would wait for them."""
    others = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    if _expired and any(not thread.daemon for thread in others):
        leave(code)


def leave(code: int) -> NoReturn:
    """Ends the process without waiting for its threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _note_expiration() -> None:
    global _expired
    _expired += 1
    if parent_process() is not None:  # a worker's last finalizer, after the one that closes its resource
        Finalize(None, leave_if_threads_hang, args=(0,), exitpriority=-100)


def _places(frame: FrameType | None) -> list[str]:
    """Where the main thread and the other threads are: the innermost line of each in the project's own code.

    Without any, the innermost line of the main thread.
    """
    main_thread = threading.main_thread().ident
    frames = [frame, *(each for ident, each in sys._current_frames().items() if ident != main_thread)]
    own = [place for each in frames if (place := _innermost(each, is_own=True))]
    return own or [_innermost(frame, is_own=False) or "an unknown place"]


def _innermost(frame: FrameType | None, *, is_own: bool) -> str | None:
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if not is_own or _is_own(file):
            root = current_project().root
            shown = file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
            return f"{shown}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back
    return None


def _is_own(file: Path) -> bool:
    """Whether a file is neither of this library, nor of Python or an installed package."""
    is_installed = "site-packages" in file.parts or file.is_relative_to(_STANDARD_LIBRARY)
    return file.is_file() and not is_installed and not file.is_relative_to(_LIBRARY)
