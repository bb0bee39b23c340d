"""A pool of workers: processes of this machine, or those of a Dask cluster, one way of use for both.

with pool(jobs, dask, partial(open_environment, engine)) as submit:
    for done in as_completed([submit(play_batch, batch) for batch in batches]):  # def play_batch(environment, batch)
        done.result()

Calls and what they return are pickled, so functions are those of modules, and the same for the same arguments whoever
carries them out: then results are, too.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Protocol

from stakesim.evm.errors import EngineError


class Closing(Protocol):
    """What has to be closed."""

    def close(self) -> None: ...


Open = Callable[[], Closing]


class Submit(Protocol):
    """Has a call made by a worker, when one is free: `concurrent.futures.Executor.submit`."""

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]: ...


@contextmanager
def pool(jobs: int, dask: str | None = None, open: Open | None = None) -> Iterator[Submit]:
    """Starts the workers, and at its end lets go of them; calls that are not begun by then are not made.

    jobs: processes, where they are this machine's; started for the pool, also where it is one. dask: address of a Dask
    scheduler, whose workers are asked instead, all of them. open: called once by each worker, before its first call;
    each call is given what came of it before its own arguments, and in the end it is closed. An error of a call is
    raised by its future.
    Raises `EngineError`, also within, where workers can't be had or are lost.
    """
    if dask:
        from stakesim.workers.cluster import cluster

        with cluster(dask, open) as submit:
            yield submit
        return
    _check_main()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(open,)) as executor:
        try:
            yield lambda function, *args: executor.submit(_call, function, *args)
        except BrokenProcessPool:
            raise EngineError(
                "A process that was to do a part of the work ended before it was done: look for what it said, and "
                "whether memory ran out (then take fewer jobs); a script must ask for jobs below "
                '`if __name__ == "__main__":`.'
            ) from None
        finally:
            executor.shutdown(cancel_futures=True)


def _check_main() -> None:
    """Each process imports the script that started it. Raises `EngineError` where there is none to import."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is not None and getattr(main, "__spec__", None) is None and not Path(file).exists():
        raise EngineError(
            f"Several processes can't be started by a script read from {file.strip('<>')}, as each has to read it "
            "too: save it as a file, or ask for one job."
        )


class Own:
    """A worker's own: opened for its first call."""

    def __init__(self, open: Open | None) -> None:
        self._open = open
        self._opened: tuple[Closing, Callable[[], object]] | None = None

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._open is None:
            return function(*args)
        if self._opened is None:
            what = self._open()
            self._opened = what, Finalize(None, what.close, exitpriority=1)  # workers run no exit handlers but these
            gc.freeze()  # what is imported by now stays
        return function(self._opened[0], *args)

    def close(self) -> None:
        if self._opened is not None:
            _, close = self._opened
            self._opened = None
            gc.unfreeze()
            close()


_own = Own(None)


def _begin(open: Open | None) -> None:
    global _own
    _own = Own(open)


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return _own.call(function, *args)
