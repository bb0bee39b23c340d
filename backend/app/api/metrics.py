"""Prometheus metrics, without those of the process. Amounts of wei are floats, and so not exact.

Most are in memory. Looks at database and node run in threads of their own; a scrape waits `TIMEOUT_S` for them at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import copy
from itertools import chain
from typing import Any, get_args

from fastapi import Request
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import ColumnElement, QueuePool, func, select

from app.api.http_metrics import HttpMetrics
from app.api.readiness import Probe, Readiness, readiness_of
from app.bootstrap.services import Services
from app.core.build import current_build
from app.core.errors import RateRefusal
from app.core.units import WEI_PER_ETH
from app.db.database import DATABASE_ERRORS
from app.db.tables import IS_OPEN_ORPHAN, IS_PAUSED, OPERATION_STATES, in_states, operations, orphans
from app.db.unavailability import troubles
from app.services import rpc
from app.services.health import HealthProblem
from app.services.housekeeping import TOTALS
from app.services.operation_types import CLOSED_STATES, HeldCause
from app.services.payments import overview
from app.services.rpc_errors import NODE_ERRORS
from app.services.rpc_failover import FailoverProvider
from app.services.transactions.accounts import SignerFailure
from app.services.transactions.lanes import read_queues
from app.services.transactions.remote_account import RemoteAccount

MAX_AGE_S = 1.0
"""Seconds for which a look at database or node is used again."""
TIMEOUT_S = 1.0
"""Seconds that a scrape waits for database and node. Without them it has the other metrics."""

log = logging.getLogger(__name__)

_columns = operations.c
_IS_NOT_CLOSED = ~in_states(CLOSED_STATES)
_IS_HELD = _columns.held.is_not(None)
_IS_ABANDONED = _columns.abandoned_at.is_not(None)  # and so not carried on: it counts for itself


def _age_s(of: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.extract("epoch", func.clock_timestamp() - of), 0)


_OPEN_BY_STATE = (
    select(
        _columns.state,
        func.count().filter(~_IS_ABANDONED),
        _age_s(func.min(_columns.created_at).filter(~_IS_ABANDONED)),
        _age_s(func.min(_columns.created_at).filter(~_IS_HELD, ~_IS_ABANDONED)),
        func.count().filter(_IS_ABANDONED),
    )
    .where(_IS_NOT_CLOSED)
    .group_by(_columns.state)
)
_HELD_BY_CAUSE = (
    select(_columns.held_cause, func.count(), _age_s(func.min(_columns.held_at)))
    .where(_IS_NOT_CLOSED, _IS_HELD, ~_IS_ABANDONED)
    .group_by(_columns.held_cause)
)
_ORPHANS = select(func.count()).select_from(orphans).where(IS_OPEN_ORPHAN)


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class Metrics:
    """The metrics of one app's services, without those of the process."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._open = Probe(lambda: list(_open_operations(services)))
        self._payments = Probe(lambda: list(_payments(services)))
        self._closed = Probe(lambda: list(_closed_operations(services)))
        self._node = Probe(lambda: list(_node(services)))

    async def collect(self, readiness: Readiness) -> CollectorRegistry:
        """Returns a registry with the present values. Takes no longer than `TIMEOUT_S`.

        Args:
            readiness: The checks of `/ready`.
        """
        database, node = "stakesim_database_up", "stakesim_node_up"
        problems, *by_source = await asyncio.gather(
            readiness.problems(),
            _metrics_of(self._open, MAX_AGE_S, database),
            _metrics_of(self._closed, MAX_AGE_S, None),
            _metrics_of(self._payments, MAX_AGE_S, None),
            _metrics_of(self._node, MAX_AGE_S, node),
        )
        families: dict[str, Metric] = {}
        for metric in (
            *chain.from_iterable(by_source),
            *_reconciler(self.services),
            *_limits(self.services),
            *_endpoints(self.services),
            *_signer(self.services),
            *_contract(self.services),
            *_connections(self.services),
            *_price(self.services),
            *_readiness(problems),
            InfoMetricFamily("stakesim_build", "What runs", current_build()._asdict()),
        ):
            if metric.name in families:  # open and closed operations are in one family
                families[metric.name].samples = [*families[metric.name].samples, *metric.samples]
            else:
                families[metric.name] = copy(metric)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(families.values()))
        return registry


