"""A pool of processes that is interrupted ends at once, though its calls would take long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stakesim.workers.pool import worker_pool

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from stakesim.workers.pool import worker_pool


class Resource:
    def close(self):
        Path(sys.argv[1]).open("a").write("closed ")


def call(resource, seconds):
    print(os.getpid(), flush=True)
    try:
        time.sleep(seconds)
    except (Exception, SystemExit):  # what a scenario takes for a fault of what it tests
        time.sleep(seconds)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with worker_pool(2, open_resource=Resource) as submit:
            for future in [submit(call, 600) for _ in range(6)]:
                future.result()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
ENDS_WITHIN_S = 120
"""Much less than the calls take, however busy the machine is."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "interrupt",
    [
        lambda pid: os.kill(pid, signal.SIGTERM),
        lambda pid: os.kill(pid, signal.SIGINT),
        lambda pid: os.killpg(pid, signal.SIGINT),
    ],
    ids=["a cancelled job", "a signal to the process alone", "Ctrl-C in a terminal"],
)
def test_a_pool_ends_and_its_workers_close_what_they_have_open(
    interrupt: Callable[[int], None], tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    closed = tmp_path / "closed"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", closed],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    workers = [int(process.stdout.readline()) for _ in range(2)]
    interrupt(process.pid)
    output, errors = process.communicate(timeout=ENDS_WITHIN_S)
    assert (output, process.returncode) == ("interrupted\n", 0)
    assert "Traceback" not in errors
    assert closed.read_text() == "closed closed "
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


class _Interrupting:
    """A result that interrupts the worker which sends it."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        os.kill(os.getpid(), signal.SIGINT)
        return list, ()


@pytest.mark.slow
def test_a_result_that_is_being_sent_is_sent_whole() -> None:
    with worker_pool(1) as submit:
        sent, next_call = submit(_Interrupting), submit(list)
        assert sent.result() == []
        with pytest.raises(KeyboardInterrupt):
            next_call.result()
