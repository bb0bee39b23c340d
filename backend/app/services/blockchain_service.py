"""The stake contract in Python: the only module that knows its functions and events.

It drives `EventStake`, and any contract that has only the interface deployed on Sepolia; there, host and attendee have
to sign for themselves. Amounts are wei. Ids, amounts and statuses come from decoded receipts and views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.types import TxReceipt

from app.core.errors import ContractRejected, InvalidRequest, UnexpectedReceipt, UnsupportedByContract
from app.services import rpc
from app.services.codec import Call, Event, event_stake
from app.services.contract_types import (
    BookingCancelled,
    BookingCost,
    BookingCreated,
    BookingOnChain,
    BookingStatus,
    CreditWithdrawn,
    Deferred,
    EventCancelled,
    EventCompleted,
    EventExpired,
    EventRunCreated,
    EventRunOnChain,
    Mined,
    PlatformFeesWithdrawn,
    RunStatus,
    unix_seconds,
)
from app.services.pricing import convert_inr_to_wei, convert_wei_to_inr
from app.services.rpc import Block
from app.services.rpc_errors import TROUBLE, rejected, unavailable
from app.services.transactions.sender import TransactionSender

NOBODY = "0x" + "00" * 20
"""Whose everything is that there is not."""
_Told = TypeVar("_Told", bound=Mined)
_Status = TypeVar("_Status", RunStatus, BookingStatus)


class BlockchainService:
    """One contract on one chain, both handed in.

    What sends raises `ContractRejected`, `UnsupportedByContract` (before sending), `ChainUnavailable` or
    `UnexpectedReceipt`; what only looks raises the first three. `signer` is the platform where none is given.
    """

    convert_inr_to_wei = staticmethod(convert_inr_to_wei)
    convert_wei_to_inr = staticmethod(convert_wei_to_inr)

    def __init__(self, w3: Web3, contract_address: str, sender: TransactionSender) -> None:
        self._w3 = w3
        self.sender = sender
        self._codec = event_stake()
        self.address = Web3.to_checksum_address(contract_address)

    @property
    def platform(self) -> ChecksumAddress:
        """The account that signs where no other is given."""
        return self.sender.address

    @cached_property
    def extended(self) -> bool:
        """Whether the contract has all of `EventStake`, asked once; a node in trouble is not a "no"."""
        try:
            self._view("totalLiabilities")
        except (ContractRejected, UnsupportedByContract):
            return False
        return True

    # ------------------------------------------------------------------------------ transactions, as calls to be sent

    def create_event_run_call(
        self,
        experience_id: str,
        price_per_seat_wei: int,
        max_seats: int,
        starts_at: datetime,
        host: str | None = None,
        signer: LocalAccount | None = None,
        stake_wei: int | None = None,
    ) -> Call:
        """Opens a run for `host`, or for the signer. stake_wei: asked from the contract where it is not given."""
        args = (experience_id, price_per_seat_wei, max_seats, unix_seconds(starts_at))
        function, party = self._for_party("createEventRun", host, signer)
        if stake_wei is None:
            stake_wei = self.calculate_required_stake(price_per_seat_wei, max_seats)
        return self._call(function, *party, *args, value=stake_wei)

    def book_event_call(
        self,
        event_run_id: int,
        seats: int,
        attendee: str | None = None,
        signer: LocalAccount | None = None,
        total_wei: int | None = None,
    ) -> Call:
        """Books for `attendee`, or for the signer. total_wei: asked from the contract where it is not given."""
        function, party = self._for_party("bookEvent", attendee, signer)
        if total_wei is None:
            total_wei = self.calculate_booking_cost(event_run_id, seats).total
        return self._call(function, *party, event_run_id, seats, value=total_wei)

    def complete_event_call(self, event_run_id: int, attended_booking_ids: Sequence[int]) -> Call:
        return self._call("completeEvent", event_run_id, list(attended_booking_ids))

    def cancel_event_call(self, event_run_id: int) -> Call:
        return self._call("cancelEvent", event_run_id)

    def cancel_booking_call(self, booking_id: int) -> Call:
        self._need("cancelBooking")
        return self._call("cancelBooking", booking_id)

    def expire_event_call(self, event_run_id: int) -> Call:
        self._need("expireEvent")
        return self._call("expireEvent", event_run_id)

    # ------------------------------------------------------------------------------- transactions, sent and confirmed

    def create_event_run_onchain(
        self,
        experience_id: str,
        price_per_seat_wei: int,
        max_seats: int,
        starts_at: datetime,
        host: str | None = None,
        signer: LocalAccount | None = None,
        stake_wei: int | None = None,
    ) -> EventRunCreated:
        """As `create_event_run_call` says."""
        call = self.create_event_run_call(
            experience_id, price_per_seat_wei, max_seats, starts_at, host, signer, stake_wei
        )
        return self._told(EventRunCreated, self.sender.send(call, signer))

    def book_event_onchain(
        self,
        event_run_id: int,
        seats: int,
        attendee: str | None = None,
        signer: LocalAccount | None = None,
        total_wei: int | None = None,
    ) -> BookingCreated:
        """As `book_event_call` says."""
        call = self.book_event_call(event_run_id, seats, attendee, signer, total_wei)
        return self._told(BookingCreated, self.sender.send(call, signer), event_run_id=event_run_id)

    def complete_event_onchain(
        self, event_run_id: int, attended_booking_ids: Sequence[int], signer: LocalAccount | None = None
    ) -> EventCompleted:
        return self.completed(self.sender.send(self.complete_event_call(event_run_id, attended_booking_ids), signer))

    def cancel_event_onchain(self, event_run_id: int, signer: LocalAccount | None = None) -> EventCancelled:
        return self.cancelled(self.sender.send(self.cancel_event_call(event_run_id), signer))

    def cancel_booking_onchain(self, booking_id: int, signer: LocalAccount | None = None) -> BookingCancelled:
        return self.booking_cancelled(self.sender.send(self.cancel_booking_call(booking_id), signer))

    def expire_event_onchain(self, event_run_id: int, signer: LocalAccount | None = None) -> EventExpired:
        return self.expired(self.sender.send(self.expire_event_call(event_run_id), signer))

    def withdraw_onchain(self, signer: LocalAccount, to: str | None = None) -> CreditWithdrawn:
        """Pays the signer's credit out, to the signer or to another address."""
        function = "withdraw" if to is None else "withdrawTo"
        self._need(function)
        call = self._call(function, *([] if to is None else [_address(to)]))
        return self._told(CreditWithdrawn, self.sender.send(call, signer), creditor=signer.address)

    def withdraw_platform_fees_onchain(self, signer: LocalAccount | None = None) -> PlatformFeesWithdrawn:
        """Pays out what the platform has earned."""
        receipt = self.sender.send(self._call("withdrawPlatformFees"), signer)
        events = self._codec.events(receipt["logs"], self.address)
        amounts = [event.args["amount"] for event in events if event.name == "PlatformFeesWithdrawn"]
        if self.extended and len(amounts) != 1:
            raise _not_told(receipt, "PlatformFeesWithdrawn", len(amounts))
        return PlatformFeesWithdrawn(**_mined(receipt, events), amount=amounts[0] if amounts else None)

    # ----------------------------------------------------------------------------------------- what receipts tell

    def completed(self, receipt: TxReceipt) -> EventCompleted:
        events = self._codec.events(receipt["logs"], self.address)
        return self._told(
            EventCompleted,
            receipt,
            completed={e.args["booking_id"]: e.args["stake_returned"] for e in events if e.name == "BookingCompleted"},
            no_shows={e.args["booking_id"]: e.args["stake_forfeit"] for e in events if e.name == "BookingNoShow"},
        )

    def cancelled(self, receipt: TxReceipt) -> EventCancelled:
        return self._told(EventCancelled, receipt)

    def booking_cancelled(self, receipt: TxReceipt) -> BookingCancelled:
        return self._told(BookingCancelled, receipt)

    def expired(self, receipt: TxReceipt) -> EventExpired:
        return self._told(EventExpired, receipt)

    # ----------------------------------------------------------------------- views

    def block_number(self) -> int:
        """Of the latest block."""
        try:
            return rpc.block_number(self._w3)
        except TROUBLE as error:
            raise unavailable("block number", error) from error

    def events_between(self, first: int, last: int) -> list[tuple[str, Event]]:
        """The contract's events in these blocks and those between, each with the hash of its transaction."""
        try:
            logs = self._w3.eth.get_logs({"address": self.address, "fromBlock": first, "toBlock": last})
        except TROUBLE as error:
            raise unavailable("events", error) from error
        hashed = ((log["transactionHash"].to_0x_hex(), self._codec.events([log], self.address)) for log in logs)
        return [(tx_hash, event) for tx_hash, events in hashed for event in events]

    def calculate_required_stake(self, price_per_seat_wei: int, seats: int) -> int:
        return int(self._view("calculateRequiredStake", price_per_seat_wei, seats)[0])

    def calculate_booking_cost(self, event_run_id: int, seats: int) -> BookingCost:
        """Raises `ContractRejected` with UnknownEventRun for a run that there is not, whatever the contract says."""
        cost = BookingCost(*self._view("calculateBookingCost", event_run_id, seats))
        if not cost.payment:  # of no seats, or of a run that there is not, where the contract gives zeros
            self.get_event_run_from_chain(event_run_id)
        return cost

    def get_event_run_from_chain(self, event_run_id: int, block: Block = "latest") -> EventRunOnChain:
        """Raises `ContractRejected` with UnknownEventRun for a run that there is not, where the contract itself reverts
        or gives zeros; `UnsupportedByContract` for a status that there is not."""
        run = EventRunOnChain(*self._view("getEventRun", event_run_id, block=block)[0])
        if (run.event_run_id, run.host == NOBODY) != (event_run_id, False):
            raise _unknown("getEventRun", "UnknownEventRun", event_run_id)
        return replace(run, status=_status(RunStatus, run.status, f"event run {event_run_id}"))

    def get_booking_from_chain(self, booking_id: int, block: Block = "latest") -> BookingOnChain:
        """Raises `ContractRejected` with UnknownBooking for a booking that there is not, where the contract itself
        reverts or gives zeros; `UnsupportedByContract` for a status that there is not."""
        booking = BookingOnChain(*self._view("getBooking", booking_id, block=block)[0])
        if (booking.booking_id, booking.user == NOBODY) != (booking_id, False):
            raise _unknown("getBooking", "UnknownBooking", booking_id)
        return replace(booking, status=_status(BookingStatus, booking.status, f"booking {booking_id}"))

    def get_event_bookings(self, event_run_id: int) -> list[int]:
        return list(self._view("getEventBookings", event_run_id)[0])

    def get_user_bookings(self, user: str) -> list[int]:
        return list(self._view("getUserBookings", _address(user))[0])

    def get_host_events(self, host: str) -> list[int]:
        return list(self._view("getHostEvents", _address(host))[0])

    def owner(self) -> ChecksumAddress:
        address: ChecksumAddress = self._view("owner")[0]
        return address

    def credit_of(self, account: str) -> int:
        self._need("creditOf")
        return int(self._view("creditOf", _address(account))[0])

    def platform_balance(self) -> int:
        self._need("platformBalance")
        return int(self._view("platformBalance")[0])

    def total_liabilities(self) -> int:
        self._need("totalLiabilities")
        return int(self._view("totalLiabilities")[0])

    # --------------------------------------------------------------------- workings

    def _for_party(
        self, function: str, party: str | None, signer: LocalAccount | None
    ) -> tuple[str, tuple[ChecksumAddress, ...]]:
        """The function that enters `party`: the plain one enters its sender, the other whomever the platform names."""
        sender = signer.address if signer else self.platform
        if party is None or _address(party) == sender:
            return function, ()
        self._need(f"{function}For", f"{party} has to sign for itself")
        return f"{function}For", (_address(party),)

    def _need(self, function: str, otherwise: str = "there is no other way") -> None:
        if not self.extended:
            raise UnsupportedByContract(f"The contract at {self.address} has no {function}: {otherwise}.")

    def _call(self, function: str, *args: Any, value: int = 0) -> Call:
        return self._codec.call(self.address, function, *args, value=value)

    def _told(self, kind: type[_Told], receipt: TxReceipt, **known: Any) -> _Told:
        """What the one event that is called as the result is tells; ids are never guessed. Raises `UnexpectedReceipt`.

        known: what the event must say where it says anything of it, and what is known from other events.
        """
        events = self._codec.events(receipt["logs"], self.address)
        found = [
            e.args for e in events if e.name == kind.__name__ and all(e.args.get(k, v) == v for k, v in known.items())
        ]
        if len(found) != 1:
            raise _not_told(receipt, kind.__name__, len(found))
        return kind(**_mined(receipt, events), **{**known, **found[0]})

    def _view(self, function: str, *args: Any, block: Block = "latest") -> tuple[Any, ...]:
        call = self._call(function, *args)
        try:
            data = rpc.call(self._w3, call.to, call.data, block)
        except ContractLogicError as error:
            raise rejected(function, error, self._codec) or unavailable(function, error) from error
        except TROUBLE as error:
            raise unavailable(function, error) from error
        return self._codec.result(function, data)


