"""The stake contract in Python: the only module that knows its functions and events.

It drives `EventStake`, and any contract that has only the interface deployed on Sepolia; there, host and attendee have
to sign for themselves. Amounts are wei. Ids, amounts and statuses come from decoded receipts and views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.types import TxReceipt

from app.core.errors import ContractRejected, InvalidRequest, UnexpectedReceipt, UnsupportedByContract
from app.services.codec import Event, event_stake
from app.services.onchain import (
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
    PlatformFeesWithdrawn,
    RunStatus,
    unix_seconds,
)
from app.services.pricing import convert_inr_to_wei, convert_wei_to_inr
from app.services.transaction_sender import TransactionSender, asking


class BlockchainService:
    """One contract on one chain, both handed in.

    What sends raises `ContractRejected`, `UnsupportedByContract` (before sending), `ChainUnavailable` or
    `UnexpectedReceipt`; what only looks raises the first three. `signer` is the platform where none is given.
    """

    convert_inr_to_wei = staticmethod(convert_inr_to_wei)
    convert_wei_to_inr = staticmethod(convert_wei_to_inr)

    def __init__(self, w3: Web3, contract_address: str, sender: TransactionSender) -> None:
        self._w3 = w3
        self._sender = sender
        self._codec = event_stake()
        self.address = Web3.to_checksum_address(contract_address)

    @property
    def platform(self) -> ChecksumAddress:
        """The account that signs where no other is given."""
        return self._sender.address

    @cached_property
    def extended(self) -> bool:
        """Whether the contract has all of `EventStake`, asked once; a node in trouble is not a "no"."""
        try:
            self._view("totalLiabilities")
        except (ContractRejected, UnsupportedByContract):
            return False
        return True

    # ---------------------------------------------------------------- transactions

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
        """Opens a run for `host`, or for the signer. stake_wei: asked from the contract where it is not given."""
        args = (experience_id, price_per_seat_wei, max_seats, unix_seconds(starts_at))
        function, party = self._for_party("createEventRun", host, signer)
        if stake_wei is None:
            stake_wei = self.calculate_required_stake(price_per_seat_wei, max_seats)
        mined, events = self._send(function, *party, *args, value=stake_wei, signer=signer)
        return EventRunCreated(**mined, **_the(events, "EventRunCreated", mined))

    def book_event_onchain(
        self,
        event_run_id: int,
        seats: int,
        attendee: str | None = None,
        signer: LocalAccount | None = None,
        total_wei: int | None = None,
    ) -> BookingCreated:
        """Books for `attendee`, or for the signer. total_wei: asked from the contract where it is not given."""
        function, party = self._for_party("bookEvent", attendee, signer)
        if total_wei is None:
            total_wei = self.calculate_booking_cost(event_run_id, seats).total
        mined, events = self._send(function, *party, event_run_id, seats, value=total_wei, signer=signer)
        return BookingCreated(**mined, **_the(events, "BookingCreated", mined, event_run_id=event_run_id))

    def complete_event_onchain(
        self, event_run_id: int, attended_booking_ids: Sequence[int], signer: LocalAccount | None = None
    ) -> EventCompleted:
        mined, events = self._send("completeEvent", event_run_id, list(attended_booking_ids), signer=signer)
        return EventCompleted(
            **mined,
            **_the(events, "EventCompleted", mined, event_run_id=event_run_id),
            completed={e.args["booking_id"]: e.args["stake_returned"] for e in events if e.name == "BookingCompleted"},
            no_shows={e.args["booking_id"]: e.args["stake_forfeit"] for e in events if e.name == "BookingNoShow"},
        )

    def cancel_event_onchain(self, event_run_id: int, signer: LocalAccount | None = None) -> EventCancelled:
        mined, events = self._send("cancelEvent", event_run_id, signer=signer)
        return EventCancelled(**mined, **_the(events, "EventCancelled", mined, event_run_id=event_run_id))

    def cancel_booking_onchain(self, booking_id: int, signer: LocalAccount | None = None) -> BookingCancelled:
        self._need("cancelBooking")
        mined, events = self._send("cancelBooking", booking_id, signer=signer)
        return BookingCancelled(**mined, **_the(events, "BookingCancelled", mined, booking_id=booking_id))

    def expire_event_onchain(self, event_run_id: int, signer: LocalAccount | None = None) -> EventExpired:
        self._need("expireEvent")
        mined, events = self._send("expireEvent", event_run_id, signer=signer)
        return EventExpired(**mined, **_the(events, "EventExpired", mined, event_run_id=event_run_id))

    def withdraw_onchain(self, signer: LocalAccount, to: str | None = None) -> CreditWithdrawn:
        """Pays the signer's credit out, to the signer or to another address."""
        function = "withdraw" if to is None else "withdrawTo"
        self._need(function)
        mined, events = self._send(function, *([] if to is None else [_address(to)]), signer=signer)
        return CreditWithdrawn(**mined, **_the(events, "CreditWithdrawn", mined, creditor=signer.address))

    def withdraw_platform_fees_onchain(self, signer: LocalAccount | None = None) -> PlatformFeesWithdrawn:
        mined, events = self._send("withdrawPlatformFees", signer=signer)
        amount = _the(events, "PlatformFeesWithdrawn", mined)["amount"] if self.extended else None
        return PlatformFeesWithdrawn(**mined, amount=amount)

    # ----------------------------------------------------------------------- views

    def calculate_required_stake(self, price_per_seat_wei: int, seats: int) -> int:
        return int(self._view("calculateRequiredStake", price_per_seat_wei, seats)[0])

    def calculate_booking_cost(self, event_run_id: int, seats: int) -> BookingCost:
        return BookingCost(*self._view("calculateBookingCost", event_run_id, seats))

    def get_event_run_from_chain(self, event_run_id: int) -> EventRunOnChain:
        run = EventRunOnChain(*self._view("getEventRun", event_run_id))
        return replace(run, status=RunStatus(run.status))

    def get_booking_from_chain(self, booking_id: int) -> BookingOnChain:
        booking = BookingOnChain(*self._view("getBooking", booking_id))
        return replace(booking, status=BookingStatus(booking.status))

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

    def _send(
        self, function: str, *args: Any, value: int = 0, signer: LocalAccount | None = None
    ) -> tuple[dict[str, Any], list[Event]]:
        receipt = self._sender.send(self._codec.call(self.address, function, *args), value, signer)
        events = self._codec.events(receipt["logs"], self.address)
        return _mined(receipt, events), events

    def _view(self, function: str, *args: Any) -> tuple[Any, ...]:
        call = self._codec.call(self.address, function, *args)
        with asking(function, self._codec):
            data = self._w3.eth.call({"to": call.to, "data": call.data})
        return self._codec.result(function, data)


def _mined(receipt: TxReceipt, events: Sequence[Event]) -> dict[str, Any]:
    return {
        "tx_hash": receipt["transactionHash"].to_0x_hex(),
        "block_number": receipt["blockNumber"],
        "gas_used": receipt["gasUsed"],
        "gas_price": receipt["effectiveGasPrice"],
        "deferred": tuple(Deferred(**e.args) for e in events if e.name == "PaymentDeferred"),
    }


def _the(events: Sequence[Event], name: str, mined: dict[str, Any], **having: Any) -> dict[str, Any]:
    """The arguments of the one event of this name that has these; ids are never guessed."""
    found = [e.args for e in events if e.name == name and having.items() <= e.args.items()]
    if len(found) != 1:
        raise UnexpectedReceipt(f"Transaction {mined['tx_hash']} has {len(found)} events {name} where one must be.")
    return found[0]


def _address(text: str) -> ChecksumAddress:
    if not Web3.is_address(text):
        raise InvalidRequest(f"{text!r} is no Ethereum address.")
    return Web3.to_checksum_address(text)
