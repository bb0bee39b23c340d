"""Whether money can still leave the contract: every open run closed, every credit withdrawn, whatever receivers do.

Exits are tried with calls, which change nothing. Those that need another time, or of which only balances show what
they paid, are tried on a snapshot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stakesim.evm.chain_spec import TRANSACTION_GAS_CAP
from stakesim.evm.errors import CallReverted
from stakesim.evm.required_abi import stake_abi
from stakesim.runner.causes import Cause
from stakesim.runner.observe import ContractState, RunView
from stakesim.runner.session import Session
from stakesim.runner.step import BlockedExit, WayOut
from stakesim.runner.ways_out import Creditor
from stakesim.scenario.actions import PLATFORM

_STRANGER = "0x" + "57" * 20


class _Exit(NamedTuple):
    """A call that lets money leave.

    Attributes:
        way: See `BlockedExit`.
        failure: Message if the call fails, without its reason.
        sender: Address that calls.
        data: Call data.
        locked: Wei that stay in the contract if it fails.
        run: The run that it closes; 0 for credits and fees.
        depends_on_host: Nobody but the run's host may take it.
    """

    way: WayOut
    failure: str
    sender: str
    data: bytes
    locked: int
    run: int = 0
    depends_on_host: bool = False


class _Tried(NamedTuple):
    """An exit, and why it failed; None if it did not."""

    exit: _Exit
    reason: str | None


def blocked_exits(session: Session, state: ContractState) -> list[BlockedExit]:
    """Tries every exit in a transaction of its own.

    Args:
        session: Of the scenario.
        state: The whole contract, as it is now.

    Returns:
        The exits that fail.
    """
    full = session.contract.full_interface
    tried = [*_try(session, _cancellations(session, state))]
    tried += _try(session, _withdrawals(session, state)) if full else ()
    blocked = () if full else _blocked_payments(session, state)
    if runs := [run for run in state.runs.values() if run.open]:
        tried += _closings(session, state, runs)
    return [*_blocked(tried), *blocked]


def _closings(session: Session, state: ContractState, runs: Sequence[RunView]) -> list[_Tried]:
    """Tries completion and expiry of open runs, each at its time."""
    tried: list[_Tried] = []
    snapshot = session.engine.snapshot()
    for run in sorted(runs, key=lambda run: run.start):
        if run.start > session.engine.now():
            session.engine.set_next_timestamp(run.start)
            session.engine.mine()
        if state.terms is None or _next_block_time(session) < run.start + state.terms.completion_grace:
            tried += _try(session, [_completion(session, state, run)])
    if state.terms is not None:
        all_expired = max(run.start for run in runs) + state.terms.completion_grace
        session.engine.set_next_timestamp(max(all_expired, session.engine.now() + 1))
        tried += _try(session, (_expiry(state, run) for run in runs))
    session.engine.revert(snapshot)
    return tried


def _next_block_time(session: Session) -> int:
    """Seconds since 1970; the time of the last action, if no block was mined for it."""
    return max(session.engine.now() + 1, session.clock.now)


def _cancellations(session: Session, state: ContractState) -> Iterator[_Exit]:
    """Of open runs whose grace is not over, by the platform.

    In a contract without the additions: by the host before the start, as it may allow no other cancellation.
    """
    now = _next_block_time(session)
    for run in state.runs.values():
        if not run.open:
            continue
        who, sender, full = "the platform", _platform(session, state), session.contract.full_interface
        if state.terms is not None and now >= run.start + state.terms.completion_grace:
            continue
        if not full:
            if run.host not in session.parties.addresses or run.start <= now:
                continue
            who, sender = "its host", session.parties.addresses[run.host]
        failure, data = f"run {run.id} can't be cancelled by {who}", stake_abi().encode("cancelEvent", run.id)
        yield _Exit("cancel", failure, sender, data, _held_for(state, run), run.id, depends_on_host=not full)


def _completion(session: Session, state: ContractState, run: RunView) -> _Exit:
    failure = f"run {run.id} can't be completed by the platform when everybody attended"
    attended = [booking.id for booking in state.active_bookings_of(run.id)]
    data = stake_abi().encode("completeEvent", run.id, attended)
    return _Exit("complete", failure, _platform(session, state), data, _held_for(state, run), run.id)


def _expiry(state: ContractState, run: RunView) -> _Exit:
    failure = f"run {run.id} can't be expired by anyone once its grace is over"
    return _Exit("expire", failure, _STRANGER, stake_abi().encode("expireEvent", run.id), _held_for(state, run), run.id)


def _withdrawals(session: Session, state: ContractState) -> Iterator[_Exit]:
    for party, credit in state.credits.items():
        if credit:
            failure = f"{party} can't withdraw a credit of {credit} wei to another account"
            data = stake_abi().encode("withdrawTo", _STRANGER)
            yield _Exit("credit", failure, session.parties.addresses[party], data, credit)
    if balance := state.platform_balance:
        failure, data = f"the platform can't withdraw its {balance} wei", stake_abi().encode("withdrawPlatformFees")
        yield _Exit("fees", failure, _platform(session, state), data, balance)


def _platform(session: Session, state: ContractState) -> str:
    """Address of the contract's owner."""
    owner = state.roles.owner if state.roles else PLATFORM
    return session.parties.addresses.get(owner, owner)


