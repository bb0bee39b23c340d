"""Carries out one action of a scenario: through the backend's services, by call or over HTTP, or past them where the
action says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.core.errors import AppError, ContractRejected, InvalidRequest, PriceError
from app.services import node
from app.services.codec import Call, event_stake
from app.services.node_errors import decode_revert
from eth_account.signers.local import LocalAccount
from web3.exceptions import ContractLogicError

from stakesim.runner.step import Observed
from stakesim.runner.world import EPOCH, GAS, World, utc
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Book,
    CallFunction,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    SetPrice,
    Wait,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.model import Outcome, State, came_ids

if TYPE_CHECKING:
    from stakesim.runner.http import Api


def perform(world: World, action: Action, expected: Outcome, model: State) -> Observed:
    """Carries the action out and says what came of it.

    expected: for who signs, and what a direct sender sends. model: the state before, for the ids on chain.
    """
    if expected.status == "skipped":
        return Observed("skipped")
    if isinstance(action, SetPrice | Wait):
        return Observed("ok")
    try:
        if isinstance(action, ForceEther):
            world.force_ether(world.cast.accounts[action.by], action.wei)
        elif _goes_direct(world, action):
            return _direct(world, action, expected, model)
        elif world.api is not None and expected.signer == PLATFORM and isinstance(action, world.api.offers):
            _through_api(world.api, world, action, expected, model)
        else:
            _through_services(world, action, expected)
    except ContractRejected as no:
        return Observed(no.outcome, no.name, _named(world, no.args), no.message)
    except PriceError as no:
        return Observed("rejected", "PriceError", (), no.message)
    except AppError as no:
        return Observed("rejected", no.code, (), no.message)
    return Observed("ok")


def _goes_direct(world: World, action: Any) -> bool:
    """A hostile contract's withdrawal, too: the backend holds no key that could sign for it."""
    by = world.cast.actors.get(action.by)
    return (
        isinstance(action, CallFunction)
        or action.direct
        or (isinstance(action, Withdraw) and by is not None and by.is_contract)
    )


def _through_api(api: Api, world: World, action: Action, expected: Outcome, model: State) -> None:
    starts_at = utc(EPOCH + action.starts).isoformat() if isinstance(action, CreateRun) else None
    try:
        api.perform(world, action, expected.actor or PLATFORM, model, starts_at)
    except InvalidRequest:
        _through_services(world, action, expected)  # which refuse it too, in the words of the contract
        raise


def _through_services(world: World, action: Action, expected: Outcome) -> None:
    signer = None if expected.signer in (None, PLATFORM) else world.cast.accounts[expected.signer]
    match action:
        case CreateRun():
            host, experience, starts_at = world.cast.users[action.by], world.experience, utc(EPOCH + action.starts)
            run = world.event_runs.create(host, experience, starts_at, action.seats, action.price_inr, signer)
            world.run_rows[action.run] = run.id
        case Book():
            user = world.cast.users[action.by]
            booking = world.bookings.book(world.run_rows[action.run], user, action.seats, signer)
            world.booking_rows[action.booking] = booking.id
        case CancelBooking():
            world.bookings.cancel(world.booking_rows[action.booking], signer)
        case CancelRun():
            world.event_runs.cancel(world.run_rows[action.run], signer)
        case Complete():
            came = [world.booking_rows[label] for label in action.came if label in world.booking_rows]
            world.event_runs.complete(world.run_rows[action.run], came, signer)
        case Expire():
            world.event_runs.expire(world.run_rows[action.run], signer)
        case Withdraw():
            to = world.cast.addresses[action.to] if action.to else None
            world.chain.withdraw_onchain(world.cast.accounts[action.by], to)
        case WithdrawFees():
            world.chain.withdraw_platform_fees_onchain(signer)
        case _:
            raise TypeError(f"nothing carries out {action!r}")


# ------------------------------------------------------------------------------------------- past the backend


def _direct(world: World, action: Any, expected: Outcome, model: State) -> Observed:
    """Sends the action with the actor's own key and with gas enough, so that a failing one is mined and reverts; then
    brings the database's rows to what the contract says, as something that watches the chain would."""
    call = _call(world, action, expected, model)
    name = expected.actor or PLATFORM
    by, actor = world.cast.accounts[name], world.cast.actors.get(name)
    value = expected.value
    if actor is not None and actor.is_contract:
        call, value = _through(world, world.cast.addresses[name], call, value), 0
    receipt = world.transact(by, call.to, call.data, value)
    if receipt["status"] != 1:
        return _reverted(world, call, by, value, receipt["blockNumber"])
    run = getattr(action, "run", None) or (
        model.bookings[action.booking].run if isinstance(action, CancelBooking) else None
    )
    if run in world.run_rows:
        world.event_runs.refresh(world.run_rows[run])
    return Observed("ok")


def _call(world: World, action: Action, expected: Outcome, model: State) -> Call:
    def call(function: str, *args: Any) -> Call:
        return event_stake().call(world.chain.address, function, *args)

    match action:
        case CreateRun():
            return call("createEventRun", str(world.experience), expected.price, action.seats, EPOCH + action.starts)
        case Book():
            return call("bookEvent", model.runs[action.run].id, action.seats)
        case CancelBooking():
            return call("cancelBooking", model.bookings[action.booking].id)
        case CancelRun():
            return call("cancelEvent", model.runs[action.run].id)
        case Complete():
            return call("completeEvent", model.runs[action.run].id, came_ids(model, action))
        case Expire():
            return call("expireEvent", model.runs[action.run].id)
        case Withdraw(to=None):
            return call("withdraw")
        case Withdraw(to=str(to)):
            return call("withdrawTo", world.cast.addresses[to])
        case WithdrawFees():
            return call("withdrawPlatformFees")
        case CallFunction():
            addresses = world.cast.addresses
            args = [addresses.get(arg, arg) if isinstance(arg, str) else arg for arg in action.args]
            return world.codec.call(world.chain.address, action.function, *args)
        case _:
            raise TypeError(f"{action!r} is no call of the contract")


def _through(world: World, puppet: Any, call: Call, value: int) -> Call:
    """The same call, made and paid for by a hostile contract at its controller's command."""
    wrapped = world.puppet.call(puppet, "execute", call.to, value, call.data)
    return wrapped._replace(codec=event_stake())


def _reverted(world: World, call: Call, by: LocalAccount, value: int, block: int) -> Observed:
    try:
        node.call(world.engine.w3, call.to, call.data, block, sender=by.address, value=value, gas=GAS)
    except ContractLogicError as error:
        if revert := decode_revert(error, call.codec):
            return Observed("reverted", revert.name, _named(world, revert.args), revert.reason)
    return Observed("reverted", "Unknown", (), "the node does not say why")


def _named(world: World, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """An error's arguments, with accounts called by their party."""
    names = world.cast.names()
    return tuple(names.get(arg, arg) if isinstance(arg, str) else arg for arg in args)
