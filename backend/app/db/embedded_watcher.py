"""Stops the embedded server some time after its last user has ended. `embedded` runs this file as a program.

A user is a process that holds a lock on the file of users, which the system releases however the process ends.

Usage: embedded_watcher.py DATA_DIR USERS_FILE SERVER_PID IDLE_SECONDS
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

STOP_LIMIT_S = 10


def watch(pid_file: Path, users_file: Path, server: int, idle_limit_s: float) -> None:
    """Returns when the server has ended, by this function or not."""
    unused_since: float | None = None
    with users_file.open("a") as users:
        while _is_running(pid_file, server):
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                unused_since = None
            else:
                now = time.monotonic()
                unused_since = unused_since or now
                if now - unused_since >= idle_limit_s:
                    _stop(pid_file, server)  # with the lock: the next user waits, and then starts the server again
                    return
                fcntl.flock(users, fcntl.LOCK_UN)
            time.sleep(idle_limit_s / 60)


def _stop(pid_file: Path, server: int) -> None:
    files = files_of_server(pid_file)
    os.kill(server, signal.SIGINT)  # "fast shutdown"
    deadline = time.monotonic() + STOP_LIMIT_S
    while any(file.exists() for file in files) and time.monotonic() < deadline:
        time.sleep(0.01)


def files_of_server(pid_file: Path) -> tuple[Path, Path]:
    """Returns the files that a running server removes last. Another can't start as long as there is one."""
    lines = pid_file.read_text().splitlines()
    return pid_file, Path(lines[4]) / f".s.PGSQL.{lines[3]}.lock"


def _is_running(pid_file: Path, server: int) -> bool:
    try:
        return pid_file.read_text().split()[:1] == [str(server)]
    except OSError:
        return False


if __name__ == "__main__":
    data_dir, file_of_users, server_pid, idle_seconds = sys.argv[1:]
    if os.fork():
        os._exit(0)  # the starter waits for this process only
    os.setsid()  # Ctrl-C is for the users
    watch(Path(data_dir) / "postmaster.pid", Path(file_of_users), int(server_pid), float(idle_seconds))
