"""The workers of a Dask cluster. `docs/CLUSTER.md` says how to start one."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.util
import logging
import platform
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Event, Thread
from typing import Any

from stakesim.errors import NotInstalled
from stakesim.evm.compiler import project_sources, source_hash
from stakesim.evm.errors import EngineError
from stakesim.workers.pool import Open, Own, Submit

try:
    from distributed import Client, KilledWorker, Security, Worker, WorkerPlugin, get_worker
    from distributed.comm.core import connect
except ModuleNotFoundError as missing:
    raise NotInstalled("Work on a Dask cluster", missing.name, "dask") from None

PATIENCE = 10.0
"""Seconds within which a scheduler has to answer, and to have a worker."""
ALONE = 60.0
"""Seconds that a cluster which has lost all workers gets to find new ones."""
LOOK = 2.0
"""Seconds between two looks at which workers there are."""
PACKAGES = ("numpy", "pandas", "py-evm", "pyrevm", "web3", "distributed")
"""Those whose version may show in results, or in how they are sent."""
_log = logging.getLogger(__name__)


@contextmanager
def cluster(address: str, open: Open | None) -> Iterator[Submit]:
    """As `stakesim.workers.pool.pool`, on the workers of the scheduler at this address."""
    client = _client(address)
    try:
        _check_workers(client, address)
        campaign = Campaign(versions(), open)
        client.register_plugin(campaign, campaign.name)
        executor = client.get_executor(pure=False)  # the same call may be made again, and is no cached result
        done, lost = Event(), Event()
        watch = Thread(target=_watch, args=(client, executor.shutdown, done, lost), daemon=True)
        watch.start()
        try:
            yield functools.partial(executor.submit, _call, campaign.name)
        except KilledWorker as killed:
            raise EngineError(
                "A part of the work was given up, as each worker that tried it died, the last one "
                f"{killed.last_worker.address}: see what it wrote, and whether its memory ran out."
            ) from None
        except CancelledError:
            raise EngineError(_why(client, address, lost)) from None
        finally:
            done.set()
            watch.join()
            with suppress(OSError, asyncio.TimeoutError):  # of a scheduler that is gone, and with it all of this
                executor.shutdown(wait=False)
                client.unregister_worker_plugin(campaign.name)
    finally:
        client.close()


class Campaign(WorkerPlugin):
    """A worker's part in a campaign, also of one that comes later: what it opened for it, closed with it or with the
    worker."""

    def __init__(self, versions: Mapping[str, str], open: Open | None) -> None:
        self.name = f"stakesim-{uuid.uuid4().hex}"
        self._versions, self._own, self._open = versions, Own(None), open

    def setup(self, worker: Worker) -> None:
        self._own = Own(self._open)
        self._refusal = refusal(worker.address, self._versions, versions(), worker.state.nthreads)

    async def teardown(self, worker: Worker) -> None:
        """In the thread that made the calls, after the last one."""
        await asyncio.get_running_loop().run_in_executor(worker.executors["default"], self._own.close)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._refusal:
            raise EngineError(self._refusal)
        return self._own.call(function, *args)


def _call(campaign: str, function: Callable[..., Any], *args: Any) -> Any:
    joined = get_worker().plugins[campaign]
    assert isinstance(joined, Campaign)
    return joined.call(function, *args)


def _client(address: str) -> Client:
    try:
        with ThreadPoolExecutor(1) as thread:  # a client that can't connect is hard to be rid of
            thread.submit(asyncio.run, _reach(address)).result()
        return Client(address, timeout=PATIENCE, set_as_default=False, name="stakesim")
    except (OSError, ValueError) as error:
        said = str(error).rstrip(".")
        raise EngineError(
            f"There is no Dask scheduler at {address} ({said}): start `dask scheduler`, and give the address that it "
            "says, tcp://HOST:PORT."
        ) from None


async def _reach(address: str) -> None:
    comm = await connect(address, timeout=PATIENCE, **Security().get_connection_args("client"))
    await comm.close()


def _check_workers(client: Client, address: str) -> None:
    """Raises `EngineError` where there are none, or those that would give other results."""
    start = f"`dask worker {address} --nthreads 1`"
    with suppress(asyncio.TimeoutError):
        client.wait_for_workers(1, timeout=PATIENCE)
    threads = client.nthreads()
    if not threads:
        raise EngineError(f"The Dask scheduler at {address} has no workers: start some with {start}.")
    for worker, found in client.run(versions, on_error="return").items():
        if isinstance(found, Exception):
            raise EngineError(
                f"The worker {worker} can't run this version of stakesim ({found}): install it there, with all of its "
                f"folders, and start it with {start}."
            )
        if problem := refusal(worker, versions(), found, threads.get(worker, 1)):
            raise EngineError(problem)


def refusal(worker: str, ours: Mapping[str, str], theirs: Mapping[str, str], threads: int) -> str | None:
    """Why a worker with these versions and threads can't take part, if so."""
    if threads != 1:
        return (
            f"The worker {worker} has {threads} threads, which would get into each other's chain: start it with "
            "`dask worker ADDRESS --nthreads 1`, once for each core (or with --nworkers)."
        )
    for name, our in ours.items():
        if theirs.get(name) != our:
            return (
                f"The worker {worker} has {name} {theirs.get(name)}, and this process {our}, so that results "
                "might differ: install the same there and here."
            )
    return None


@functools.cache
def versions() -> Mapping[str, str]:
    """Of what may show in results; that of our own code and contracts is a hash of them."""
    found = {"stakesim": _code(), "contracts": source_hash(project_sources())[:12]}
    found |= {"Python": ".".join(platform.python_version_tuple()[:2])}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "(not installed)"
    return found


def _code() -> str:
    """The first digits of a SHA-256 over the program's files, without what is built from them."""
    digest = hashlib.sha256()
    for name in ("app", "stakesim"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".json")):
            digest.update(f"{name}/{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _watch(client: Client, cancel: Callable[..., None], done: Event, lost: Event) -> None:
    """Says which workers go, and gives up when there are none for long: calls would wait for ever."""
    known: set[str] = set()
    alone = 0.0
    while not done.wait(LOOK):
        try:
            now = set(client.nthreads())
        except OSError:  # its scheduler is gone, and with it all calls are cancelled
            return
        for worker in known - now:
            _log.warning("the worker %s is gone; what it had not done is done by the others", worker)
        known = now
        alone = 0.0 if now else alone + LOOK
        if alone >= ALONE:
            lost.set()
            cancel(wait=False)
            return


def _why(client: Client, address: str, lost: Event) -> str:
    if lost.is_set():
        return f"The Dask scheduler at {address} has lost all its workers: see what they wrote, and start them again."
    if client.status != "running":
        return f"The Dask scheduler at {address} is gone: see what it wrote, and start it and its workers again."
    return f"The work was cancelled at the Dask scheduler at {address}: start it again."
