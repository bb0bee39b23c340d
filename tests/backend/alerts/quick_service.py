"""`stakesim serve` in a process of its own, with waiting times of minutes shortened to seconds.

Arguments: file with the settings, port, and id of the process with which this one ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.api import metrics, readiness
from app.bootstrap import container
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
    readiness.PROBE_TIMEOUT_S = readiness.PROBE_MAX_AGE_S = metrics.MAX_AGE_S = metrics.TIMEOUT_S = 0.3


if __name__ == "__main__":
    env_file, port, owner = sys.argv[1:]
    end_with(int(owner))
    shorten()
    serve("127.0.0.1", int(port), 1, Path(env_file), None, print)
