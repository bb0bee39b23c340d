"""Reads what a stake contract says about itself, and what wallets hold.

All amounts are wei, all times seconds since 1970. Accounts are called by the name of their party.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

from stakesim.evm.abi import ContractAbi
from stakesim.evm.batch_reader import ViewAnswer, decode, encode_calls, encode_head
from stakesim.evm.client import ChainClient
from stakesim.model.rules import CONTRACT
from stakesim.model.state import BookingStatus, RunStatus

K = TypeVar("K")
V = TypeVar("V")


class RunView(NamedTuple):
    """`getEventRun`, field by field; `start` and `created_at` are seconds since 1970."""

    id: int
    host: str
    experience: str
    price: int
    max_seats: int
    seats_booked: int
    host_stake: int
    start: int
    status: int
    stake_withdrawn: bool
    created_at: int

    @property
    def open(self) -> bool:
        """It is neither completed, cancelled nor expired."""
        return self.status in (RunStatus.ACTIVE, RunStatus.FULL)


class BookingView(NamedTuple):
    """`getBooking`, field by field; `booked_at` is in seconds since 1970."""

    id: int
    run_id: int
    user: str
    seats: int
    payment: int
    stake: int
    status: int
    booked_at: int

    @property
    def active(self) -> bool:
        """It is neither completed, a no-show nor cancelled."""
        return self.status == BookingStatus.ACTIVE


class Roles(NamedTuple):
    """Who may act for the platform, and whether new runs and bookings are stopped."""

    owner: str
    pending_owner: str | None
    operators: frozenset[str]
    paused: bool


ROLE_VIEWS = ("owner", "pendingOwner", "paused", "isOperator")
"""Views that say the roles. A contract may own itself in another way; then its roles are not read."""


class ContractTerms(NamedTuple):
    """`terms` of the contract. Shares are basis points, times are seconds."""

    stake_bps: int
    fee_bps: int
    forfeit_to_host_bps: int
    cancellation_cutoff: int
    completion_grace: int


@dataclass(frozen=True)
class ContractState:
    """The contract and all wallets at one moment.

    Attributes:
        balance: Wei that the contract holds.
        wallets: Wei by party.
        credits: Deferred payouts in wei by party.
        platform_balance: Wei that the platform can withdraw.
        liabilities: `totalLiabilities` in wei.
        terms: None where the contract does not say them.
        roles: None where the contract does not say them.
        runs: By id.
        bookings: By id.
        booking_lists: `getEventBookings` by run, where it was read.
        seat_costs: `calculateBookingCost` of one seat (payment, stake, total) by run, for runs read for the first time.
    """

    balance: int
    wallets: Mapping[str, int]
    credits: Mapping[str, int] = field(default_factory=dict)
    platform_balance: int = 0
    liabilities: int = 0
    terms: ContractTerms | None = None
    roles: Roles | None = None
    runs: Mapping[int, RunView] = field(default_factory=dict)
    bookings: Mapping[int, BookingView] = field(default_factory=dict)
    booking_lists: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    seat_costs: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)

    def bookings_of(self, run_id: int) -> list[BookingView]:
        """All bookings of a run, whatever their status."""
        return [booking for booking in self.bookings.values() if booking.run_id == run_id]

    def active_bookings_of(self, run_id: int) -> list[BookingView]:
        """Bookings of a run that are neither completed, no-shows nor cancelled."""
        return [booking for booking in self.bookings_of(run_id) if booking.active]

    def into_wallets(self, initial: ContractState, gas_paid: Mapping[str, int]) -> int:
        """Wei that all wallets got since the initial state, less what they paid, gas apart.

        Args:
            initial: The state at the start of the scenario.
            gas_paid: Wei paid for gas since then, by party.
        """
        return sum(wei - initial.wallets[party] + gas_paid.get(party, 0) for party, wei in self.wallets.items())

    @property
    def owed(self) -> int:
        """Payments and stakes of active bookings, stakes of open runs, credits and platform balance, in wei."""
        return (
            sum(booking.payment + booking.stake for booking in self.bookings.values() if booking.active)
            + sum(run.host_stake for run in self.runs.values() if run.open)
            + sum(self.credits.values())
            + self.platform_balance
        )


Requests: TypeAlias = dict[str, list[tuple[Any, ...]]]
"""Arguments of the calls of each view."""
Results: TypeAlias = dict[str, list[tuple[Any, ...]]]
"""Decoded results of these calls, in the same order."""


class StateReader:
    """Reads a stake contract and wallets: all views and all balances in one call of `BatchReader.sol`."""

    def __init__(
        self,
        chain: ChainClient,
        batch_reader: str,
        stake: str,
        abi: ContractAbi,
        parties: Mapping[str, str],
        *,
        full_interface: bool,
        has_roles: bool,
    ) -> None:
        """Reads the contract at an address.

        Args:
            chain: The chain that both contracts are on.
            batch_reader: Address of `BatchReader.sol`.
            stake: Address of the stake contract.
            abi: Of the stake contract.
            parties: Addresses by party.
            full_interface: The contract has all of `IEventStake`; else only what is deployed on Sepolia.
            has_roles: It has `ROLE_VIEWS`.
        """
        self._has_roles = has_roles
        self._chain, self._batch_reader = chain, batch_reader
        self._stake, self._abi, self._full = stake, abi, full_interface
        self._parties = parties
        self._names: dict[str, str] = {address: name for name, address in {**parties, CONTRACT: stake}.items()}

    def read(
        self,
        last: ContractState | None,
        runs: Collection[int],
        bookings: Collection[int],
        creditors: Collection[str],
        wallets: Collection[str],
        *,
        terms_and_lists: bool = True,
        roles: bool = True,
    ) -> ContractState:
        """Reads the contract's balances and liabilities, and what is asked for; all else is taken from `last`.

        Args:
            last: The state read before; None for the first.
            runs: Ids of the runs to read.
            bookings: Ids of the bookings to read.
            creditors: Parties whose credits to read.
            wallets: Parties whose wallets to read.
            terms_and_lists: Also read the contract's terms, and `getEventBookings` of the runs.
            roles: Also read owner, operators and pause.

        Raises:
            CallReverted: A view reverts, as for a run that does not exist.
            AbiError: A view returns something else than the ABI says.
        """
        last = last or ContractState(0, {}, dict.fromkeys(self._parties, 0))
        requests = self._requests(last, runs, bookings, creditors, terms_and_lists=terms_and_lists)
        if roles and self._has_roles:
            requests |= {view: [()] for view in ROLE_VIEWS[:-1]}
            requests["isOperator"] = [(address,) for address in self._parties.values()]
        results, (*balances, balance) = self._results(requests, wallets)
        state = ContractState(
            balance=balance,
            wallets=_updated(last.wallets, wallets, balances),
            credits=_updated(last.credits, creditors if self._full else (), _single(results["creditOf"])),
            runs=_updated(last.runs, runs, map(self._run, _single(results["getEventRun"]))),
            bookings=_updated(last.bookings, bookings, map(self._booking, _single(results["getBooking"]))),
            booking_lists=dict(zip(runs, map(tuple, _single(results["getEventBookings"])), strict=False)),
            seat_costs=dict(
                zip(_single(requests["calculateBookingCost"]), results["calculateBookingCost"], strict=True)
            ),
        )
        state = replace(state, roles=self._roles(results) if "paused" in results else last.roles)
        return self._with_totals(state, results, last, terms=terms_and_lists) if self._full else state

    def _with_totals(
        self, state: ContractState, results: Results, last: ContractState, *, terms: bool
    ) -> ContractState:
        """The state with what only the full interface has."""
        ((platform_balance,),), ((liabilities,),) = results["platformBalance"], results["totalLiabilities"]
        return replace(
            state,
            platform_balance=platform_balance,
            liabilities=liabilities,
            terms=ContractTerms(*results["terms"][0][0]) if terms else last.terms,
        )

    def _requests(
        self,
        last: ContractState,
        runs: Collection[int],
        bookings: Collection[int],
        creditors: Collection[str],
        *,
        terms_and_lists: bool,
    ) -> Requests:
        """The views to call, by name, and the arguments of each call."""
        requests: Requests = {
            "getEventRun": [(run_id,) for run_id in runs],
            "getBooking": [(booking_id,) for booking_id in bookings],
            "getEventBookings": [(run_id,) for run_id in runs] if terms_and_lists else [],
            "calculateBookingCost": [(run_id, 1) for run_id in runs if run_id not in last.runs],
            "creditOf": [(self._parties[name],) for name in creditors] if self._full else [],
        }
        if self._full:
            requests |= {"platformBalance": [()], "totalLiabilities": [()]}
            if terms_and_lists:
                requests["terms"] = [()]
        return requests

    def _roles(self, results: Results) -> Roles:
        owner, next_owner, paused = (results[view][0][0] for view in ROLE_VIEWS[:-1])
        allowed = zip(self._parties, _single(results["isOperator"]), strict=True)
        return Roles(
            owner=self._names.get(owner, owner),
            pending_owner=self._names.get(next_owner, next_owner) if int(next_owner, 16) else None,
            operators=frozenset(party for party, is_operator in allowed if is_operator),
            paused=paused,
        )

    def _run(self, values: tuple[Any, ...]) -> RunView:
        run = RunView(*values)
        return run._replace(host=self._names.get(run.host, run.host))

    def _booking(self, values: tuple[Any, ...]) -> BookingView:
        booking = BookingView(*values)
        return booking._replace(user=self._names.get(booking.user, booking.user))

    def answers(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[ViewAnswer]:
        """Calls views at once, each of which may revert. See `Requests` for their arguments."""
        return self._call([self._abi.encode(view, *args) for view, args in calls], ())[1]

    def _results(self, requests: Requests, parties: Collection[str]) -> tuple[Results, list[int]]:
        """Calls all views at once.

        Returns:
            What each view returned, and the wei of these parties and of the contract.

        Raises:
            CallReverted: A view reverts.
            AbiError: A view returns something else than the ABI says.
        """
        calls = [self._abi.encode(view, *args) for view, calls in requests.items() for args in calls]
        balances, answers = self._call(calls, parties)
        returned = (answer.returned() for answer in answers)
        results = {view: [self._abi.decode(view, next(returned)) for _ in calls] for view, calls in requests.items()}
        return results, balances

    def _call(self, calls: Sequence[bytes], parties: Collection[str]) -> tuple[list[int], list[ViewAnswer]]:
        """Returns the wei of these parties and of the contract, and the answer to each call."""
        accounts = [*(self._parties[name] for name in parties), self._stake]
        answer = self._chain.call(self._batch_reader, encode_head(self._stake, accounts) + encode_calls(calls))
        return decode(answer, len(accounts))


def _single(results: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """The first value of each."""
    return (values[0] for values in results)


def _updated(known: Mapping[K, V], keys: Iterable[K], values: Iterable[V]) -> dict[K, V]:
    return {**known, **dict(zip(keys, values, strict=True))}
