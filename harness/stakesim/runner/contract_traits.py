"""What a contract written elsewhere decides for itself: terms, seats of the largest run, and how it pays.

What it says, it is asked: `terms()`, `stakePercentage()`, `platformFeePercentage()`. What it does not say is seen from
two runs that are opened, booked and completed on the chain, which is then as it was before. A contract on which they
fail is judged by the usual terms, as `EventStake` would be: then the scenarios show what is wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import ValidationError

from stakesim.evm.abi import ContractAbi
from stakesim.evm.client import ChainClient
from stakesim.evm.compiler import Artifact
from stakesim.evm.engine import Engine
from stakesim.evm.errors import AbiError, CallReverted, EngineError
from stakesim.evm.required_abi import codec_of, stake_abi
from stakesim.model.contract_traits import ContractTraits
from stakesim.runner.ways_out import Creditor, WaysOut
from stakesim.scenario.actions import Terms
from stakesim.units import BPS, DAY

UNLIMITED = 2**256
"""Seats of the largest run of a contract that opens one of `_MOST_SEATS`."""
_MOST_SEATS = 2**16
_PRICE = 10**16
"""Wei of a seat, so that every basis point of it is whole wei."""
_PERCENT = BPS // 100


class Subject(NamedTuple):
    """A contract that is explored.

    Attributes:
        engine: The chain.
        chain: Sends transactions to it.
        artifact: The compiled contract.
        address: Where it is.
        account_abi: ABI of hostile contracts.
    """

    engine: Engine
    chain: ChainClient
    artifact: Artifact
    address: str
    account_abi: ContractAbi


def explore(subject: Subject, *, takes_terms: bool, given: Terms | None) -> ContractTraits:
    """Finds out the traits of a contract that was just deployed.

    Args:
        subject: The contract.
        takes_terms: Its constructor takes the terms.
        given: The terms that it must have; None: those that it has.

    Raises:
        EngineError: Its terms are outside of the bounds of `Terms`.
    """
    snapshot = subject.engine.snapshot()
    try:
        strings, max_seats = _reverts_with_strings(subject), _largest_run(subject)
        subject.engine.revert(snapshot)
        snapshot = subject.engine.snapshot()
        trial = _try_out(subject)
        terms = None if takes_terms else given or _terms(subject, trial)
        return ContractTraits(terms, max_seats, trial.pays_by_credit, trial.fees_by_credit, strings)
    finally:
        subject.engine.revert(snapshot)
        subject.chain.take_receipts()


class _Trial(NamedTuple):
    """What was seen of two runs; None where they failed.

    Attributes:
        fee_bps: The platform's share of the revenue.
        forfeit_to_host_bps: The host's share of a forfeited stake.
        pays_by_credit: See `ContractTraits`.
        fees_by_credit: See `ContractTraits`.
    """

    fee_bps: int | None = None
    forfeit_to_host_bps: int | None = None
    pays_by_credit: bool = False
    fees_by_credit: bool = False


# What the contract says


def _terms(subject: Subject, trial: _Trial) -> Terms:
    """The terms that the contract has, by its views and by the trial; the usual ones where neither says them."""
    if (said := _view(subject, "terms")) is not None:
        return _checked(subject, dict(zip(Terms.model_fields, said[0], strict=True)))
    stake, fee = (_view(subject, name) for name in ("stakePercentage", "platformFeePercentage"))
    quoted = _view(subject, "calculateRequiredStake", BPS, 1)
    found = {
        "stake_bps": stake[0] * _PERCENT if stake else quoted[0] if quoted else None,
        "fee_bps": fee[0] * _PERCENT if fee else trial.fee_bps,
        "forfeit_to_host_bps": trial.forfeit_to_host_bps,
    }
    return _checked(subject, {name: value for name, value in found.items() if value is not None})


def _checked(subject: Subject, terms: dict[str, Any]) -> Terms:
    try:
        return Terms.model_validate(terms)
    except ValidationError as error:
        field = error.errors()[0]["loc"][0]
        raise EngineError(
            f"{subject.artifact.name} can't be tested: its {field} is {terms[str(field)]}, which is out of the bounds "
            "of contracts/IEventStake.sol."
        ) from None


def _view(subject: Subject, name: str, *args: Any) -> tuple[Any, ...] | None:
    """Calls a view that the contract may have; None if it has none of that kind."""
    abi = codec_of(subject.artifact.abi)
    if name not in abi:
        return None
    try:
        return abi.decode(name, subject.chain.call(subject.address, abi.encode(name, *args)))
    except (AbiError, CallReverted):
        return None


def _reverts_with_strings(subject: Subject) -> bool:
    """Whether calls about what does not exist all revert with a string."""
    stranger, names = subject.engine.accounts[1].address, set()
    for function, *args in (
        ("bookEvent", 1, 1),
        ("cancelEvent", 1),
        ("completeEvent", 1, []),
        ("withdrawPlatformFees",),
    ):
        try:
            subject.chain.call(subject.address, stake_abi().encode(function, *args), sender=stranger)
        except CallReverted as reverted:
            names.add(stake_abi().revert_reason(reverted.data).name)
    return names == {"Error"}


# What it opens


def _largest_run(subject: Subject) -> int:
    """Binary search: seats of the largest run that the contract opens.

    Doubles until a run is refused, then halves the distance. The stake is the contract's own.
    """
    if not _opens(subject, 1):
        return UNLIMITED  # whatever is wrong, it is not the number of seats
    taken, refused = 1, 2
    while _opens(subject, refused):
        taken, refused = refused, 2 * refused
        if refused > _MOST_SEATS:
            return UNLIMITED
    while refused - taken > 1:
        middle = (taken + refused) // 2
        taken, refused = (middle, refused) if _opens(subject, middle) else (taken, middle)
    return taken


def _opens(subject: Subject, seats: int) -> bool:
    host = subject.engine.accounts[1].address
    try:
        data, stake = _creation(subject, seats, subject.engine.now() + DAY)
        subject.chain.call(subject.address, data, sender=host, value=stake, block="pending")
    except (AbiError, CallReverted):
        return False
    return True


def _creation(subject: Subject, seats: int, start: int) -> tuple[bytes, int]:
    """Call data of a run's creation, and its stake in wei."""
    asked = stake_abi().encode("calculateRequiredStake", _PRICE, seats)
    (stake,) = stake_abi().decode("calculateRequiredStake", subject.chain.call(subject.address, asked))
    return stake_abi().encode("createEventRun", "trial", _PRICE, seats, start), stake