def _held_for(state: ContractState, run: RunView) -> int:
    """Wei that the contract holds for this run."""
    return run.host_stake + sum(booking.payment + booking.stake for booking in state.active_bookings_of(run.id))


def _try(session: Session, exits: Iterable[_Exit]) -> list[_Tried]:
    return [_Tried(each, _failure_reason(session, each)) for each in exits]


def _failure_reason(session: Session, tried: _Exit) -> str | None:
    """Calls the exit with all the gas that a transaction may have. Returns None if it succeeds."""
    try:
        session.chain.call(
            session.contract_address, tried.data, sender=tried.sender, gas=TRANSACTION_GAS_CAP, block="pending"
        )
    except CallReverted as reverted:
        if not reverted.data and "revert" not in str(reverted).lower():
            return str(reverted)
        return stake_abi().revert_reason(reverted.data).text
    return None


def _blocked(tried: Sequence[_Tried]) -> Iterator[BlockedExit]:
    still_open: dict[int, bool] = defaultdict(bool)
    for each, reason in tried:
        still_open[each.run] |= reason is None and not each.depends_on_host
    for each, reason in tried:
        if reason is not None:
            yield BlockedExit(
                f"{each.failure}: {reason}",
                each.locked,
                each.way,
                locks_run=each.run > 0 and not still_open[each.run],
                cause=Cause.OUT_OF_GAS if "gas" in reason.lower() else None,
            )


# A contract that has no view for what it owes: balances show what it pays


def _blocked_payments(session: Session, state: ContractState) -> list[BlockedExit]:
    """What people and platform can't get, on a snapshot, of what the model says that they are due."""
    with_key = session.parties.accounts
    due = {party: credit for party, credit in state.credits.items() if credit and party in with_key}
    if not due and not state.platform_balance:
        return []
    snapshot = session.engine.snapshot()
    all_closed = not any(run.open for run in state.runs.values())
    desk = _Desk(session, [*dict.fromkeys((*state.runs, *state.bookings))], all_closed)
    blocked = [shut for party, credit in due.items() for shut in desk.pay_credit(party, credit)]
    blocked += desk.pay_fees(_platform(session, state), state.platform_balance)
    session.engine.revert(snapshot)
    session.chain.take_receipts()
    return blocked


@dataclass(frozen=True)
class _Desk:
    """Takes out of the contract what it owes.

    Attributes:
        session: Of the scenario.
        ids: Of all runs and bookings.
        all_closed: No run is open, so that nothing is owed but credits and fees.
    """

    session: Session
    ids: Sequence[int]
    all_closed: bool

    def pay_credit(self, party: str, credit: int) -> Iterator[BlockedExit]:
        """Takes out a payout that was not pushed. With no run open, it must be all that can be taken out."""
        parties, ways = self.session.parties, self.session.ways_out
        is_contract = parties.is_contract(party)
        creditor = Creditor(parties.accounts[party], parties.addresses[party], is_contract)
        if self.all_closed and (paid := ways.take_too_much(creditor, credit, self.ids)):
            got, how = sum(one.wei for one in paid), ", then ".join(one.function for one in paid)
            message = f"{party} is due {credit} wei that were not pushed, and can get {got} by {how}"
            yield BlockedExit(message, credit, "credit", obtained=got, party=party)
            return
        paid = ways.take(creditor, credit, self.ids)
        if (got := sum(one.wei for one in paid)) != credit:
            how = f"by {', '.join(dict.fromkeys(one.function for one in paid))}" if paid else "as no function pays it"
            message = f"{party} is due {credit} wei that were not pushed, and can get {got} of them, {how}"
            yield BlockedExit(message, credit, "credit", obtained=got, party=party)

    def pay_fees(self, owner: str, balance: int) -> Iterator[BlockedExit]:
        """Takes out what the platform earned, as far as its owner is one of the parties."""
        name = self.session.parties.names().get(owner, owner)
        if not balance or name not in self.session.parties.accounts or self.session.parties.is_contract(name):
            return
        creditor = Creditor(self.session.parties.accounts[name], owner)
        ways = self.session.ways_out
        got = ways.call(creditor, stake_abi().encode("withdrawPlatformFees"))
        if self.session.contract.traits.fees_by_credit:
            got += sum(one.wei for one in ways.take(creditor, balance, self.ids))
        if got != balance:
            message = f"the platform is due {balance} wei of fees and forfeits, and can withdraw {got}"
            yield BlockedExit(message, balance, "fees", obtained=got, party=PLATFORM)
