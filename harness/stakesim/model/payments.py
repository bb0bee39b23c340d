"""Payments in INR: the platform sends wei for a person only once it has their INR.

Who signs and pays themselves pays no INR. Everybody else pays what a quote says, before the platform sends the run or
booking. INR that are not used for it go back in full, and so does what nobody asked for. What the contract later
returns to the platform's address for a person without a wallet goes back to that person in INR, once: everything for a
cancellation, the stake for a completion. Wei that return to a wallet of the person's own are not also paid in INR.

Amounts are paise, and each is rounded from wei half to even, at the rate of the quote.
"""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from stakesim.model.state import (
    BookingStatus,
    Call,
    InrPayment,
    RefusedError,
    RunStatus,
    State,
    party_of,
)
from stakesim.scenario.actions import PLATFORM, Book, CreateRun
from stakesim.scenario.base_action import ErrorName, PaymentBehaviour
from stakesim.units import WEI_PER_ETH

MIN_PAISE = 100
"""The smallest amount that can be paid."""
_REFUSALS: dict[PaymentBehaviour, ErrorName] = {
    "never": "NotPaid",
    "too_little": "NotPaid",
    "other_currency": "NotPaid",
    "forged": "NotPaid",
    "webhook_late": "NotPaid",
    "late": "PaymentUnusable",
}
_UNPAID = ("never", "too_little", "other_currency", "forged")
"""Ways to pay of which the platform gets nothing that the quote asks for."""


def to_paise(wei: int, rate: Decimal) -> int:
    """Converts wei to paise, rounded half to even.

    Args:
        wei: The amount.
        rate: INR per ETH.
    """
    inr, eth = rate.as_integer_ratio()
    return round(Fraction(100 * wei * inr, WEI_PER_ETH * eth))


def is_paid_in_inr(state: State, action: CreateRun | Book, call: Call) -> bool:
    """Whether the platform sends wei of its own for the action, and takes INR for them."""
    return state.takes_payments and not action.direct and call.sender == PLATFORM and call.due > 0


def pay(state: State, action: CreateRun | Book, call: Call, rate: Decimal) -> State:
    """The person pays as the action says. Until the payment is used, all of it counts as given back.

    Args:
        state: The state before the action.
        action: The run or booking that is paid for.
        call: Its call, with the wei that are due.
        rate: INR per ETH of the quote.

    Raises:
        RefusedError: PaymentTooSmall: less is due than can be paid.
    """
    due = to_paise(call.due, rate)
    if due < MIN_PAISE:
        raise RefusedError("PaymentTooSmall")
    asked = InrPayment(
        payer=call.actor,
        purpose="run" if isinstance(action, CreateRun) else "booking",
        label=action.run if isinstance(action, CreateRun) else action.booking,
        stake=to_paise(_stake_in_wei(state, action, call), rate),
        to_custody=party_of(state, call.actor) == PLATFORM,
    )
    paid = asked if action.payment in _UNPAID else replace(asked, captured=due, refunded=due, status="refunded")
    if action.payment == "charged_back":
        paid = replace(paid, refunded=0, status="used", disputed=True)
    unexpected = {"twice": due, "too_little": due - 1}.get(action.payment)
    payments = [paid] if unexpected is None else [paid, _unexpected(asked, unexpected)]
    return replace(state, payments=(*state.payments, *payments))


def require_paid(action: CreateRun | Book) -> None:
    """Refuses an action whose payment is not there in time.

    Raises:
        RefusedError: NotPaid: the platform does not have the INR; PaymentUnusable: they came after the quote expired.
    """
    if refusal := _REFUSALS.get(action.payment):
        raise RefusedError(refusal)


def use(state: State, action: CreateRun | Book) -> State:
    """The platform has sent the wei: what was paid for them does not go back."""
    label = action.run if isinstance(action, CreateRun) else action.booking
    purpose = "run" if isinstance(action, CreateRun) else "booking"

    def used(payment: InrPayment) -> InrPayment:
        is_it = (payment.purpose, payment.label) == (purpose, label)
        return replace(payment, refunded=0, status="used") if is_it else payment

    return replace(state, payments=tuple(map(used, state.payments)))


def give_back(state: State) -> State:
    """What the contract returned to the platform's address goes back to the people who paid, each once."""
    return replace(state, payments=tuple(_settled(state, payment) for payment in state.payments))


def totals(state: State) -> tuple[int, int]:
    """What was captured and what went back in all, in paise."""
    payments = state.payments
    return sum(payment.captured for payment in payments), sum(payment.refunded for payment in payments)


def _stake_in_wei(state: State, action: CreateRun | Book, call: Call) -> int:
    return call.due if isinstance(action, CreateRun) else call.due - state.runs[action.run].price * action.seats


def _unexpected(asked: InrPayment, amount: int) -> InrPayment:
    return InrPayment(asked.payer, "unexpected", asked.label, captured=amount, refunded=amount, status="refunded")


def _settled(state: State, payment: InrPayment) -> InrPayment:
    if payment.status != "used" or payment.disputed or not payment.to_custody:
        return payment
    returned = _returned(state, payment)
    return replace(payment, refunded=returned, status="refunded") if returned else payment


def _returned(state: State, payment: InrPayment) -> int:
    """What the platform's address got for the person by now, in paise."""
    if payment.purpose == "booking":
        of_status = {BookingStatus.CANCELLED: payment.captured, BookingStatus.COMPLETED: payment.stake}
        return of_status.get(state.bookings[payment.label].status, 0)
    run = state.runs[payment.label]
    if run.status == RunStatus.EXPIRED:  # the stake is the attendees', unless nobody had booked
        return 0 if run.seats_booked else payment.stake
    return {RunStatus.CANCELLED: payment.captured, RunStatus.COMPLETED: payment.stake}.get(run.status, 0)
