"""Runs the reconciler in the background, and ends the process quickly on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from app.services.reconciler import Reconciler

RECONCILER_STOP_TIMEOUT_S = 2
"""Seconds that `ReconcilerThread.stop` waits for a round to end. The next process repeats an unfinished round."""

EXIT_AFTER_S = 8
"""Seconds after SIGTERM or SIGINT after which the process ends even if a thread still waits for node or database."""

log = logging.getLogger(__name__)


class ReconcilerThread:
    """Runs the reconciler: a full round at the start, and then a round every `interval` seconds."""

    def __init__(self, reconciler: Reconciler, interval: float) -> None:
        self._reconciler, self._interval = reconciler, interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Starts the thread. It can be started only once."""
        self._reconciler.health.started()
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread after the current round. Waits for that, but not longer than `RECONCILER_STOP_TIMEOUT_S`."""
        self._stopping.set()
        self._thread.join(RECONCILER_STOP_TIMEOUT_S)

    def _run(self) -> None:
        reconcile = self._reconciler.run_full
        while True:
            try:
                if reconcile().failure is None:
                    reconcile = self._reconciler.run_once
            except Exception:  # what fails in one round may succeed in the next
                log.exception("a round of the reconciler failed")
            if self._stopping.wait(self._interval):
                return


@contextmanager
def stop_waiting_on_signal(stop_waiting: Callable[[], None]) -> Iterator[None]:
    """Makes SIGTERM and SIGINT call a function before the server's own handler, and end the process in bounded time.

    A server lets its requests end first, and these would wait for their blocks. Ending at any point is safe: each
    operation is stored before it is sent, and the next process carries it on. Does nothing in other threads than the
    main thread, where signals can't be handled.

    Args:
        stop_waiting: Makes all requests that wait for a block respond.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        exit_timer = threading.Timer(EXIT_AFTER_S, _exit, (number,))
        exit_timer.daemon = True
        exit_timer.start()
        stop_waiting()
        server_handler = handlers[signal.Signals(number)]
        if callable(server_handler):
            server_handler(number, frame)

    handlers = {each: signal.signal(each, handle) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


def _exit(number: int) -> None:
    log.error("a thread did not end within %s s; the process ends without it", EXIT_AFTER_S)
    os._exit(128 + number)
