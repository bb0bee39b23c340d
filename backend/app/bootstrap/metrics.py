"""Numbers for Prometheus, read from database and chain whenever they are asked for. Wei are floats here: to watch, not
to reckon with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.bootstrap.container import Services
from app.core.units import WEI_PER_ETH
from app.db.tables import OPERATION_STATES, operations
from app.services.operation_types import CLOSED_STATES
from app.services.rpc_errors import NODE_ERRORS

log = logging.getLogger(__name__)

_o = operations.c
_PENDING = _o.state.not_in(CLOSED_STATES)
_BY_STATE = select(_o.state, func.count()).group_by(_o.state)
_TOTALS = select(
    func.count().filter(_PENDING, _o.held.is_not(None)),
    func.coalesce(func.extract("epoch", func.clock_timestamp() - func.min(_o.created_at).filter(_PENDING)), 0),
    func.coalesce(func.sum(_o.gas_used * _o.gas_price_wei), 0),
)


def registry_of(services: Services) -> CollectorRegistry:
    """With nothing in it but what is said of these services."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(services))
    return registry


class _Numbers(Collector):
    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> list[Metric]:
        """Nothing is asked while it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._of_database()
        yield from self._of_chain()

    def _of_database(self) -> Iterator[Metric]:
        try:
            with self._services.database.begin() as connection:
                counted: dict[str, int] = dict(connection.execute(_BY_STATE).all())
                held, oldest, gas_spent = connection.execute(_TOTALS).one()
        except SQLAlchemyError as error:
            log.warning("no numbers from the database: %s", type(error).__name__)
            yield _gauge("database_up", "Whether the database answers", 0)
            return
        yield _gauge("database_up", "Whether the database answers", 1)
        by_state = GaugeMetricFamily("stakesim_operations", "Operations by state", labels=["state"])
        for state in OPERATION_STATES:
            by_state.add_metric([state], counted.get(state, 0))
        yield by_state
        pending = sum(counted.get(state, 0) for state in OPERATION_STATES if state not in CLOSED_STATES)
        yield _gauge("operations_pending", "Operations that are not decided yet", pending)
        yield _gauge("operations_held", "Pending operations that can't go on at present", held)
        yield _gauge("operations_failed", "Operations that failed on chain", counted.get("failed", 0))
        yield _gauge("operations_oldest_pending_seconds", "Since the oldest pending operation was asked for", oldest)
        yield CounterMetricFamily("stakesim_gas_spent_wei", "Paid for gas by final operations", float(gas_spent))

    def _of_chain(self) -> Iterator[Metric]:
        try:
            balance = self._services.w3.eth.get_balance(self._services.chain.sender.address)
        except NODE_ERRORS as error:
            log.warning("no numbers from the node: %s", type(error).__name__)
            yield _gauge("node_up", "Whether the node answers", 0)
            return
        yield _gauge("node_up", "Whether the node answers", 1)
        yield _gauge("wallet_balance_wei", "Of the platform's wallet", balance)
        yield _gauge("wallet_balance_eth", "Of the platform's wallet", balance / WEI_PER_ETH)


def _gauge(name: str, says: str, value: Any) -> Metric:
    return GaugeMetricFamily(f"stakesim_{name}", says, float(value))
