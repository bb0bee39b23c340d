"""Each way in which the contract returns money of a person without a wallet to custody: INR are owed for it, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from app.db.tables import EventRun
from app.services.blockchain_service import BlockchainService
from app.services.codec import Call, event_stake_codec
from app.services.payments.types import Payment
from backend_environment import BackendEnvironment, deploy, send_call
from payments_environment import PaymentsEnvironment, open_payments
from stakesim.evm.compiler import compile_contracts
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn

Refund = tuple[str, Decimal]


@dataclass
class Story:
    """A run of a host without a wallet, with a booking of an attendee without a wallet."""

    payments: PaymentsEnvironment
    run: EventRun
    booking: UUID
    hosts: Payment
    attendees: Payment

    def go_to(self, after_start: timedelta) -> None:
        self.payments.backend.go_to(self.run.starts_at + after_start)


def cancel_booking(story: Story) -> None:
    story.payments.services.bookings.cancel(story.booking)


def cancel_run(story: Story) -> None:
    story.payments.services.runs.cancel(story.run.id)


def complete(story: Story) -> None:
    story.go_to(timedelta(0))
    story.payments.services.runs.complete(story.run.id, [story.booking])


def complete_without(story: Story) -> None:
    story.go_to(timedelta(0))
    story.payments.services.runs.complete(story.run.id, [])


def expire(story: Story) -> None:
    story.go_to(timedelta(days=7))
    story.payments.services.runs.expire(story.run.id)


def cancel_past_the_service(story: Story) -> None:
    """By the platform's key, in a transaction that is no operation of the service."""
    run = story.payments.services.runs.get(story.run.id)
    contract = story.payments.backend.chain.address
    send_call(
        story.payments.backend,
        "platform",
        event_stake_codec().call(contract, "cancelEvent", run.blockchain_event_run_id),
    )
    story.payments.services.runs.refresh(story.run.id)


ALL, STAKE, NOTHING = "cancelled", "stake_returned", None
WAYS: dict[Callable[[Story], None], tuple[str | None, str | None]] = {
    cancel_booking: (ALL, NOTHING),
    cancel_run: (ALL, ALL),
    complete: (STAKE, STAKE),
    complete_without: (NOTHING, STAKE),
    expire: (ALL, NOTHING),
    cancel_past_the_service: (ALL, ALL),
}
"""What is owed to attendee and host."""


def custody_that_takes_no_ether(backend: BackendEnvironment) -> str:
    return deploy(backend.engine, "RefusingReceiver")


@pytest.mark.slow
@pytest.mark.parametrize("refuses", [False, True], ids=["", "deferred"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_returns_to_custody_is_owed_once(
    backend: BackendEnvironment,
    gateway_url: str,
    stand_in: RazorpayStandIn,
    way: Callable[[Story], None],
    refuses: bool,
) -> None:
    if refuses:
        custody = custody_that_takes_no_ether(backend)
        backend.chain = BlockchainService(backend.engine.w3, backend.chain.address, backend.sender, custody)
    payments = open_payments(backend, gateway_url, stand_in)
    run = payments.open_run("walletless")
    [hosts] = payments.rows()
    attendees, booking = payments.paid_booking(run.id, 2, "walletless")
    way(Story(payments, run, booking, hosts, attendees))
    payments.round()
    if refuses:
        withdraw(backend)
    for _ in range(3):
        payments.round()
        payments.deliver()
    amounts = (
        {ALL: attendees.amount_inr, STAKE: attendees.stake_inr, NOTHING: None},
        {
            ALL: hosts.amount_inr,
            STAKE: hosts.amount_inr,
            NOTHING: None,
        },
    )
    for payment, cause, amount in zip((attendees, hosts), WAYS[way], amounts, strict=True):
        refund = payments.payments.refund_of(payment.id)
        assert (refund and (refund.cause, refund.state, refund.amount_inr)) == (
            cause and (cause, "done", amount[cause])
        )
    paid_back = sum((amount[cause] or 0) for cause, amount in zip(WAYS[way], amounts, strict=True))
    assert sum(refund["amount"] for refund in stand_in.refunds.values()) == 100 * paid_back
    payments.check()


def withdraw(backend: BackendEnvironment) -> None:
    """Custody withdraws what was deferred, to another address."""
    chain = backend.chain
    credit = chain.credit_of(chain.custody)
    assert credit > 0
    call = event_stake_codec().call(chain.address, "withdrawTo", backend.wallets["stranger"].address)
    artifact = compile_contracts()["RefusingReceiver"]
    account = backend.engine.w3.eth.contract(address=chain.custody, abi=artifact.abi)
    data = account.encode_abi("execute", [chain.address, 0, call.data])
    send_call(backend, "platform", Call(chain.custody, "execute", bytes.fromhex(data[2:])))
    assert chain.credit_of(chain.custody) == 0
