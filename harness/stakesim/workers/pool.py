"""One way to use processes of this machine and the workers of a Dask cluster.

    with worker_pool(jobs, open_resource=partial(open_environment, engine)) as submit:
        for future in as_completed([submit(run_batch, batch) for batch in batches]):
            future.result()

    def run_batch(environment, batch): ...

Calls and results are pickled, so `run_batch` must be a function of a module. It must also give the same result for the
same arguments on every worker: then results do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stakesim.workers.processes import process_pool
from stakesim.workers.worker import OpenResource, Submit


@contextmanager
def worker_pool(jobs: int, *, dask: str | None = None, open_resource: OpenResource | None = None) -> Iterator[Submit]:
    """Starts workers, and lets go of them on exit. Calls that have not begun by then are cancelled.

    Args:
        jobs: Number of processes to start on this machine.
        dask: Address of a Dask scheduler. All of its workers are used, and `jobs` is ignored.
        open_resource: Called once by each worker, before its first call. Each call gets the result as its first
            argument; it is closed when the worker ends.

    Yields:
        A function that schedules a call and returns its future. The future raises what the call raises.

    Raises:
        EngineError: There are no workers, or a cluster's are lost; also raised while the pool is in use.
        WorkerDied: A process of this machine has ended in the middle of its work.
        NotInstalled: `dask` is given and Dask is not installed.
    """
    if dask:
        from stakesim.workers.cluster import cluster_pool

        with cluster_pool(dask, open_resource) as submit:
            yield submit
    else:
        with process_pool(jobs, open_resource) as submit:
            yield submit
