"""A backend: each action is one call of its session, or goes past it where the scenario says so."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from stakesim.backend import BackendSession, Refused, Rows
from stakesim.evm.errors import AbiError, CallReverted
from stakesim.model.reference import ExpectedOutcome, State
from stakesim.runner.drivers.onchain import OnChain
from stakesim.runner.drivers.rows import checked
from stakesim.runner.network import Network
from stakesim.runner.step import ActualOutcome
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

USE_CASES: dict[type[Any], str] = {
    CreateRun: "create_run",
    Book: "book",
    CancelBooking: "cancel_booking",
    CancelRun: "cancel_run",
    Complete: "complete",
    Expire: "expire",
    Withdraw: "withdraw",
    WithdrawFees: "withdraw_fees",
}
_WITHDRAWALS = (Withdraw, WithdrawFees)
"""Anybody can make them without a backend, and no row changes."""


class BackendDriver:
    """See `stakesim.runner.drivers.Driver`."""

    def __init__(self, session: BackendSession, onchain: OnChain, network: Network) -> None:
        self._session, self._onchain, self._network = session, onchain, network
        self._runs: set[str] = set()
        self._bookings: set[str] = set()
        self._keys = count(1)
        self._at_work = False
        self._changed: list[str] = []  # runs that the backend is told of once it is done

    def perform(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        if expected.status == "skipped":
            return ActualOutcome("skipped")
        if isinstance(action, SetPrice | Wait):
            return ActualOutcome("ok")
        if isinstance(action, ForceEther):
            self._onchain.force_ether(action)
            return ActualOutcome("ok")
        if isinstance(action, CallFunction) or self._onchain.goes_direct(action):
            return self._past_the_backend(action, expected, model)
        use_case = self._use_case(action)
        if use_case is None:
            return self._onchain.send(action, expected, model)
        key = f"{action.do}-{next(self._keys)}" if action.retried or action.answer_lost else None
        outcome = self._ask(use_case, action, expected, model, key, action.answer_lost)
        if action.retried or (action.answer_lost and outcome.status != "ok"):
            again = self._ask(use_case, action, expected, model, key, False)
            outcome = outcome if outcome.status == "ok" else again
        while self._changed:
            self._tell(self._changed.pop(0))
        return outcome

    def rows(self) -> Rows | None:
        rows: Callable[[], Rows] | None = getattr(self._session, "rows", None)
        return checked(rows()) if rows is not None else None

    def lacks(self, action: Action) -> bool:
        if isinstance(action, _WITHDRAWALS) or type(action) not in USE_CASES or self._onchain.goes_direct(action):
            return False
        return self._use_case(action) is None

    def asks_backend(self, action: Action) -> bool:
        if type(action) not in USE_CASES or self._onchain.goes_direct(action):
            return False
        return self._use_case(action) is not None

    def _ask(
        self,
        use_case: Callable[..., None],
        action: Action,
        expected: ExpectedOutcome,
        model: State,
        key: str | None,
        lose_answer: bool,
    ) -> ActualOutcome:
        self._at_work = True
        try:
            with self._network.of_the_backend(lose_answer):
                self._call(use_case, action, expected, model, key)
        except Refused as refusal:
            args = self._onchain.named(refusal.arguments)
            return ActualOutcome(refusal.outcome, refusal.error, args, refusal.message)
        except (CallReverted, AbiError) as error:  # the library's own mean something else here
            raise RuntimeError(f"the backend raised {type(error).__name__}: {error}") from error
        finally:
            self._at_work = False
        return ActualOutcome("ok")

    def _use_case(self, action: Action) -> Callable[..., None] | None:
        return getattr(self._session, USE_CASES[type(action)], None)

    def _call(
        self, use_case: Callable[..., None], action: Action, expected: ExpectedOutcome, model: State, key: str | None
    ) -> None:
        accounts, addresses = self._onchain.parties.accounts, self._onchain.parties.addresses
        who: dict[str, Any] = {
            "key": key,
            "by": expected.actor or PLATFORM,
            "signer": None if expected.signer in (None, PLATFORM) else accounts[expected.signer],
        }
        match action:
            case CreateRun():
                start = model.epoch + action.starts
                use_case(action.run, price_inr=action.price_inr, seats=action.seats, starts_at=start, **who)
                self._runs.add(action.run)
            case Book():
                use_case(action.booking, run=action.run, seats=action.seats, **who)
                self._bookings.add(action.booking)
            case CancelBooking():
                use_case(action.booking, **who)
            case CancelRun() | Expire():
                use_case(action.run, **who)
            case Complete():
                use_case(action.run, attended=[b for b in action.attended if b in self._bookings], **who)
            case Withdraw():
                to = addresses[action.to] if action.to else None
                use_case(by=who["by"], signer=accounts[action.by], to=to, key=key)
            case WithdrawFees():
                use_case(**who)
            case _:
                raise TypeError(f"no use case carries out {action!r}")

    def _past_the_backend(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        """Then the backend is told, as something that watches the chain would."""
        outcome = self._onchain.send(action, expected, model)
        run = getattr(action, "run", None)
        if isinstance(action, CancelBooking):
            run = model.bookings[action.booking].run
        if outcome.status == "ok" and run in self._runs:
            if self._at_work:
                self._changed.append(run)
            else:
                self._tell(run)
        return outcome

    def _tell(self, run: str) -> None:
        refresh: Callable[[str], None] | None = getattr(self._session, "refresh", None)
        if refresh is not None:
            refresh(run)
