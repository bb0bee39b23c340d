"""What `/ready` checks: quick looks at database and node in threads of their own, and what the reconciler saw."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from fastapi import Request
from sqlalchemy import func, select

from app.bootstrap.services import Services
from app.core.errors import DatabaseUnavailable, MigrationsMissing
from app.db.migrations import missing_migrations
from app.db.tables import IS_OPEN_ORPHAN, in_states, operations, orphans
from app.services import rpc
from app.services.health import HealthProblem
from app.services.operation_types import CLOSED_STATES, HeldCause
from app.services.pause import current_pause
from app.services.rpc_errors import NODE_ERRORS

PROBE_MAX_AGE_S = 1.0
"""Seconds for which the result of a look is used again, so that many requests cost one look."""
PROBE_TIMEOUT_S = 1.0
"""Seconds that a request waits for a look. The look goes on, and later requests get its result."""
WALLET_WIDE_CAUSES = {
    HeldCause.NO_FUNDS: "wallet",
    HeldCause.CONTRACT: "contract",
    HeldCause.NONCE_GAP: "nonces",
}
"""Causes that hold every further operation of an account, and the check for each. The service is not ready because of
them, unless it has another account that sends."""

log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_o = operations.c
_HELD = (
    select(_o.held_cause, func.count(), func.min(_o.held), func.array_agg(_o.sender.distinct()))
    .where(~in_states(CLOSED_STATES), _o.held.is_not(None))
    .group_by(_o.held_cause)
    .order_by(_o.held_cause)
)

_ORPHANS = select(func.count(), func.min(orphans.c.tx_hash)).where(IS_OPEN_ORPHAN)


class Probe(Generic[_Result]):
    """Looks at something slow in a thread of its own, once for all requests that ask at the same time.

    Used by one event loop's thread, or by one after another.

    Args:
        look: Reads node or database. It may hang: there is one thread at most.
    """

    def __init__(self, look: Callable[[], _Result]) -> None:
        self._look = look
        self._future: Future[_Result | None] | None = None
        self._started_at = 0.0

    async def result(self, max_age: float, timeout: float) -> _Result | None:
        """Returns what a look found that began at most `max_age` seconds ago, or that is not over yet.

        Args:
            max_age: Seconds.
            timeout: Seconds to wait for the look.

        Returns:
            The result; None if the look is not over in time, or if it failed unexpectedly, which is logged.
        """
        future = self._future
        if future is None or (future.done() and time.monotonic() - self._started_at >= max_age):
            future = self._future = Future()
            self._started_at = time.monotonic()
            threading.Thread(target=self._run, args=(future,), name="probe", daemon=True).start()
        waited = asyncio.wrap_future(future)
        await asyncio.wait([waited], timeout=timeout)
        return waited.result() if waited.done() else None

    def _run(self, future: Future[_Result | None]) -> None:
        result = None
        try:
            result = self._look()
        except Exception:  # a thread's own error is seen by nobody
            log.exception("unexpected error of a probe")
        future.set_result(result)


class Readiness:
    """The checks of one app's services.

    Args:
        services: The services.
        chain_id: Id of the network (EIP-155) that the node must be on.
    """

    def __init__(self, services: Services, chain_id: int) -> None:
        self.services = services
        self._chain_id = chain_id
        self._database: Probe[list[HealthProblem]] = Probe(lambda: look_at_database(services))
        self._node: Probe[list[HealthProblem]] = Probe(lambda: look_at_node(services, chain_id))
        self._price: Probe[list[HealthProblem]] = Probe(lambda: look_at_price(services))

    async def problems(self) -> list[HealthProblem]:
        """Returns all present problems. Takes no longer than `PROBE_TIMEOUT_S`, whatever node and database do."""
        database, node, price = await asyncio.gather(
            _problems_of(self._database, "database"),
            _problems_of(self._node, "node"),
            _problems_of(self._price, "price", blocks=False),
        )
        return [*database, *node, *price, *self.services.health.problems()]


def readiness_of(request: Request) -> Readiness:
    """Returns the checks of the app that received the request."""
    state = request.app.state
    readiness: Readiness | None = getattr(state, "readiness", None)
    if readiness is None or readiness.services is not state.services:
        readiness = state.readiness = Readiness(state.services, state.chain_id)
    return readiness


async def _problems_of(probe: Probe[list[HealthProblem]], check: str, blocks: bool = True) -> list[HealthProblem]:
    problems = await probe.result(PROBE_MAX_AGE_S, PROBE_TIMEOUT_S)
    if problems is None:
        return [HealthProblem(check, f"has not answered within {PROBE_TIMEOUT_S:.0f} s", blocks)]
    return problems


def look_at_database(services: Services) -> list[HealthProblem]:
    """Returns what is wrong with the database, and which operations are held."""
    try:
        missing = missing_migrations(services.database.engine)
        if missing:
            remedy = "`stakesim serve` applies them, as does running the files in order"
            return [HealthProblem("migrations", f"{', '.join(missing)} not applied: {remedy}", True)]
        with services.database.autocommit() as connection:
            held = connection.execute(_HELD).all()
            open_orphans = connection.execute(_ORPHANS).one()
            pause = current_pause(connection)
    except DatabaseUnavailable as error:
        return [HealthProblem("database", f"{error.reason}: is it up, and is DATABASE_URL right?", True)]
    except MigrationsMissing as error:
        return [HealthProblem("migrations", error.message, True)]
    problems = [HealthProblem("pause", str(pause), False)] if pause else []
    lanes = services.sender.lanes
    held_senders = {sender for cause, *_, senders in held if cause in WALLET_WIDE_CAUSES for sender in senders}
    is_stuck = not lanes.are_several or held_senders >= set(lanes.addresses)
    problems += [
        HealthProblem(
            WALLET_WIDE_CAUSES.get(cause, "operations"),
            f"{count} operations held ({cause}): {reason}",
            is_stuck and cause in WALLET_WIDE_CAUSES,
        )
        for cause, count, reason, _ in held
    ]
    count, first = open_orphans
    if count:
        message = f"{count} transactions are in no operation, the first is {first}: find out whose they are"
        problems.append(HealthProblem("orphans", message, False))
    return problems


def look_at_node(services: Services, chain_id: int) -> list[HealthProblem]:
    """Returns what is wrong with the node."""
    try:
        chain_id_of_node = rpc.chain_id(services.w3)
    except NODE_ERRORS as error:
        log.warning("the node does not answer: %s", type(error).__name__)
        return [HealthProblem("node", "does not answer: is BLOCKCHAIN_RPC_URL right, and the node up?", True)]
    if chain_id_of_node != chain_id:
        message = f"the node is on chain {chain_id_of_node}, CHAIN_ID is {chain_id}"
        return [HealthProblem("chain_id", message, True)]
    return []


def look_at_price(services: Services) -> list[HealthProblem]:
    """Returns what is wrong with the ETH price. Without a price nothing is quoted, and everything else works."""
    try:
        error = services.pricing.problem()
    except DatabaseUnavailable:
        return [HealthProblem("price", "can't be compared with earlier ones: the database does not answer", False)]
    return [HealthProblem("price", error.message, False)] if error else []
