"""Runs a pgbouncer in front of a PostgreSQL server, for tests and episodes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psycopg
from sqlalchemy import URL

PoolMode = Literal["session", "transaction"]
MISSING = "pgbouncer is not installed: run `apt-get install pgbouncer` on Debian, `brew install pgbouncer` on macOS."
START_TIMEOUT_S = 10


def find_pgbouncer() -> str | None:
    """Returns the path of the program; None if it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@contextmanager
def pgbouncer(server: URL, mode: PoolMode, **settings: str | int) -> Iterator[URL]:
    """Runs a pgbouncer that passes every database of a server on, and ends it at the end.

    Args:
        server: The server, with a user who needs no password.
        mode: What a client keeps a server connection for: its session, or one transaction.
        settings: More settings of pgbouncer, such as `default_pool_size`.

    Yields:
        URL of the server's database through pgbouncer, over TCP.

    Raises:
        FileNotFoundError: It is not installed.
        TimeoutError: It does not answer.
    """
    program = find_pgbouncer()
    if program is None:
        raise FileNotFoundError(MISSING)
    host, port = str(server.query.get("host") or server.host), free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        user = _unprivileged_user(host)
        os.chown(folder, *(user or (-1, -1)))
        config = Path(folder) / "pgbouncer.ini"
        config.write_text(_config(host, server, port, {"pool_mode": mode, "logfile": f"{folder}/log", **settings}))
        ids = {"user": user[0], "group": user[1], "extra_groups": []} if user else {}
        process = subprocess.Popen([program, "-q", str(config)], stderr=subprocess.DEVNULL, **ids)  # type: ignore[call-overload]
        try:
            url = URL.create(server.drivername, server.username, None, "127.0.0.1", port, server.database)
            _wait_until_ready(url, Path(folder) / "log")
            yield url
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """Returns a TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged_user(socket_folder: str) -> tuple[int, int] | None:
    """Returns user and group to run as: pgbouncer refuses root, and the owner of the server's socket may open it."""
    if os.geteuid() != 0:
        return None
    owner = Path(socket_folder).stat() if socket_folder.startswith("/") else None
    return (owner.st_uid, owner.st_gid) if owner and owner.st_uid else (65_534, 65_534)


def _config(host: str, server: URL, port: int, settings: dict[str, str | int]) -> str:
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "max_client_conn": 500,
        "server_login_retry": 1,
        **settings,
    }
    target = f"* = host={host} port={server.port or 5432} user={server.username}"
    return "\n".join(["[databases]", target, "[pgbouncer]", *(f"{name} = {value}" for name, value in lines.items())])


def _wait_until_ready(url: URL, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(host=url.host, port=url.port, user=url.username, dbname=url.database).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                text = log.read_text() if log.exists() else "no log"
                raise TimeoutError(f"pgbouncer does not answer: {text}") from None
            time.sleep(0.02)
