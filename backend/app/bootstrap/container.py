"""Wires the services together. This is the only module that builds a web3 provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from web3 import Web3
from web3.middleware import AttributeDictMiddleware

from app.core.config import Settings
from app.db.database import Database, connect
from app.db.migrations import migrate
from app.services.blockchain_service import BlockchainService
from app.services.booking_service import BookingService
from app.services.contract_watch import ContractWatch
from app.services.event_run_service import EventRunService
from app.services.health import Health, HealthLimits
from app.services.pricing import FixedPriceFeed, Pricing
from app.services.reconciler import Reconciler
from app.services.rpc_failover import FailoverProvider
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender


@dataclass(frozen=True)
class Services:
    """The use cases, and the objects that they share.

    Attributes:
        w3: Connection to the node.
        database: The database.
        pricing: Rates of ETH.
        chain: The stake contract.
        runs: Use cases of event runs.
        bookings: Use cases of bookings.
        reconciler: Reconciles database and chain.
    """

    w3: Web3
    database: Database
    pricing: Pricing
    chain: BlockchainService
    runs: EventRunService
    bookings: BookingService
    reconciler: Reconciler

    @property
    def health(self) -> Health:
        """What stands still and why, as the reconciler saw it."""
        return self.reconciler.health

    @property
    def sender(self) -> TransactionSender:
        """Sends the platform's transactions."""
        return self.chain.sender


def connect_web3(rpc_urls: Sequence[str], **options: Any) -> Web3:
    """Returns a web3 client of these endpoints, in order of preference. Sends no request.

    Args:
        rpc_urls: URLs of the endpoints.
        options: Keyword arguments of `FailoverProvider`.
    """
    return Web3(FailoverProvider(rpc_urls, **options), [AttributeDictMiddleware])


def build_services(
    w3: Web3, database: Database, chain: BlockchainService, pricing: Pricing, limits: HealthLimits | None = None
) -> Services:
    """Builds the use cases on a node, a database, a contract and a price feed that the caller has opened.

    Args:
        w3: Connection to the node.
        database: The database.
        chain: The contract.
        pricing: Rates of ETH.
        limits: When the service is not ready; the default limits if None.
    """
    runs = EventRunService(database, chain, pricing)
    chain.sender.contract_watch = ContractWatch(w3, chain.address, chain.platform)
    reconciler = Reconciler(database, chain, runs, chain.sender.policy.resend_after, health=Health(limits))
    return Services(w3, database, pricing, chain, runs, BookingService(database, chain, pricing), reconciler)


def transaction_policy(settings: Settings) -> TransactionPolicy:
    """Returns the settings of fees and confirmations as a policy.

    Raises:
        ValueError: The priority fee is above the maximum fee.
    """
    return TransactionPolicy(
        confirmations=settings.confirmations,
        max_fee_per_gas=settings.max_fee_per_gas,
        priority_fee_per_gas=settings.priority_fee_per_gas,
    )


def health_limits(settings: Settings) -> HealthLimits:
    """Returns when the service is not ready, by the settings. A round may be missed three times."""
    round_age = max(HealthLimits.round_age, 4 * settings.reconcile_seconds)
    return HealthLimits(round_age=round_age, head_age=settings.max_head_age_seconds)


def connect_services(settings: Settings) -> Services:
    """Builds the use cases from the settings. Applies missing migrations; sends no RPC request.

    Raises:
        DatabaseUnavailable: No database answers.
        MigrationsMissing: There are no migration files.
    """
    engine = connect(settings.database_url)
    migrate(engine)
    database = Database(engine)
    w3 = connect_web3(settings.rpc_urls)
    sender = TransactionSender(w3, settings.platform_account(), database, transaction_policy(settings))

    def clock() -> datetime:
        return datetime.now(UTC)

    feed = FixedPriceFeed(settings.eth_price_inr, clock)
    max_age = timedelta(seconds=settings.price_max_age_seconds)
    pricing = Pricing(feed, clock, max_age, settings.price_max_jump)
    chain = BlockchainService(w3, settings.contract_address, sender)
    return build_services(w3, database, chain, pricing, health_limits(settings))