def _mined(receipt: TxReceipt, events: Sequence[Event]) -> dict[str, Any]:
    return {
        "tx_hash": receipt["transactionHash"].to_0x_hex(),
        "block_number": receipt["blockNumber"],
        "gas_used": receipt["gasUsed"],
        "gas_price": receipt["effectiveGasPrice"],
        "deferred": tuple(Deferred(**e.args) for e in events if e.name == "PaymentDeferred"),
    }


def _not_told(receipt: TxReceipt, event: str, count: int) -> UnexpectedReceipt:
    tx_hash = receipt["transactionHash"].to_0x_hex()
    return UnexpectedReceipt(f"Transaction {tx_hash} has {count} events {event} where one must be.")


def _unknown(function: str, error: str, id: int) -> ContractRejected:
    """As `EventStake` itself says it, so that nobody has to know how the contract at hand does."""
    return ContractRejected(error, (id,), f"{function}: the contract has nothing under the id {id}, and gives zeros.")


def _status(kind: type[_Status], value: int, what: str) -> _Status:
    try:
        return kind(value)
    except ValueError:
        raise UnsupportedByContract(f"The contract has {what} in status {value}, which is not known here.") from None


def _address(text: str) -> ChecksumAddress:
    if not Web3.is_address(text):
        raise InvalidRequest(f"{text!r} is no Ethereum address.")
    return Web3.to_checksum_address(text)
