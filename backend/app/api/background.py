"""Background threads: they carry out operations that no client waits for, and run the reconciler."""

from __future__ import annotations

import logging
import threading

from app.bootstrap.container import Services
from app.core import logs
from app.core.errors import AppError
from app.services.operation_types import Operation
from app.services.reconciler import Reconciler

MAX_THREADS = 64
"""Maximum number of threads that carry out operations. The reconciler carries out operations that get none."""
FINISH_THREAD = "finish-operation"
"""Name of these threads."""
RECONCILER_STOP_TIMEOUT_S = 10
"""Seconds that `ReconcilerThread.stop` waits for a round to end. The next process repeats an unfinished round."""

log = logging.getLogger(__name__)
_free_threads = threading.BoundedSemaphore(MAX_THREADS)


def finish_in_background(services: Services, operation: Operation) -> None:
    """Carries the operation out in a daemon thread.

    If no thread is free, or the process ends before, the reconciler carries the operation out.
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