async def metrics_of(request: Request) -> CollectorRegistry:
    """Returns the metrics of the app that received the request."""
    state, readiness = request.app.state, readiness_of(request)
    metrics: Metrics | None = getattr(state, "metrics", None)
    if metrics is None or metrics.services is not state.services:
        metrics = state.metrics = Metrics(state.services)
    registry, http_metrics = await metrics.collect(readiness), state.http_metrics
    assert isinstance(http_metrics, HttpMetrics)
    registry.register(http_metrics)
    return registry


async def _metrics_of(probe: Probe[list[Metric]], max_age: float, up: str | None) -> list[Metric]:
    metrics = await probe.result(max_age, TIMEOUT_S)
    if metrics is None:
        return [GaugeMetricFamily(up, "Whether it answers", 0)] if up else []
    return metrics


def _open_operations(services: Services) -> Iterator[Metric]:
    try:
        with services.database.autocommit() as connection:
            by_state = {row[0]: row for row in connection.execute(_OPEN_BY_STATE)}
            orphan_count = connection.execute(_ORPHANS).scalar_one()
            by_cause = {row[0]: row for row in connection.execute(_HELD_BY_CAUSE)}
            is_paused = connection.execute(select(IS_PAUSED)).scalar_one()
            queues = read_queues(connection, services.sender.chain_id, services.sender.lanes.addresses)
    except DATABASE_ERRORS as error:
        log.warning("no metrics of the database: %s", error.reason)
        yield _gauge("database_up", "Whether the database answers", 0)
        return
    yield _gauge("database_up", "Whether the database answers", 1)
    nothing, open_states = (None, 0, 0, 0, 0), [state for state in OPERATION_STATES if state not in CLOSED_STATES]
    counts = {state: by_state.get(state, nothing)[1] for state in open_states}
    yield _family("operations", "Operations by state", "state", counts)
    ages = {state: by_state.get(state, nothing)[2] for state in open_states}
    yield _family("operations_open_oldest_seconds", "Age of the oldest open operation", "state", ages)
    waiting = {state: by_state.get(state, nothing)[3] for state in open_states}
    documentation = "Age of the oldest open operation that is not held"
    yield _family("operations_waiting_oldest_seconds", documentation, "state", waiting)
    abandoned = sum(row[4] for row in by_state.values())
    documentation = "Operations that an operator has abandoned, and that are not closed"
    yield _gauge("operations_abandoned", documentation, abandoned)
    pending = sum(counts.values())
    yield _gauge("operations_pending", "Operations that are not confirmed, failed or rejected yet", pending)
    yield _gauge("operations_oldest_pending_seconds", "Age of the oldest pending operation", max(ages.values()))
    yield _gauge("paused", "Whether an operator has paused new event runs and bookings", is_paused)
    yield _gauge("orphans", "Transactions of the platform that are in no operation", orphan_count)
    held = {cause.value: by_cause.get(cause.value, nothing)[1] for cause in HeldCause}
    yield _family("operations_held", "Pending operations that can't proceed at present", "cause", held)
    held_for = {cause.value: by_cause.get(cause.value, nothing)[2] for cause in HeldCause}
    yield _family("operations_held_oldest_seconds", "Time since the first of them is held", "cause", held_for)
    waiting_in = {lane: queue.waiting for lane, queue in queues.items()}
    yield _family("lane_operations", "Open operations of an account that sends", "sender", waiting_in)
    held_lanes = {lane: queue.is_held for lane, queue in queues.items()}
    yield _family("lane_held", "Whether an operation holds those behind it", "sender", held_lanes)


def _payments(services: Services) -> Iterator[Metric]:
    try:
        with services.database.autocommit() as connection:
            refunds, disputes = overview.open_refunds(connection), overview.disputed(connection)
            waiting = overview.waiting(connection)
    except DATABASE_ERRORS as error:
        log.warning("no metrics of payments: %s", error.reason)
        return
    documentation = "Captured payments that are neither used nor given back"
    yield _gauge("payments_waiting", documentation, waiting)
    counts = {state: disputes.get(state, 0) for state in ("open", "won", "lost")}
    yield _family("payments_disputed", "Disputed payments, as the platform sees it", "dispute", counts)
    by_state = {state: refunds.get(state, (0, 0.0)) for state in ("due", "requested")}
    numbers = {state: number for state, (number, _) in by_state.items()}
    yield _family("refunds_open", "Refunds that are not carried out", "state", numbers)
    ages = {state: age for state, (_, age) in by_state.items()}
    yield _family("refunds_oldest_seconds", "Age of the oldest of them", "state", ages)


