"""Carries out actions through the driver, and observes what each does to model, chain, events and database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple, cast

from stakesim.evm.abi import Event, Log
from stakesim.evm.client import TransactionReceipt
from stakesim.evm.errors import CannotPay
from stakesim.evm.required_abi import stake_abi
from stakesim.model.rates import current_rate
from stakesim.model.reference import apply
from stakesim.model.rules import CONTRACT, NOBODY
from stakesim.model.state import ExpectedOutcome, RefusedError, Run, State
from stakesim.model.transfers import orders
from stakesim.model.views import ZERO_ADDRESS
from stakesim.runner.event_replay import EventReplay
from stakesim.runner.gas_budget import gas_budget
from stakesim.runner.liveness import blocked_exits
from stakesim.runner.narrative import format_wei
from stakesim.runner.network import PendingTransaction
from stakesim.runner.observe import ContractState
from stakesim.runner.session import Session
from stakesim.runner.step import ActualOutcome, MinedTransaction, Step
from stakesim.runner.views import SAW, stale_views, wrong_views
from stakesim.scenario.actions import (
    PLATFORM,
    Action,
    CallFunction,
    CancelRun,
    Complete,
    Expire,
    SetIds,
    Wait,
    named_addresses,
)
from stakesim.scenario.administration import Administration


class TimedAction(NamedTuple):
    """An action with time and market price.

    Attributes:
        action: The action.
        time: Time of its block, in seconds since 1970.
        market_rate: The market's INR per ETH at that time.
    """

    action: Action
    time: int
    market_rate: Decimal


def _nothing() -> None:
    pass


class Observer:
    """Carries out the actions of one scenario one by one, and makes a `Step` of each.

    Attributes:
        session: The scenario's contract, accounts, driver and clock.
        model: State of the model after the last action.
    """

    def __init__(self, session: Session, model: State, *, has_gas_budgets: bool) -> None:
        """Reads the contract's state at the start of the scenario.

        Args:
            session: The scenario's contract, accounts, driver and clock.
            model: The model's initial state.
            has_gas_budgets: The contract is the packaged `EventStake`, which has gas budgets.
        """
        self.session, self.model, self._has_gas_budgets = session, model, has_gas_budgets
        self._initial = self._state = session.reader.read(None, (), (), (), list(session.parties.addresses))
        self._hostile = [name for name, actor in model.actors.items() if actor.is_contract]
        addresses = {**session.parties.addresses, NOBODY: ZERO_ADDRESS, CONTRACT: session.contract_address}
        self._names = {address: name for name, address in addresses.items()}
        self._event_names = {item["name"] for item in session.contract.artifact.abi if item["type"] == "event"}
        self._replay = EventReplay()
        self._replay.replay(self._decode(session.deployment_logs), 0)
        self._gas_paid: Counter[str] = Counter()
        self._run_ids: set[int] = set()
        self._booking_ids: set[int] = set()

    def can_stay_pending(self, action: Action) -> bool:
        """Whether the action's transaction waits in the mempool until the next action's is sent."""
        return getattr(action, "pending", False) and self.session.network is not None

    def step(
        self,
        timed: TimedAction,
        *,
        last: bool,
        actual: ActualOutcome | None = None,
        after_perform: Callable[[], None] = _nothing,
        reads_rows: bool = True,
    ) -> Step:
        """Carries out one action and observes its effects.

        Args:
            timed: The action.
            last: It is the scenario's last: the whole contract is read, and every exit is tried.
            actual: Its outcome if that is known already; then nothing is carried out.
            after_perform: Called after the action was carried out, before anything is read.
            reads_rows: False while the backend handles a request, when its rows can't be compared.

        Raises:
            CannotPay: The sender does not have the wei. Then nothing was done.
            EngineError: The engine can't do what the action needs.
            Exception: Whatever the system under test raises.
        """
        self._meet(named_addresses(timed.action) - self._names.keys())
        if isinstance(timed.action, SetIds):
            self._replay.set_ids(timed.action.runs, timed.action.bookings)
        model_before, model, expected, actual = self._perform(timed, actual, after_perform)
        self.model, before = model, self._state
        receipts = self.session.chain.take_receipts()
        if any(script.call for script in model_before.receivers.values()):
            model, expected = self._with_reentries(model_before, timed, expected, receipts)
            self.model = model
        transactions = [self._record(receipt, timed.time) for receipt in receipts]
        self._update_state(timed.action, expected, transactions, model_before if actual.failed else model, last=last)
        if isinstance(timed.action, CallFunction):
            model = self.model = self._with_actual_roles(model)
        events = tuple(event for event in expected.events if event[0] in self._event_names)
        return Step(
            action=timed.action,
            expected=replace(expected, events=events),
            actual=actual,
            transactions=transactions,
            model_before=model_before,
            model=model,
            initial=self._initial,
            before=before,
            after=self._state,
            replay=self._replay,
            rows=self.session.driver.rows() if reads_rows else None,
            gas_paid=self._gas_paid,
            gas_budget=gas_budget(timed.action, before, model_before) if self._has_gas_budgets else None,
            blocked_exits=blocked_exits(self.session, self._state) if last else (),
            wrong_views=[
                *stale_views(self.session, model_before, receipts),
                *(wrong_views(self.session, model) if last else ()),
            ],
            has_specified_errors=self.session.contract.has_specified_errors,
        )

    def _meet(self, addresses: set[str]) -> None:
        """Makes addresses parties by which nobody signs: the contract may pay them from now on."""
        if not addresses:
            return
        named = {address: address for address in sorted(addresses)}
        self._names.update(named)
        self.session.parties.addresses.update(named)
        read = self.session.reader.read(
            self._state, (), (), named.keys(), named.keys(), terms_and_lists=False, roles=False
        )
        self._state = replace(read, credits={**dict.fromkeys(named, 0), **read.credits})
        self._initial = replace(self._initial, wallets={**read.wallets, **self._initial.wallets})

    def _perform(
        self, timed: TimedAction, actual: ActualOutcome | None, after_perform: Callable[[], None]
    ) -> tuple[State, State, ExpectedOutcome, ActualOutcome]:
        """Carries out an action in the model and in the system under test.

        Returns:
            The model before and after it, and its expected and actual outcome.
        """
        model_before = self.model
        model, expected = self._apply(timed)
        if actual is None:
            self._check_can_pay(timed.action, expected)
            self._set_time_and_price(model, timed, sends=expected.signer is not None)
            actual = self.session.driver.perform(timed.action, expected, model_before)
            after_perform()
            if self.model is not model_before:  # a pending transaction was mined before this one
                model_before = self.model
                model, expected = self._apply(timed)
        if expected.optional and actual.failed:
            refusal = RefusedError(cast(Any, actual.error), *actual.args)
            model, _ = apply(model_before, timed.action, timed.time, timed.market_rate, refusal)
            expected = ExpectedOutcome(
                "rejected", expected.actor, expected.signer, cast(Any, actual.error), actual.args
            )
        return model_before, model, expected, actual

    def _with_reentries(
        self, model: State, timed: TimedAction, expected: ExpectedOutcome, receipts: Sequence[TransactionReceipt]
    ) -> tuple[State, ExpectedOutcome]:
        """Carries out the action in the model once more: whether receivers' calls succeeded is seen on chain.

        Returns:
            The model after it, and the outcome that it must have.
        """
        done: dict[str, list[bool | None]] = {}
        for log in (log for receipt in receipts for log in receipt.logs):
            name = self._names.get(log.address, "")
            if name in model.receivers and log.topics[0] != SAW:
                done.setdefault(name, []).append(bool(int.from_bytes(log.data, "big")))
            for event in stake_abi().events([log], self.session.contract_address):
                if event.name == "PaymentDeferred" and (name := self._names.get(event.args["receiver"], "")):
                    done.setdefault(name, []).append(None)
        if expected.status == "rejected" and expected.optional:
            return self.model, expected
        as_told: tuple[State, ExpectedOutcome] | None = None
        for order in orders(done) if any(map(any, done.values())) else (done,):
            reentries = {name: iter(each) for name, each in order.items()}
            result = apply(model, timed.action, timed.time, timed.market_rate, reentries=reentries)
            as_told = as_told or result
            if result[1].wrong_reentries:
                return result
        assert as_told is not None
        return as_told

    def _check_can_pay(self, action: Action, expected: ExpectedOutcome) -> None:
        """Raises `CannotPay` if the wei that the action sends are more than its sender has."""
        is_sent = expected.status == "ok" or getattr(action, "direct", False)
        if not is_sent or expected.signer is None:
            return
        wallet = self._state.wallets[expected.signer]
        if expected.value > wallet:
            what = action.do.replace("_", " ")
            raise CannotPay(
                f"{expected.signer} has {format_wei(wallet)}, and {what} sends {format_wei(expected.value)}: "
                "lower the amount, the price or the seats"
            )

    def _apply(self, timed: TimedAction) -> tuple[State, ExpectedOutcome]:
        return apply(self.model, timed.action, timed.time, timed.market_rate)

    def steps_with_pending(self, pending: TimedAction, timed: TimedAction, *, last: bool) -> list[Step]:
        """Carries out an action while the transaction of the one before it waits in the mempool.

        The pending transaction is mined when the node receives the action's, or rejected if that one replaces it. If
        the action sends nothing, a `Wait` takes the place of the pending action.

        Args:
            pending: The action whose transaction waits.
            timed: The action that is carried out meanwhile.
            last: `timed` is the scenario's last action.

        Returns:
            The steps of both actions.

        Raises:
            EngineError: The engine can't do what an action needs.
            Exception: Whatever the system under test raises.
        """
        network = self.session.network
        assert network is not None
        steps: list[Step] = []
        errors: list[Exception] = []

        def mine(actual: ActualOutcome | None = None) -> None:
            """Called by the network within a request of the backend."""
            try:
                step = self.step(pending, last=False, actual=actual, reads_rows=False)
                # copies of what the step of `timed` will change
                steps.append(replace(step, replay=deepcopy(step.replay), gas_paid=dict(step.gas_paid)))
                self._set_time_and_price(self.model, timed, sends=True)
            except Exception as error:  # noqa: BLE001 - raised after the request: the backend must not handle it
                errors.append(error)

        def reject() -> None:
            mine(ActualOutcome("rejected", "Replaced", (), "another transaction took its nonce"))

        def after_perform() -> None:
            if errors:
                raise errors[0]
            if network.drop_pending():
                wait = pending._replace(action=Wait(at=pending.action.at))
                steps.append(self.step(wait, last=False, reads_rows=False))

        _, expected = self._apply(pending)
        if expected.status == "skipped":
            return [self.step(pending, last=False), self.step(timed, last=last)]
        sender = self.session.parties.accounts[expected.actor or PLATFORM].address
        network.hold(PendingTransaction(sender, mine, reject))
        step = self.step(timed, last=last, after_perform=after_perform)
        return [*steps, step]

    def _set_time_and_price(self, model: State, timed: TimedAction, *, sends: bool) -> None:
        """Sets clock and price feed; also the time of the next block, if the action sends a transaction."""
        session = self.session
        rate, as_of = current_rate(model, timed.market_rate)
        session.clock.now, session.price_feed.inr_per_eth, session.price_feed.as_of = timed.time, rate, as_of
        session.price_feed.moves = getattr(timed.action, "feed_moves", False)
        if sends:
            session.engine.set_next_timestamp(timed.time)

    def _record(self, receipt: TransactionReceipt, time: int) -> MinedTransaction:
        """Decodes a receipt, replays its events, and adds it to the totals.

        Args:
            receipt: The receipt.
            time: Time of its block.
        """
        transaction = MinedTransaction(
            hash=receipt.hash,
            sender=self._names.get(receipt.sender, receipt.sender),
            ok=receipt.ok,
            gas_used=receipt.gas_used,
            fee=receipt.gas_used * receipt.gas_price,
            events=tuple(self._replay.replay(self._decode(receipt.logs), time)),
        )
        self._gas_paid[transaction.sender] += transaction.fee
        for event in transaction.events:
            if event.name == "EventRunCreated":
                self._run_ids.add(event.args["event_run_id"])
            elif event.name == "BookingCreated":
                self._booking_ids.add(event.args["booking_id"])
        return transaction

    def _decode(self, logs: Sequence[Log]) -> Iterator[Event]:
        """The stake contract's events. Addresses become names of parties."""
        for event in stake_abi().events(logs, self.session.contract_address):
            named = {k: self._names.get(v, v) if isinstance(v, str) else v for k, v in event.args.items()}
            yield event._replace(args=named)

    def _update_state(
        self,
        action: Action,
        expected: ExpectedOutcome,
        transactions: list[MinedTransaction],
        owing: State,
        *,
        last: bool,
    ) -> None:
        """Reads what the action may have changed; everything if it is the last, or if the amounts do not add up.

        Args:
            action: The action.
            expected: Its outcome in the model.
            transactions: Those mined in this step.
            owing: The model with what the contract owes now: if the action failed, that before it.
            last: It is the scenario's last action.
        """
        if transactions and not last:
            self._state = self._read_affected(action, expected)
        self._state = self._with_model_amounts(self._state, owing)
        # a call may be about any run, and so may one that a receiver makes while it is paid
        is_free = isinstance(action, CallFunction) or bool(self.model.receivers)
        if last or (transactions and (is_free or not self._adds_up())):
            self._state = self._with_model_amounts(self._read_everything(), owing)

    def _with_model_amounts(self, state: ContractState, model: State) -> ContractState:
        """Takes credits and platform balance from the model if the contract has no views for them.

        Whether they can be withdrawn is tried at the end: see `stakesim.runner.liveness`.
        """
        if model.full_interface:
            return state
        by_party = {party: model.credits.get(party, 0) for party in state.credits}
        return replace(state, platform_balance=model.platform_balance, credits=by_party)

    def _with_actual_roles(self, model: State) -> State:
        """Takes over what a function of the contract's own may have changed: owner, operators and pause."""
        roles = self._state.roles
        if roles is None:
            return model
        not_read = {party for party in model.operators if party not in self.session.parties.addresses}
        return replace(model, **roles._asdict() | {"operators": roles.operators | not_read})

    def _read_everything(self) -> ContractState:
        runs, bookings = sorted(self._run_ids), sorted(self._booking_ids)
        parties = list(self.session.parties.addresses)
        return self.session.reader.read(self._state, runs, bookings, parties, parties)

    def _adds_up(self) -> bool:
        """Whether no wei are missing, and the contract holds what it owes.

        Wei are missing if they went to a wallet that was not read.
        """
        state, initial = self._state, self._initial
        none_missing = state.into_wallets(initial, self._gas_paid) + state.balance == initial.balance
        return none_missing and state.balance == state.owed + self.model.forced_wei

    def _read_affected(self, action: Action, expected: ExpectedOutcome) -> ContractState:
        """Reads what the action may have changed.

        That is its run and booking, all bookings of a run that it closes, runs and bookings that were never read, the
        credits of hostile contracts, and the wallets of everybody whom it may pay.
        """
        state = self._state
        booking = self.model.bookings.get(getattr(action, "booking", ""))
        run = self.model.runs.get(booking.run if booking else getattr(action, "run", ""))
        if run and isinstance(action, Complete | CancelRun | Expire):
            affected = [view.id for view in state.bookings_of(run.id)]
        else:
            affected = [booking.id] if booking and booking.id in self._booking_ids else []
        runs = self._run_ids - state.runs.keys()
        if run and run.id in self._run_ids:
            runs.add(run.id)
        bookings = (self._booking_ids - state.bookings.keys()).union(affected)
        wallets = self._wallets_concerned(run, affected, expected)
        return self.session.reader.read(
            state,
            sorted(runs),
            sorted(bookings),
            self._hostile,
            wallets,
            terms_and_lists=False,
            roles=isinstance(action, Administration | CallFunction),
        )

    def _wallets_concerned(self, run: Run | None, bookings: Iterable[int], expected: ExpectedOutcome) -> list[str]:
        known = self._state.bookings
        parties = {PLATFORM, self.model.owner, expected.signer or PLATFORM}
        parties.update(known[booking_id].user for booking_id in bookings if booking_id in known)
        parties.update(payout.to for payout in expected.payouts)
        if run:
            parties.add(run.host)
        return sorted(parties & self.session.parties.addresses.keys())