# What it pays


class _Completed(NamedTuple):
    """A run of two seats that was completed.

    Attributes:
        revenue: Payments of both attendees, in wei.
        host_stake: Wei.
        attendee_stake: Wei of each attendee.
        host_payout: What the host gets beside the own stake by the event, in wei.
        pushed: Wei that arrived with the completion, at the host and at the first attendee.
    """

    revenue: int
    host_stake: int
    attendee_stake: int
    host_payout: int
    pushed: tuple[int, int]


def _try_out(subject: Subject) -> _Trial:
    """Completes a run that both attend, and one that only the first of two attends."""
    try:
        all_attend, one_attends = _complete_run(subject, 2), _complete_run(subject, 1)
    except (AbiError, CallReverted, _Failed):
        return _Trial()
    fee = _bps(all_attend.revenue - all_attend.host_payout, all_attend.revenue)
    more = one_attends.host_payout - all_attend.host_payout
    credits_of = _credits(subject, (all_attend, one_attends), one_attends.attendee_stake)
    return _Trial(fee, _bps(more, one_attends.attendee_stake), *credits_of)


def _bps(part: int, whole: int) -> int | None:
    """Basis points; None if they are not whole or not a share."""
    if whole == 0 or part * BPS % whole or not 0 <= part <= whole:
        return None
    return part * BPS // whole


class _Failed(Exception):
    """The trial can't go on."""


def _complete_run(subject: Subject, attended: int) -> _Completed:
    """Opens a run of two seats, has two attendees book one each, and the owner complete it."""
    engine, abi = subject.engine, stake_abi()
    platform, host, *attendees = engine.accounts[:4]
    start = engine.now() + DAY
    data, host_stake = _creation(subject, 2, start)
    run_id = _logged(subject, host, data, host_stake, "EventRunCreated")["event_run_id"]
    cost = subject.chain.call(subject.address, abi.encode("calculateBookingCost", run_id, 1))
    payment, stake, total = abi.decode("calculateBookingCost", cost)
    book = abi.encode("bookEvent", run_id, 1)
    bookings = [_logged(subject, who, book, total, "BookingCreated")["booking_id"] for who in attendees]
    engine.set_next_timestamp(start)
    receivers = [host.address, attendees[0].address]
    before = [engine.w3.eth.get_balance(address) for address in receivers]
    complete = abi.encode("completeEvent", run_id, bookings[:attended])
    payout = _logged(subject, platform, complete, 0, "EventCompleted")["host_payout"]
    first, second = (engine.w3.eth.get_balance(address) - wei for address, wei in zip(receivers, before, strict=True))
    return _Completed(2 * payment, host_stake, stake, payout, (first, second))


def _logged(subject: Subject, sender: Any, data: bytes, value: int, event: str) -> dict[str, Any]:
    """Arguments of the event that a transaction must log."""
    receipt = subject.chain.transact(sender, subject.address, data, value)
    logged = [one for one in stake_abi().events(receipt.logs, subject.address) if one.name == event]
    if not receipt.ok or not logged:
        raise _Failed
    return logged[0].args


def _credits(subject: Subject, runs: tuple[_Completed, ...], forfeits: int) -> tuple[bool, bool]:
    """Whether payouts are credits, and whether the fees are.

    They are if nothing was pushed, and host, attendee and owner can withdraw exactly what they are due of both runs.

    Args:
        subject: The contract, on the chain as the runs left it.
        runs: The completed runs.
        forfeits: Stakes of no-shows, in wei.
    """
    if any(any(run.pushed) for run in runs):
        return False, False
    host_payouts = sum(run.host_payout for run in runs)
    due = (host_payouts + sum(run.host_stake for run in runs), sum(run.attendee_stake for run in runs))
    ways = WaysOut(subject.engine, subject.chain, subject.artifact.abi, subject.address, subject.account_abi)
    owner, *receivers = (Creditor(account, account.address) for account in subject.engine.accounts[:3])
    if any(_taken(ways, who, wei) != wei for who, wei in zip(receivers, due, strict=True)):
        return False, False
    fees = sum(run.revenue for run in runs) + forfeits - host_payouts
    pushed = ways.call(owner, stake_abi().encode("withdrawPlatformFees"))
    return True, pushed == 0 and _taken(ways, owner, fees) == fees


def _taken(ways: WaysOut, creditor: Creditor, wei: int) -> int:
    return sum(paid.wei for paid in ways.take(creditor, wei, range(1, 5)))
