"""A pool on the workers of a Dask cluster. `docs/CLUSTER.md` says how to start one."""

from __future__ import annotations

import asyncio
import functools
import logging
import platform
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from threading import Event, Thread
from typing import Any

from stakesim.errors import NotInstalled
from stakesim.evm.compiler import project_sources, source_hash
from stakesim.evm.errors import EngineError
from stakesim.project import Project, current_project
from stakesim.workers.code_version import hash_of_files, library_hash
from stakesim.workers.worker import OpenResource, Submit, WorkerResource

try:
    from distributed import Client, KilledWorker, Security, Worker, WorkerPlugin, get_worker
    from distributed.comm.core import connect
except ModuleNotFoundError as missing:
    raise NotInstalled("Work on a Dask cluster", missing.name, "dask") from None

CONNECT_TIMEOUT_S = 10.0
"""Time within which the scheduler must answer, and must have a worker."""
NO_WORKERS_TIMEOUT_S = 60.0
"""Time within which a cluster that has lost all its workers must find new ones."""
WATCH_INTERVAL_S = 2.0
"""Time between two checks of which workers there are."""
COMPARED_PACKAGES = ("numpy", "pandas", "py-evm", "pyrevm", "web3", "distributed")
"""Packages whose version may change results, or how they are sent."""
_log = logging.getLogger(__name__)


@contextmanager
def cluster_pool(address: str, open_resource: OpenResource | None) -> Iterator[Submit]:
    """Uses all workers of the scheduler at `address`; see `stakesim.workers.pool.worker_pool`."""
    client = _connect(address)
    try:
        _check_workers(client, address)
        plugin = PoolPlugin(versions(), open_resource)
        client.register_plugin(plugin, plugin.name)
        executor = client.get_executor(pure=False)  # an equal call is run again, not answered from Dask's cache
        finished, all_workers_lost = Event(), Event()
        watch = Thread(target=_watch_workers, args=(client, executor.shutdown, finished, all_workers_lost), daemon=True)
        watch.start()
        try:
            yield functools.partial(executor.submit, _call, plugin.name)
        except KilledWorker as killed:
            raise EngineError(
                "A part of the work was given up, as each worker that tried it died, the last one "
                f"{killed.last_worker.address}: see what it wrote, and whether its memory ran out."
            ) from None
        except CancelledError:
            raise EngineError(_cancel_reason(client, address, all_workers_lost)) from None
        finally:
            finished.set()
            watch.join()
            with suppress(OSError, asyncio.TimeoutError):  # the scheduler is gone, and the plugin with it
                executor.shutdown(wait=False)
                client.unregister_worker_plugin(plugin.name)
    finally:
        client.close()


