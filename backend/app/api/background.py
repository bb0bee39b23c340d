"""Threads beside the requests: operations that no client waits for, and the reconciler."""

from __future__ import annotations

import logging
import threading

from app.bootstrap.container import Services
from app.core import logs
from app.core.errors import AppError
from app.services.operation_types import Operation
from app.services.reconciler import Reconciler

MAX_THREADS = 64
"""Operations that are carried out in the background at the same time. The reconciler carries out the others."""
FINISH_THREAD = "finish-operation"
"""Name of these threads."""
RECONCILER_STOP_TIMEOUT_S = 10
"""How long the process waits at its end for a round of the reconciler. The next process repeats an unfinished one."""

log = logging.getLogger(__name__)
_free_threads = threading.BoundedSemaphore(MAX_THREADS)


def finish_in_background(services: Services, operation: Operation) -> None:
    """Carries the operation out in a daemon thread.

    If no thread is free, or the process ends first, the reconciler carries the operation out.
    """

    def finish() -> None:
        with logs.log_context(operation=operation.key):
            try:
                services.sender.finish(operation)
            except AppError as error:
                log.warning("the operation did not succeed in the background: %s", error)
            except Exception:
                log.exception("unexpected error in the background")
            finally:
                _free_threads.release()

    if _free_threads.acquire(blocking=False):
        threading.Thread(target=finish, name=FINISH_THREAD, daemon=True).start()


class ReconcilerThread:
    """Runs the reconciler: everything once at the start, then periodically what may have changed.

    Args:
        reconciler: What to run.
        interval: Seconds between two rounds.
    """

    def __init__(self, reconciler: Reconciler, interval: float) -> None:
        self._reconciler, self._interval = reconciler, interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Starts the thread. It can be started only once."""
        self._thread.start()

    def stop(self) -> None:
        """Waits for the current round, at most `RECONCILER_STOP_TIMEOUT_S`."""
        self._stopping.set()
        self._thread.join(RECONCILER_STOP_TIMEOUT_S)

    def _run(self) -> None:
        reconcile = self._reconciler.run_full
        while True:
            try:
                reconcile()
                reconcile = self._reconciler.run_once
            except Exception:  # what fails in one round may succeed in the next
                log.exception("a round of the reconciler failed")
            if self._stopping.wait(self._interval):
                return