def _closed_operations(services: Services) -> Iterator[Metric]:
    try:
        with services.database.autocommit() as connection:
            rows = connection.execute(TOTALS).all()
    except DATABASE_ERRORS as error:
        log.warning("no totals of the database: %s", error.reason)
        return
    counts: dict[str, int] = {row[0]: row[1] for row in rows}
    closed = {state: counts.get(state, 0) for state in CLOSED_STATES}
    yield _family("operations", "Operations by state", "state", closed)
    yield _gauge("operations_failed", "Operations that failed on chain", closed["failed"])
    spent = float(sum(row[2] for row in rows))
    yield CounterMetricFamily("stakesim_gas_spent_wei", "Paid for gas by final operations", spent)


def _node(services: Services) -> Iterator[Metric]:
    try:
        balances = {lane: rpc.balance(services.w3, lane) for lane in services.sender.lanes.addresses}
        base_fee = services.sender.head.latest(MAX_AGE_S).base_fee_per_gas
    except NODE_ERRORS as error:
        log.warning("no metrics of the node: %s", type(error).__name__)
        yield _gauge("node_up", "Whether the node answers", 0)
        return
    yield _gauge("node_up", "Whether the node answers", 1)
    documentation = "Balance of an account that sends the platform's operations"
    yield _family("wallet_balance_wei", documentation, "sender", balances)
    in_eth = {lane: balance / WEI_PER_ETH for lane, balance in balances.items()}
    yield _family("wallet_balance_eth", documentation, "sender", in_eth)
    if base_fee is not None:
        yield _gauge("base_fee_wei", "Base fee of the latest block, per gas", base_fee)


def _reconciler(services: Services) -> Iterator[Metric]:
    health = services.health
    yield _gauge("reconciler_problems", "Things that the last round could not do", health.round_problems)
    yield _gauge("cursor_lag_blocks", "Final blocks whose events are not in the rows yet", health.cursor_lag)
    documentation = "Operations that a deep reorganisation reopened since the start of the process"
    yield CounterMetricFamily("stakesim_operations_reopened", documentation, health.reopened)
    documentation = "Reorganisations deeper than the confirmations that this process saw since its start"
    yield CounterMetricFamily("stakesim_deep_reorganisations", documentation, health.reorganisations)
    documentation = "Whether a finalized block is another one than it was"
    yield _gauge("finalized_block_changed", documentation, health.has_found("finality"))
    documentation = "Whether nothing is signed, as the account has transactions that are in no row"
    yield _gauge("unknown_transactions", documentation, health.has_found("nonces"))
    if health.round_age is not None:
        documentation = "Time since the end of the reconciler's last good round, or since the start"
        yield _gauge("reconciler_last_good_round_age_seconds", documentation, health.round_age)
    if health.head_age is not None:
        yield _gauge("head_age_seconds", "Time since a new block was seen", health.head_age)


def _limits(services: Services) -> Iterator[Metric]:
    health, policy = services.health.limits, services.sender.policy
    documentation = "Age of the last good round from which the service is not ready"
    yield _gauge("reconciler_max_round_age_seconds", documentation, health.round_age)
    yield _gauge("cursor_max_lag_blocks", "Cursor lag from which the service is not ready", health.cursor_lag)
    yield _gauge("head_max_age_seconds", "Age of the head from which it is not ready; 0: none", health.head_age)
    yield _gauge("wallet_low_wei", "Balance below which the wallet needs ether", health.wallet_low)
    yield _gauge("max_fee_wei", "Maximum fee per gas", policy.max_fee_per_gas)
    yield _gauge("priority_fee_wei", "Priority fee per gas of a first attempt", policy.priority_fee_per_gas)
    yield _gauge("confirmations", "Number of blocks after which a transaction is final", policy.confirmations)


