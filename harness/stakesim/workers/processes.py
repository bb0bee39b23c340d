"""A pool of processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from stakesim.errors import StakesimError
from stakesim.evm.errors import EngineError
from stakesim.workers.worker import OpenResource, Submit, WorkerResource


@contextmanager
def process_pool(jobs: int, open_resource: OpenResource | None) -> Iterator[Submit]:
    """Starts `jobs` processes; see `stakesim.workers.pool.worker_pool`."""
    _check_main_module()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_initialize, initargs=(open_resource,)) as executor:
        try:
            yield partial(_submit, executor)
        except BrokenProcessPool:
            raise WorkerDied(
                "A worker process ended in the middle of its work: look for its output, and whether memory ran out "
                "(then take fewer jobs); a script must ask for jobs below "
                '`if __name__ == "__main__":`.'
            ) from None
        except KeyboardInterrupt:
            _interrupt_workers()
            raise
        finally:
            executor.shutdown(cancel_futures=True)


class WorkerDied(StakesimError):
    """A worker process ended in the middle of its work."""


def _interrupt_workers() -> None:
    """Ends the workers. Ctrl-C in a terminal reaches them too, but a signal to this process alone does not."""
    for worker in multiprocessing.active_children():
        if worker.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGINT)


def _submit(executor: ProcessPoolExecutor, function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Submits a call. A process that is started for it blocks Ctrl-C until `_initialize` is ready for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return executor.submit(_call, function, *args)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_main_module() -> None:
    """Raises `EngineError` if processes can't import the script that starts them, as each of them must."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is not None and getattr(main, "__spec__", None) is None and not Path(file).exists():
        raise EngineError(
            f"Several processes can't be started by a script read from {file.strip('<>')}, as each has to read it "
            "too: save it as a file, or ask for one job."
        )


_resource = WorkerResource(None)
"""The resource of this process, where it is a worker."""


def _initialize(open_resource: OpenResource | None) -> None:
    global _resource
    _resource = WorkerResource(open_resource)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


_is_leaving = _is_calling = False
"""Whether this process, a worker, was interrupted; whether it carries out a call."""


def _leave(number: int, frame: Any) -> None:
    """Ends the call of an interrupted worker; the worker ends once nobody asks for another.

    Between calls it raises nothing: a result of which only a part is sent would keep the parent waiting for the rest.
    """
    global _is_leaving
    _is_leaving = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing interrupts it while it closes its resource
    if _is_calling:
        raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Ends this process once its parent is gone, even if that was killed: nobody else would tell it to end."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    try:
        _resource.close()
    finally:
        os._exit(1)


def _call(function: Callable[..., Any], *args: Any) -> Any:
    global _is_calling
    if _is_leaving:  # the executor takes the end of a call for its result, and goes on to the next call
        raise KeyboardInterrupt
    _is_calling = True
    try:
        return _resource.call(function, *args)
    finally:
        _is_calling = False
