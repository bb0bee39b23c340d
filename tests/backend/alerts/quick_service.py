"""Starts `stakesim serve` on request, in a process of its own, with waiting times of minutes shortened to seconds.

Arguments: a folder with the settings, the log and the pipe `start`; the port; the id of the process with which this one
ends. Each line written into the pipe starts a service, and its process id is written into the file `pid`. The service
is a fork of this process, as importing everything anew would take seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.api import metrics, readiness
from app.bootstrap import container
from app.core.errors import AppError
from app.services import rpc_failover
from stakesim_adapter.serve import serve

SHORT_POLICY: dict[str, float] = {"bump_after": 2, "bump_blocks": 1, "resend_after": 1, "hold_after": 2}
ROUND_AGE_S = 6.0
ANSWER_S, GIVE_UP_S, CHECK_EVERY_S = 1.0, 2.0, 2.0
"""Seconds: of one request to a node, until it is given up, and between two checks of an endpoint."""


def end_with(owner: int) -> None:
    """Ends this process soon after another one, however that ends."""

    def watch() -> None:
        with suppress(ProcessLookupError):
            while True:
                os.kill(owner, 0)
                time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def shorten() -> None:
    policy, limits, connect = container.transaction_policy, container.health_limits, container.connect_web3

    def connect_web3(urls: Any, **options: Any) -> Any:
        times = {"timeout": ANSWER_S, "give_up_after": GIVE_UP_S, "check_every": CHECK_EVERY_S}
        return connect(urls, **times | options)

    container.transaction_policy = lambda settings: replace(policy(settings), **SHORT_POLICY)  # type: ignore[arg-type]
    container.health_limits = lambda settings: replace(limits(settings), round_age=ROUND_AGE_S)
    container.connect_web3 = connect_web3
    rpc_failover.MAX_CHECK_PAUSE_S, rpc_failover.MAX_REST_S = 2 * CHECK_EVERY_S, 1.0
    readiness.PROBE_TIMEOUT_S, metrics.TIMEOUT_S = 0.4, 0.8
    readiness.PROBE_MAX_AGE_S = metrics.MAX_AGE_S = 0.3


def start(folder: Path, port: int, owner: int) -> None:
    """Forks a service; its settings are read when it starts."""
    pid = os.fork()
    if pid:
        (folder / "pid").write_text(str(pid))
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    end_with(owner)
    try:
        serve("127.0.0.1", port, 1, folder / ".env", None, print)
    except AppError as error:
        sys.stderr.write(f"stakesim: {error}\n")
        os._exit(2)
    os._exit(0)


if __name__ == "__main__":
    where, which_port, owner_id = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    shorten()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets a service that has ended
    end_with(owner_id)
    pipe = os.open(where / "start", os.O_RDWR)  # for writing too, so that it has no end
    with os.fdopen(pipe) as requests:
        for _ in requests:
            start(where, which_port, owner_id)
