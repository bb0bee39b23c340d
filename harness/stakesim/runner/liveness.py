"""Whether money can still leave: every open run closed, every credit withdrawn, whatever receivers do.

Asked on a snapshot with calls, which a node answers without sending anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from stakesim.evm.chain_spec import TRANSACTION_GAS_CAP
from stakesim.evm.errors import CallReverted
from stakesim.evm.required_abi import stake_abi
from stakesim.runner.environment import Session
from stakesim.runner.observe import ContractState, RunView
from stakesim.scenario.actions import PLATFORM

_STRANGER = "0x" + "57" * 20


class Exit(NamedTuple):
    """said: what does not hold, where it is shut. wei: what stays locked then."""

    said: str
    sender: str
    data: bytes
    wei: int


def blocked_exits(session: Session, state: ContractState) -> list[tuple[str, int]]:
    """A sentence for each exit that is shut, and the wei behind it; none, when everything can still be closed and
    withdrawn, in one transaction each."""
    blocked = [*_shut(session, _cancellations(session, state)), *_shut(session, _withdrawals(session, state))]
    runs = [run for run in state.runs.values() if run.open]
    if not runs:
        return blocked
    snapshot = session.engine.snapshot()
    for run in sorted(runs, key=lambda run: run.start):
        if run.start > session.engine.now():
            session.engine.set_next_timestamp(run.start)
            session.engine.mine()
        if _next_block(session) < _deadline(state, run):
            blocked += _shut(session, [_completion(session, state, run)])
    if session.contract.full_interface:
        last = max(run.start for run in runs) + state.terms[4]
        session.engine.set_next_timestamp(max(last, session.engine.now() + 1))
        blocked += _shut(session, (_expiry(session, state, run) for run in runs))
    session.engine.revert(snapshot)
    return blocked


def _next_block(session: Session) -> int:
    """Its time: that of the last action, where nothing was mined for it."""
    return max(session.engine.now() + 1, session.clock.now)


def _deadline(state: ContractState, run: RunView) -> float:
    """The first second at which it can't be completed any more."""
    return run.start + state.terms[4] if state.terms else float("inf")


def _cancellations(session: Session, state: ContractState) -> Iterator[Exit]:
    """By the platform; in a contract without the additions, by the host before the start, as that may be all that it
    lets cancel."""
    for id, run in state.runs.items():
        if not run.open:
            continue
        by, sender = "the platform", _platform(session)
        if not session.contract.full_interface:
            if run.host not in session.parties.addresses or run.start <= _next_block(session):
                continue
            by, sender = "its host", session.parties.addresses[run.host]
        said = f"run {id} can't be cancelled by {by}"
        yield Exit(said, sender, stake_abi().encode("cancelEvent", id), _behind(state, run))


def _completion(session: Session, state: ContractState, run: RunView) -> Exit:
    said = f"run {run.id} can't be completed by the platform when all have come"
    attended = [booking.id for booking in state.active_bookings_of(run.id)]
    return Exit(
        said,
        _platform(session),
        stake_abi().encode("completeEvent", run.id, attended),
        _behind(state, run),
    )


def _expiry(session: Session, state: ContractState, run: RunView) -> Exit:
    said = f"run {run.id} can't be expired by anyone once its grace is over"
    return Exit(said, _STRANGER, stake_abi().encode("expireEvent", run.id), _behind(state, run))


def _withdrawals(session: Session, state: ContractState) -> Iterator[Exit]:
    for party, credit in state.credits.items():
        if credit and session.contract.full_interface:
            who = f"{party} can't withdraw a credit of {credit} wei to another account"
            yield Exit(who, session.parties.addresses[party], stake_abi().encode("withdrawTo", _STRANGER), credit)
    if wei := state.platform_balance:
        shut = f"the platform can't withdraw its {wei} wei"
        yield Exit(shut, _platform(session), stake_abi().encode("withdrawPlatformFees"), wei)


def _platform(session: Session) -> str:
    return session.parties.addresses[PLATFORM]


def _behind(state: ContractState, run: RunView) -> int:
    """Wei that are in the contract for this run."""
    return run.host_stake + sum(b.payment + b.stake for b in state.active_bookings_of(run.id))


def _shut(session: Session, exits: Iterable[Exit]) -> Sequence[tuple[str, int]]:
    return [(f"{exit.said}: {why}", exit.wei) for exit in exits if (why := _why_not(session, exit))]


def _why_not(session: Session, exit: Exit) -> str | None:
    """Called with all the gas that a transaction may have; None where it succeeds."""
    try:
        session.chain.call(
            session.contract_address, exit.data, sender=exit.sender, gas=TRANSACTION_GAS_CAP, block="pending"
        )
    except CallReverted as reverted:
        if not reverted.data and "revert" not in str(reverted).lower():
            return str(reverted)
        return stake_abi().revert_reason(reverted.data).text
    return None
