"""Whether money can still leave the contract: every open run closed, every credit withdrawn, whatever receivers do.

Exits are tried with calls, which change nothing. Those that need another time are tried on a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from stakesim.evm.chain_spec import TRANSACTION_GAS_CAP
from stakesim.evm.errors import CallReverted
from stakesim.evm.required_abi import stake_abi
from stakesim.runner.causes import Cause
from stakesim.runner.observe import ContractState, RunView
from stakesim.runner.session import Session
from stakesim.runner.step import BlockedExit
from stakesim.scenario.actions import PLATFORM

_STRANGER = "0x" + "57" * 20


class _Exit(NamedTuple):
    """A call that lets money leave.

    Attributes:
        failure: Message if the call fails, without its reason.
        sender: Address that calls.
        data: Call data.
        locked: Wei that stay in the contract if it fails.
    """

    failure: str
    sender: str
    data: bytes
    locked: int


def blocked_exits(session: Session, state: ContractState) -> list[BlockedExit]:
    """Tries every exit in a transaction of its own.

    Args:
        session: Of the scenario.
        state: The whole contract, as it is now.

    Returns:
        The exits that fail.
    """
    blocked = [*_blocked(session, _cancellations(session, state)), *_blocked(session, _withdrawals(session, state))]
    runs = [run for run in state.runs.values() if run.open]
    if not runs:
        return blocked
    snapshot = session.engine.snapshot()
    for run in sorted(runs, key=lambda run: run.start):
        if run.start > session.engine.now():
            session.engine.set_next_timestamp(run.start)
            session.engine.mine()
        if state.terms is None or _next_block_time(session) < run.start + state.terms.completion_grace:
            blocked += _blocked(session, [_completion(session, state, run)])
    if state.terms is not None:
        all_expired = max(run.start for run in runs) + state.terms.completion_grace
        session.engine.set_next_timestamp(max(all_expired, session.engine.now() + 1))
        blocked += _blocked(session, (_expiry(state, run) for run in runs))
    session.engine.revert(snapshot)
    return blocked


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
        who, sender = "the platform", _platform(session, state)
        if state.terms is not None and now >= run.start + state.terms.completion_grace:
            continue
        if not session.contract.full_interface:
            if run.host not in session.parties.addresses or run.start <= now:
                continue
            who, sender = "its host", session.parties.addresses[run.host]
        failure = f"run {run.id} can't be cancelled by {who}"
        yield _Exit(failure, sender, stake_abi().encode("cancelEvent", run.id), _held_for(state, run))


def _completion(session: Session, state: ContractState, run: RunView) -> _Exit:
    failure = f"run {run.id} can't be completed by the platform when everybody attended"
    attended = [booking.id for booking in state.active_bookings_of(run.id)]
    data = stake_abi().encode("completeEvent", run.id, attended)
    return _Exit(failure, _platform(session, state), data, _held_for(state, run))


def _expiry(state: ContractState, run: RunView) -> _Exit:
    failure = f"run {run.id} can't be expired by anyone once its grace is over"
    return _Exit(failure, _STRANGER, stake_abi().encode("expireEvent", run.id), _held_for(state, run))


def _withdrawals(session: Session, state: ContractState) -> Iterator[_Exit]:
    for party, credit in state.credits.items():
        if credit and session.contract.full_interface:
            failure = f"{party} can't withdraw a credit of {credit} wei to another account"
            yield _Exit(failure, session.parties.addresses[party], stake_abi().encode("withdrawTo", _STRANGER), credit)
    if balance := state.platform_balance:
        failure = f"the platform can't withdraw its {balance} wei"
        yield _Exit(failure, _platform(session, state), stake_abi().encode("withdrawPlatformFees"), balance)


def _platform(session: Session, state: ContractState) -> str:
    """Address of the contract's owner."""
    owner = state.roles.owner if state.roles else PLATFORM
    return session.parties.addresses.get(owner, owner)


def _held_for(state: ContractState, run: RunView) -> int:
    """Wei that the contract holds for this run."""
    return run.host_stake + sum(booking.payment + booking.stake for booking in state.active_bookings_of(run.id))


def _blocked(session: Session, exits: Iterable[_Exit]) -> Sequence[BlockedExit]:
    return [
        BlockedExit(f"{tried.failure}: {reason}", tried.locked, Cause.OUT_OF_GAS if "gas" in reason.lower() else None)
        for tried in exits
        if (reason := _failure_reason(session, tried))
    ]


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
