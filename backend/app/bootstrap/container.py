"""Opens what the settings name, and builds the services on it. This is the only module that builds a web3 provider."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from web3 import Web3

from app.bootstrap.accounts import open_accounts
from app.bootstrap.services import Services, build_services
from app.core.config import DatabaseSettings, Settings
from app.core.units import WEI_PER_ETH
from app.db.connections import DatabasePolicy
from app.db.database import Database, connect
from app.db.migrations import ensure_migrated
from app.services.blockchain_service import BlockchainService
from app.services.health import HealthLimits
from app.services.payments.gateway import ManualGateway
from app.services.payments.seals import Sealer
from app.services.payments.service import PaymentService
from app.services.payments.types import PaymentPolicy
from app.services.price_feeds import HttpPriceFeed, ManualPriceFeed
from app.services.pricing import PriceFeed, Pricing
from app.services.rate_history import StoredRates
from app.services.rpc_failover import FailoverProvider
from app.services.transactions.limits import Amounts
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender

HEAD_MAX_AGE_S = 2.0
"""Seconds for which the latest block that was read is used again, for fees."""


def connect_web3(rpc_urls: Sequence[str], **options: Any) -> Web3:
    """Returns a web3 client of these endpoints, in order of preference. Sends no request.

    Args:
        rpc_urls: URLs of the endpoints.
        options: Keyword arguments of `FailoverProvider`.
    """
    return Web3(FailoverProvider(rpc_urls, **options), [])


def transaction_policy(settings: Settings) -> TransactionPolicy:
    """Returns the settings of fees, confirmations and limits as a policy.

    Raises:
        ValueError: The priority fee is above the maximum fee.
    """
    return TransactionPolicy(
        confirmations=settings.confirmations,
        max_fee_per_gas=settings.max_fee_per_gas,
        priority_fee_per_gas=settings.priority_fee_per_gas,
        expire_after=settings.operation_expiry_seconds,
        looks_before_rejecting=True,
        head_max_age=HEAD_MAX_AGE_S,
        functions=frozenset(settings.signed_functions.split(",")),
        amounts=limits_of_amounts(settings),
        needs_payments=settings.payments != "none",
    )


def limits_of_amounts(settings: Settings) -> Amounts:
    """Returns how much may be spent without approval, by the settings."""
    return Amounts(
        operation_wei=int(settings.limit_operation_eth * WEI_PER_ETH),
        person_day_wei=int(settings.limit_person_day_eth * WEI_PER_ETH),
        day_wei=int(settings.limit_day_eth * WEI_PER_ETH),
        person_run_seats=settings.limit_person_run_seats,
    )


def build_pricing(settings: Settings, database: Database) -> Pricing:
    """Builds the price check with the feeds of the settings, and with the rates that the database holds."""
    max_age = timedelta(seconds=settings.price_max_age_seconds)
    max_manual_age = timedelta(seconds=settings.price_manual_max_age_seconds)
    feeds: list[PriceFeed] = [HttpPriceFeed(feed, settings.price_refresh_seconds) for feed in settings.price_feeds]
    if settings.eth_price_inr is not None or not feeds:
        feeds.append(ManualPriceFeed(settings.eth_price_inr, settings.eth_price_inr_as_of, max_manual_age))
    return Pricing(
        feeds[0],
        lambda: datetime.now(UTC),
        max_age,
        settings.price_max_jump,
        history=StoredRates(database, settings.price_max_jump, max(max_age, max_manual_age)),
        more_feeds=feeds[1:],
        max_deviation=settings.price_max_deviation,
    )


def build_payments(settings: Settings, database: Database, sealer: Sealer) -> PaymentService | None:
    """Builds payments at the gateway of the settings; None if nobody pays."""
    policy = PaymentPolicy(
        quote_for=timedelta(seconds=settings.quote_seconds),
        use_within=timedelta(seconds=settings.payment_use_seconds),
    )
    if settings.payments == "none":
        return None
    if settings.payments == "manual":
        return PaymentService(database, ManualGateway(), sealer, policy)
    from app.services.payments.razorpay import RazorpayGateway  # its client is needed for nothing else

    key_id, key_secret = settings.razorpay_key_id, settings.razorpay_key_secret
    webhook_secret = settings.razorpay_webhook_secret
    assert key_id is not None  # the settings are validated
    assert key_secret is not None
    assert webhook_secret is not None
    gateway = RazorpayGateway(key_id, key_secret, webhook_secret, settings.razorpay_url)
    return PaymentService(database, gateway, sealer, policy)


def database_policy(settings: DatabaseSettings) -> DatabasePolicy:
    """Returns the settings of the database's connections as a policy."""
    return DatabasePolicy(
        pool_size=settings.database_pool_size,
        pool_timeout=settings.database_pool_timeout_seconds,
        statement_timeout=settings.database_statement_timeout_seconds,
        lock_timeout=settings.database_lock_timeout_seconds,
    )


def health_limits(settings: Settings) -> HealthLimits:
    """Returns when the service is not ready or needs ether, by the settings. A round may be missed three times."""
    round_age = max(HealthLimits.round_age, 4 * settings.reconcile_seconds)
    wallet_low = int(settings.wallet_low_eth * WEI_PER_ETH)
    return HealthLimits(round_age=round_age, head_age=settings.max_head_age_seconds, wallet_low=wallet_low)


def connect_services(settings: Settings) -> Services:
    """Builds the use cases from the settings. Applies missing migrations; sends no RPC request.

    Raises:
        DatabaseUnavailable: No database answers.
        NotReady: A keystore can't be opened.
        MigrationsMissing: There are no migration files; or some are not applied, and the database's user may not.
    """
    engine = connect(settings.database_url, policy=database_policy(settings))
    ensure_migrated(engine)
    database = Database(engine)
    w3 = connect_web3(settings.rpc_urls, chain_id=settings.chain_id)
    accounts = open_accounts(settings)
    sender = TransactionSender(
        w3,
        accounts.platform,
        database,
        transaction_policy(settings),
        operators=accounts.operators,
        previous=accounts.previous,
        sealer=accounts.sealer,
    )
    pricing = build_pricing(settings, database)
    chain = BlockchainService(w3, settings.contract_address, sender, settings.custody_address)
    keep_answers = timedelta(days=settings.answers_keep_days)
    limits = health_limits(settings)
    payments = build_payments(settings, database, accounts.sealer)
    return build_services(w3, database, chain, pricing, limits, settings.finality_blocks, keep_answers, payments)