class PoolPlugin(WorkerPlugin):
    """Makes each worker of the cluster a worker of one pool, also those that join later.

    It checks the worker's versions, and closes the worker's resource when the pool or the worker ends.
    """

    def __init__(self, client_versions: Mapping[str, str], open_resource: OpenResource | None) -> None:
        self.name = f"stakesim-{uuid.uuid4().hex}"
        self._client_versions, self._open_resource = client_versions, open_resource
        self._resource = WorkerResource(None)

    def setup(self, worker: Worker) -> None:
        """Prepares a worker; Dask calls it."""
        self._resource = WorkerResource(self._open_resource)
        self._refusal = refusal(worker.address, self._client_versions, versions(), worker.state.nthreads)

    async def teardown(self, worker: Worker) -> None:
        """Closes the worker's resource; Dask calls it."""
        # in the thread that made the calls, after the last of them
        await asyncio.get_running_loop().run_in_executor(worker.executors["default"], self._resource.close)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls the function with the worker's resource.

        Raises:
            EngineError: The worker's versions or threads rule it out.
        """
        if self._refusal:
            raise EngineError(self._refusal)
        return self._resource.call(function, *args)


def _call(plugin_name: str, function: Callable[..., Any], *args: Any) -> Any:
    plugin = get_worker().plugins[plugin_name]
    assert isinstance(plugin, PoolPlugin)
    return plugin.call(function, *args)


def _connect(address: str) -> Client:
    """Connects to the scheduler. Raises `EngineError` if it does not answer."""
    try:
        # tried first with a bare connection, as a `Client` that can't connect is hard to get rid of
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _try_connection(address)).result()
        return Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False, name="stakesim")
    except (OSError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise EngineError(
            f"There is no Dask scheduler at {address} ({reason}): start `dask scheduler`, and give the address that it "
            "says, tcp://HOST:PORT."
        ) from None


async def _try_connection(address: str) -> None:
    comm = await connect(address, timeout=CONNECT_TIMEOUT_S, **Security().get_connection_args("client"))
    await comm.close()


def _check_workers(client: Client, address: str) -> None:
    """Raises `EngineError` if there are no workers, or if one of them might give other results."""
    start_command = f"`dask worker {address} --nthreads 1`"
    with suppress(asyncio.TimeoutError):
        client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
    threads = client.nthreads()
    if not threads:
        raise EngineError(f"The Dask scheduler at {address} has no workers: start some with {start_command}.")
    for worker, worker_versions in client.run(versions, on_error="return").items():
        if isinstance(worker_versions, Exception):
            raise EngineError(
                f"The worker {worker} can't run this version of stakesim ({worker_versions}): install it there, with "
                f"all of its folders, and start it with {start_command}."
            )
        if reason := refusal(worker, versions(), worker_versions, threads.get(worker, 1)):
            raise EngineError(reason)


def refusal(
    worker: str, client_versions: Mapping[str, str], worker_versions: Mapping[str, str], threads: int
) -> str | None:
    """Returns why a worker can't take part; None if it can.

    Args:
        worker: Its address.
        client_versions: `versions()` of the process that starts the work.
        worker_versions: `versions()` of the worker.
        threads: Number of its threads. Several would use one chain at the same time.
    """
    if threads != 1:
        return (
            f"The worker {worker} has {threads} threads, which would get into each other's chain: start it with "
            "`dask worker ADDRESS --nthreads 1`, once for each core (or with --nworkers)."
        )
    for name, client_version in client_versions.items():
        if worker_versions.get(name) != client_version:
            return (
                f"The worker {worker} has {name} {worker_versions.get(name)}, and this process {client_version}, so "
                "that results might differ: install the same there and here."
            )
    return None


def versions() -> Mapping[str, str]:
    """Returns the versions of everything that may change results; of the project's own files, hashes."""
    return _versions(current_project())


@functools.cache
def _versions(project: Project) -> Mapping[str, str]:
    found = {"stakesim": library_hash(), "backend": _backend_hash(project)}
    found |= {"contracts": source_hash(project_sources())[:12]}
    found |= {"Python": ".".join(platform.python_version_tuple()[:2])}
    for package in COMPARED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "(not installed)"
    return found


def _backend_hash(project: Project) -> str:
    """Hashes the modules and packages in the folders that the project's backend is imported from."""
    if project.backend is None:
        return "(none)"
    folders = project.path or (project.root,)
    modules = (module for folder in folders for module in folder.glob("*.py"))
    packages = (init.parent for folder in folders for init in folder.glob("*/__init__.py"))
    return hash_of_files([*modules, *packages])


def _watch_workers(client: Client, cancel_all: Callable[..., None], finished: Event, all_workers_lost: Event) -> None:
    """Logs workers that disappear, and cancels all calls once there have been no workers for too long.

    Without it, calls would wait forever for a worker.
    """
    workers: set[str] = set()
    seconds_without_workers = 0.0
    while not finished.wait(WATCH_INTERVAL_S):
        try:
            now = set(client.nthreads())
        except OSError:  # the scheduler is gone, which cancels all calls
            return
        for worker in workers - now:
            _log.warning("the worker %s is gone; what it had not done is done by the others", worker)
        workers = now
        seconds_without_workers = 0.0 if now else seconds_without_workers + WATCH_INTERVAL_S
        if seconds_without_workers >= NO_WORKERS_TIMEOUT_S:
            all_workers_lost.set()
            cancel_all(wait=False)
            return


def _cancel_reason(client: Client, address: str, all_workers_lost: Event) -> str:
    if all_workers_lost.is_set():
        return f"The Dask scheduler at {address} has lost all its workers: see what they wrote, and start them again."
    if client.status != "running":
        return f"The Dask scheduler at {address} is gone: see what it wrote, and start it and its workers again."
    return f"The work was cancelled at the Dask scheduler at {address}: start it again."
