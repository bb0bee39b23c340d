"""The use cases, built on parts that the caller has opened: a node, a database, a contract, a price feed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import timedelta

from web3 import Web3

from app.db.database import Database
from app.services.blockchain_service import BlockchainService
from app.services.booking_service import BookingService
from app.services.contract_watch import ContractWatch
from app.services.event_run_service import EventRunService
from app.services.health import Health, HealthLimits
from app.services.housekeeping import KEEP_ANSWERS
from app.services.payments.service import PaymentService
from app.services.pricing import Pricing
from app.services.reconciler import Reconciler
from app.services.transactions.follower import Follower
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
        follower: Follows sent operations until they are final.
        reconciler: Reconciles database and chain.
        keep_answers: For how long the response to an Idempotency-Key is kept.
        payments: Payments in INR; None if nobody pays.
    """

    w3: Web3
    database: Database
    pricing: Pricing
    chain: BlockchainService
    runs: EventRunService
    bookings: BookingService
    follower: Follower
    reconciler: Reconciler
    keep_answers: timedelta = KEEP_ANSWERS
    payments: PaymentService | None = None

    @property
    def health(self) -> Health:
        """What stands still and why, as the reconciler saw it."""
        return self.reconciler.health

    @property
    def sender(self) -> TransactionSender:
        """Sends the platform's transactions."""
        return self.chain.sender


def build_services(
    w3: Web3,
    database: Database,
    chain: BlockchainService,
    pricing: Pricing,
    limits: HealthLimits | None = None,
    finality_blocks: int | None = None,
    keep_answers: timedelta = KEEP_ANSWERS,
    payments: PaymentService | None = None,
) -> Services:
    """Builds the use cases on a node, a database, a contract and a price feed that the caller has opened.

    Args:
        w3: Connection to the node.
        database: The database.
        chain: The contract.
        pricing: Rates of ETH.
        limits: When the service is not ready; the default limits if None.
        finality_blocks: Depth in blocks at which a block cannot change; None to ask the node for its finalized block.
        keep_answers: Age at which the response to an Idempotency-Key is removed.
        payments: Payments in INR; None if nobody pays.
    """
    if payments is not None:
        chain.sender.policy = replace(chain.sender.policy, needs_payments=True)
    runs = EventRunService(database, chain, pricing, payments)
    chain.sender.contract_watch = ContractWatch(w3, chain.address, *chain.sender.lanes.addresses)
    bookings = BookingService(database, chain, pricing, payments)
    follower = Follower(w3, chain.sender, time.monotonic)
    reconciler = Reconciler(
        database,
        chain,
        runs,
        chain.sender.policy.resend_after,
        health=Health(limits),
        finality_blocks=finality_blocks,
        keep_answers=keep_answers,
        skip=follower.is_following,
        payments=payments,
    )
    return Services(w3, database, pricing, chain, runs, bookings, follower, reconciler, keep_answers, payments)
