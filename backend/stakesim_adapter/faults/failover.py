"""Episodes in which the database fails over to a standby that lacks the last commits."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from app.db.embedded import stop_embedded
from stakesim.faults.protocol import EpisodeResult

from stakesim_adapter.faults.processes import finish, read_log, run_processes, start_processes, start_server
from stakesim_adapter.faults.standby import standby
from stakesim_adapter.faults.testbed import BackendTestbed

FAILOVER = "failover to a standby that lacks the last commits"
FAILOVER_FAULTS = {FAILOVER: 32}
"""Fault by name, with its row in the catalogue."""
MAX_LOST_S = 0.4
"""Seconds at most from the standby's last commit to the end of the primary."""
MAX_WAIT_S = 30
"""Seconds at most until the process has its first transaction final."""


def run_failover_episode(seed: int, number: int) -> EpisodeResult:
    """Ends replication and then the primary while a process runs the script; another one repeats it on the standby.

    The standby has the first operation of the account. Without any, a service can't know which transactions are lost.
    """
    started_at, rng = time.perf_counter(), np.random.default_rng([seed, number, 32])
    with tempfile.TemporaryDirectory(prefix="ssf-") as name:
        folder = Path(name)
        data_dir, log_path = folder / "postgres", folder / "log"
        server = start_server(data_dir)
        testbed = BackendTestbed(server)
        try:
            testbed.reset()
            with standby(server, folder) as copy:
                (process,) = start_processes(testbed.addresses, log_path, ["one"], seed=seed + number)
                _wait_for_first_operation(log_path)
                copy.wait_for(server)
                copy.stop_following()
                process.join(float(rng.uniform(0, MAX_LOST_S)))
                _end_primary(testbed, process, data_dir)
                copy.promote()
                url = copy.url.set(database=testbed.database.url.database).render_as_string(hide_password=False)
                testbed.move_to(url)
                run_processes(testbed.addresses, log_path, ["one"], seed=seed + number + 1)
                violations = finish(testbed, log_path, lost_commits=True)
                lines = read_log(log_path)
                testbed.database.dispose()
        finally:
            testbed.close_node()
            stop_embedded(data_dir)
    counts = Counter({FAILOVER: 1})
    return EpisodeResult(f"failover:{number}", counts, violations, lines, time.perf_counter() - started_at)


def _wait_for_first_operation(log_path: Path) -> None:
    deadline = time.monotonic() + MAX_WAIT_S
    while "done create" not in read_log(log_path):
        if time.monotonic() > deadline:
            raise TimeoutError("the process did not create its first run")
        time.sleep(0.005)


def _end_primary(testbed: BackendTestbed, process: Any, data_dir: Path) -> None:
    """Kills the process and the server, as if their machine were gone."""
    process.kill()
    process.join()
    testbed.database.dispose()
    stop_embedded(data_dir)
