"""Walks through the alerts about the database."""

from __future__ import annotations

from collections.abc import Iterator

from app.db.embedded import stop_embedded
from incidents import clients, locking
from stand_in import StandIn
from walking import Reader
from walks import walk
from walks_of_nodes import NOT_READY


@walk("DatabaseDown", NOT_READY, "ReconcilerStuck", "HighErrorRate")
def server_stopped(s: StandIn) -> Iterator[Reader]:
    stop_embedded(s.data_dir)
    yield Reader(leaves_out=("If it is Supabase", "If it does not come back"))


@walk("DatabaseReadOnly", NOT_READY, "ReconcilerStuck", "HighErrorRate")
def set_read_only(s: StandIn) -> Iterator[Reader]:
    s.query("ALTER SYSTEM SET default_transaction_read_only = on")
    s.query("SELECT pg_reload_conf()")
    yield Reader(leaves_out=("If it is a standby",))


@walk("DatabasePoolFull", NOT_READY, "HighErrorRate", "DatabaseDown")
def all_connections_wait_for_a_lock(s: StandIn) -> Iterator[Reader]:
    with locking(s, "users"), clients(lambda: s.order_run(), count=12):
        yield Reader(leaves_out=("If the sessions are those", "If there are more requests"))
