"""Walks through the alerts about the database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from app.db.embedded import stop_embedded
from eth_utils.crypto import keccak
from incidents import clients, confirmed_run, locking, states
from stand_in import SERVICE_ROLE, StandIn, wait_for
from walking import Following, Reader
from walks import walk
from walks_of_nodes import NOT_READY

CREATED = "0x" + keccak(text="EventRunCreated(uint256,address,string,uint256,uint256,uint256)").hex()
"""Topic of the event that a run was created."""


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


@walk("OrphanTransactions", NOT_READY, "StakesimDown")
def commits_lost_in_a_restore(s: StandIn) -> Iterator[Reader]:
    """The page's own backup and restore; a run was ordered and became final in between."""
    confirmed_run(s)
    backup, name = str(s.folder / "backup"), "restored"
    operator = Reader(
        decides={
            "BACKUP": backup,
            "NEW_DATABASE": name,
            "NEW_DATABASE_URL": s.url_of(name, "postgres"),
            "NEW_SERVICE_URL": s.url_of(name, SERVICE_ROLE),
        },
        leaves_out=("Follow [After lost commits]",),
    )
    Following(s, operator).follow("Backup")
    in_backup = len(states(s))
    starts_at, key = datetime.fromtimestamp(s.now(), UTC) + timedelta(days=4), str(uuid4())
    s.order_run(starts_at, **{"Idempotency-Key": key})
    wait_for(lambda: states(s)[-1] == "confirmed", "the run is final")
    Following(s, operator).follow("Restore")
    assert len(states(s)) == in_backup

    def repeat() -> None:
        s.order_run(starts_at, **{"Idempotency-Key": key})
        wait_for(lambda: states(s)[-1] == "confirmed", "the lost transaction is taken over")

    yield Reader(
        by_hand={"Have clients repeat": repeat},
        leaves_out=("If `ready` prints a line", "If neither you nor", "Decide about the rest"),
    )
    on_chain = s.rpc("eth_getLogs", {"address": s.contract, "fromBlock": "0x0", "topics": [CREATED]})
    known = s.query("SELECT 1 FROM operations WHERE kind LIKE 'createEventRun%' AND state = 'confirmed'")
    assert len(on_chain) == len(known)
