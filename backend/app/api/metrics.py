"""Prometheus metrics, read from database and chain on each request. Amounts of wei are floats, and so not exact."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from app.bootstrap.container import Services
from app.core.units import WEI_PER_ETH
from app.db.database import DATABASE_ERRORS
from app.db.tables import OPERATION_STATES, operations
from app.services import rpc
from app.services.operation_types import CLOSED_STATES, HeldCause
from app.services.rpc_errors import NODE_ERRORS

log = logging.getLogger(__name__)

_columns = operations.c
_IS_PENDING = _columns.state.not_in(CLOSED_STATES)
_COUNT_BY_STATE = select(_columns.state, func.count()).group_by(_columns.state)
_OLDEST_PENDING = func.min(_columns.created_at).filter(_IS_PENDING)
_TOTALS = select(
    func.coalesce(func.extract("epoch", func.clock_timestamp() - _OLDEST_PENDING), 0),
    func.coalesce(func.sum(_columns.gas_used * _columns.gas_price_wei), 0),
)
"""Age of the oldest pending operation in seconds, wei paid for gas."""
_HELD_BY_CAUSE = (
    select(_columns.held_cause, func.count())
    .where(_IS_PENDING, _columns.held.is_not(None))
    .group_by(_columns.held_cause)
)


def metrics_registry(services: Services) -> CollectorRegistry:
    """Returns a registry with the metrics of these services, and without those of the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ServicesCollector(services))
    return registry


class _ServicesCollector(Collector):
    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> list[Metric]:
        """Returns no metrics, so that registering the collector sends no queries."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._database_metrics()
        yield from self._chain_metrics()

    def _database_metrics(self) -> Iterator[Metric]:
        try:
            with self._services.database.transaction() as connection:
                counts: dict[str, int] = dict(connection.execute(_COUNT_BY_STATE).all())
                held: dict[str, int] = dict(connection.execute(_HELD_BY_CAUSE).all())
                oldest_pending_s, gas_spent_wei = connection.execute(_TOTALS).one()
        except DATABASE_ERRORS as error:
            log.warning("no metrics of the database: %s", error.reason)
            yield _gauge("database_up", "Whether the database answers", 0)
            return
        yield _gauge("database_up", "Whether the database answers", 1)
        by_state = GaugeMetricFamily("stakesim_operations", "Operations by state", labels=["state"])
        for state in OPERATION_STATES:
            by_state.add_metric([state], counts.get(state, 0))
        yield by_state
        pending = sum(counts.get(state, 0) for state in OPERATION_STATES if state not in CLOSED_STATES)
        yield _gauge("operations_pending", "Operations that are not confirmed, failed or rejected yet", pending)
        by_cause = GaugeMetricFamily(
            "stakesim_operations_held", "Pending operations that can't proceed at present", labels=["cause"]
        )
        for cause in HeldCause:
            by_cause.add_metric([cause], held.get(cause, 0))
        yield by_cause
        yield _gauge("operations_failed", "Operations that failed on chain", counts.get("failed", 0))
        yield _gauge("operations_oldest_pending_seconds", "Age of the oldest pending operation", oldest_pending_s)
        yield CounterMetricFamily("stakesim_gas_spent_wei", "Paid for gas by final operations", float(gas_spent_wei))

    def _chain_metrics(self) -> Iterator[Metric]:
        try:
            balance = rpc.balance(self._services.w3, self._services.sender.address)
        except NODE_ERRORS as error:
            log.warning("no metrics of the node: %s", type(error).__name__)
            yield _gauge("node_up", "Whether the node answers", 0)
            return
        yield _gauge("node_up", "Whether the node answers", 1)
        yield _gauge("wallet_balance_wei", "Balance of the platform's wallet", balance)
        yield _gauge("wallet_balance_eth", "Balance of the platform's wallet", balance / WEI_PER_ETH)


def _gauge(name: str, documentation: str, value: Any) -> Metric:
    return GaugeMetricFamily(f"stakesim_{name}", documentation, float(value))
