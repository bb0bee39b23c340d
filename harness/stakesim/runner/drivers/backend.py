"""A backend: each action is a call of a use case of its session, or goes past it where the scenario says so."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias, TypedDict

from eth_account.signers.local import LocalAccount

from stakesim.backend import BackendSession, Refused, Rows
from stakesim.evm.errors import AbiError, CallReverted
from stakesim.model.state import ExpectedOutcome, State
from stakesim.runner.drivers.onchain import OnChain
from stakesim.runner.drivers.rows import checked_rows
from stakesim.runner.network import Network
from stakesim.runner.reorganisation import Reorganisation
from stakesim.runner.step import ActualOutcome
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    Withdraw,
    WithdrawFees,
)

UseCase: TypeAlias = Callable[..., None]
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
"""Methods of `BackendSession` by action."""
_WITHDRAWALS = (Withdraw, WithdrawFees)
"""Anybody can send them without a backend, and no row changes."""


class _Caller(TypedDict):
    """Who calls a use case: the actor, their key where they sign themselves, and the idempotency key."""

    by: str
    signer: LocalAccount | None
    key: str | None


class BackendDriver:
    """Drives a backend; see `stakesim.runner.drivers.Driver`."""

    def __init__(
        self, session: BackendSession, onchain: OnChain, network: Network, reorganisation: Reorganisation
    ) -> None:
        """Drives the backend of one scenario.

        Args:
            session: The backend, opened for the scenario.
            onchain: Sends what goes past the backend.
            network: Between the backend and its node.
            reorganisation: What `ScenarioSetup.reorganise` of the session is.
        """
        self._session, self._onchain, self._network = session, onchain, network
        self._reorganisation = reorganisation
        self.takes_payments: bool = getattr(session, "takes_payments", False)
        self._known_runs: set[str] = set()
        self._known_bookings: set[str] = set()
        self._key_numbers = count(1)
        self._is_working = False
        self._changed_runs: list[str] = []
        """Runs that were changed past the backend while it was working; it reads them afterwards."""

    def perform(self, action: Action, expected: ExpectedOutcome, model: State) -> ActualOutcome:
        """See `Driver.perform`."""
        outcome = self._onchain.perform_without_backend(action, expected, model)
        if outcome is not None:
            if type(action) in USE_CASES and outcome.status == "ok":
                self._note_change(action, model)
            return outcome
        use_case = self._use_case(action)
        if use_case is None:
            return self._onchain.send(action, expected, model)
        outcome = self._call_as_client(use_case, action, expected, model)
        while self._changed_runs:
            self._refresh(self._changed_runs.pop(0))
        return outcome

    def rows(self) -> Rows | None:
        """See `Driver.rows`."""
        rows: Callable[[], Rows] | None = getattr(self._session, "rows", None)
        return checked_rows(rows()) if rows is not None else None

    def is_unsupported(self, action: Action) -> bool:
        """See `Driver.is_unsupported`."""
        if isinstance(action, _WITHDRAWALS) or type(action) not in USE_CASES or self._onchain.goes_direct(action):
            return False
        reorganised = getattr(action, "reorganised", None)
        if reorganised and not getattr(self._session, "survives_reorganisations", False):
            return True
        return self._use_case(action) is None

    def uses_backend(self, action: Action) -> bool:
        """See `Driver.uses_backend`."""
        if type(action) not in USE_CASES or self._onchain.goes_direct(action):
            return False
        return self._use_case(action) is not None

    def _use_case(self, action: Action) -> UseCase | None:
        return getattr(self._session, USE_CASES[type(action)], None)

    def _call_as_client(
        self, use_case: UseCase, action: Action, expected: ExpectedOutcome, model: State
    ) -> ActualOutcome:
        """Calls the use case; again with the same key if the client retries, or took a lost answer for a failure.

        Returns:
            What the client is told in the end, if the backend says that it answers again what it answered first; else
            that it is done if it was done the first time. A withdrawal has no key, so it finds nothing left.
        """
        retried, answer_lost = getattr(action, "retried", False), getattr(action, "answer_lost", False)
        key = f"{action.do}-{next(self._key_numbers)}" if retried or answer_lost else None
        with self._reorganisation.planned(getattr(action, "reorganised", None)):
            outcome = self._call(use_case, action, expected, model, key, lose_answer=answer_lost)
            if retried or (answer_lost and outcome.status != "ok"):
                second = self._call(use_case, action, expected, model, key, lose_answer=False)
                outcome = outcome if outcome.status == "ok" and not self._answers_again(action) else second
        return outcome

    def _answers_again(self, action: Action) -> bool:
        return getattr(self._session, "answers_again", False) and not isinstance(action, _WITHDRAWALS)

    def _call(
        self,
        use_case: UseCase,
        action: Action,
        expected: ExpectedOutcome,
        model: State,
        key: str | None,
        *,
        lose_answer: bool,
    ) -> ActualOutcome:
        self._is_working = True
        try:
            with self._network.backend_requests(lose_answer=lose_answer):
                self._pass_arguments(use_case, action, expected, model, key)
        except Refused as refusal:
            args = self._onchain.with_party_names(refusal.arguments)
            return ActualOutcome(refusal.outcome, refusal.error, args, refusal.message)
        except (CallReverted, AbiError) as error:  # the runner takes these for failures of the contract's views
            raise RuntimeError(f"the backend raised {type(error).__name__}: {error}") from error
        finally:
            self._is_working = False
        return ActualOutcome("ok")

    def _pass_arguments(
        self, use_case: UseCase, action: Action, expected: ExpectedOutcome, model: State, key: str | None
    ) -> None:
        """Calls the use case with what `BackendSession` says that it takes."""
        accounts, addresses = self._onchain.parties.accounts, self._onchain.parties.addresses
        signer = None if expected.signer in (None, PLATFORM) else accounts[expected.signer]
        caller: _Caller = {"key": key, "by": expected.actor or PLATFORM, "signer": signer}
        match action:
            case CreateRun():
                start = model.epoch + action.starts
                terms = {"price_inr": action.price_inr, "seats": action.seats, "starts_at": start}
                use_case(action.run, **terms, **caller, **self._payment(action))
                self._known_runs.add(action.run)
            case Book():
                use_case(action.booking, run=action.run, seats=action.seats, **caller, **self._payment(action))
                self._known_bookings.add(action.booking)
            case CancelBooking():
                use_case(action.booking, **caller)
            case CancelRun() | Expire():
                use_case(action.run, **caller)
            case Complete():
                use_case(action.run, attended=[b for b in action.attended if b in self._known_bookings], **caller)
            case Withdraw():
                to = addresses[action.to] if action.to else None
                use_case(by=caller["by"], signer=accounts[action.by], to=to, key=key)
            case WithdrawFees():
                use_case(**caller)
            case _:
                raise TypeError(f"no use case carries out {action!r}")

    def _payment(self, action: CreateRun | Book) -> dict[str, str]:
        """How the person pays, for a session that takes payments."""
        return {"payment": action.payment} if self.takes_payments else {}

    def _note_change(self, action: Action, model: State) -> None:
        """Makes the backend read a run of its own that was changed past it, as a watcher of the chain would."""
        run = getattr(action, "run", None)
        if isinstance(action, CancelBooking):
            run = model.bookings[action.booking].run
        if run not in self._known_runs:
            return
        if self._is_working:
            self._changed_runs.append(run)
        else:
            self._refresh(run)

    def _refresh(self, run: str) -> None:
        refresh: Callable[[str], None] | None = getattr(self._session, "refresh", None)
        if refresh is not None:
            refresh(run)