def _endpoints(services: Services) -> Iterator[Metric]:
    provider = services.w3.provider
    if not isinstance(provider, FailoverProvider):  # an engine in this process
        return
    statuses = {str(status.number): status for status in provider.statuses()}
    up = {number: status.answers for number, status in statuses.items() if status.answers is not None}
    yield _family("endpoint_up", "Whether the endpoint answered when it was asked last", "endpoint", up)
    lags = {number: status.lag for number, status in statuses.items() if status.answers}
    yield _family("endpoint_head_lag_blocks", "Blocks that it is behind another endpoint", "endpoint", lags)
    yield _gauge("endpoint_max_head_lag_blocks", "Lag above which it is not used if others are", provider.max_lag)
    wrong = {number: status.on_wrong_chain for number, status in statuses.items()}
    yield _family("endpoint_wrong_network", "Whether it is on another network than CHAIN_ID", "endpoint", wrong)
    failures = CounterMetricFamily(
        "stakesim_endpoint_failures", "Requests to an endpoint that failed", labels=["endpoint", "kind"]
    )
    for number, status in statuses.items():
        for kind, count in status.failures.items():
            failures.add_metric([number, kind], count)
    yield failures


def _signer(services: Services) -> Iterator[Metric]:
    failures = CounterMetricFamily(
        "stakesim_signer_failures", "Signatures that the remote signer did not give, or not rightly", labels=["cause"]
    )
    remote = [account for account in services.sender.accounts if isinstance(account, RemoteAccount)]
    for cause in get_args(SignerFailure):
        failures.add_metric([cause], sum(account.failures[cause] for account in remote))
    yield failures


def _contract(services: Services) -> Iterator[Metric]:
    watch = services.sender.contract_watch
    if watch is not None:
        yield _gauge("contract_paused", "Whether the contract is paused", watch.paused)
        documentation = "Whether the contract differs from what it was at the start of the process"
        yield _family("contract_changed", documentation, "part", watch.changed())


def _connections(services: Services) -> Iterator[Metric]:
    pool = services.database.engine.pool
    assert isinstance(pool, QueuePool)
    yield _gauge("database_pool_size", "Connections to the database that this process may have", pool.size())
    yield _gauge("database_pool_in_use", "Connections that are in use at present", pool.checkedout())
    unavailable = CounterMetricFamily(
        "stakesim_database_unavailable", "Errors of the database that say: not now", labels=["reason"]
    )
    for trouble, count in troubles.items():
        unavailable.add_metric([trouble], count)
    yield unavailable


def _price(services: Services) -> Iterator[Metric]:
    pricing = services.pricing
    if pricing.last is not None:
        age_s = (pricing.clock() - pricing.last.as_of).total_seconds()
        yield _gauge("rate_age_seconds", "Age of the ETH price that was accepted last", age_s)
        max_age = pricing.last.max_age or pricing.max_age
        yield _gauge("rate_max_age_seconds", "Age from which that price may not be used", max_age.total_seconds())
        yield _gauge("rate_inr_per_eth", "ETH price that was accepted last", pricing.last.inr_per_eth)
    refused = CounterMetricFamily("stakesim_rate_refused", "ETH prices that were refused", labels=["cause"])
    for cause in get_args(RateRefusal):
        refused.add_metric([cause], pricing.refusals[cause])
    yield refused


def _readiness(problems: Collection[HealthProblem]) -> Iterator[Metric]:
    yield _gauge("ready", "Whether the service is ready, as /ready says", not any(each.blocks for each in problems))
    family = GaugeMetricFamily(
        "stakesim_problem", "1 for each check of /ready that is not ok", labels=["check", "blocks"]
    )
    for check, blocks in sorted({(problem.check, str(problem.blocks).lower()) for problem in problems}):
        family.add_metric([check, blocks], 1)
    yield family


def _family(name: str, documentation: str, label: str, values: Mapping[str, Any]) -> Metric:
    family = GaugeMetricFamily(f"stakesim_{name}", documentation, labels=[label])
    for value_of_label, value in values.items():
        family.add_metric([value_of_label], float(value))
    return family


def _gauge(name: str, documentation: str, value: Any) -> Metric:
    return GaugeMetricFamily(f"stakesim_{name}", documentation, float(value))
