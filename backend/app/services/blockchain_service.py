"""The stake contract in Python: the only module that knows its functions and events.

It works with `EventStake`, and with a contract that has only the interface deployed on Sepolia; with the latter, hosts
and attendees have to sign for themselves. Amounts are in wei. Ids, amounts and statuses come only from decoded receipts
and views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.exceptions import ContractLogicError

from app.core.errors import ChainUnavailable, ContractRejected, InvalidRequest, UnsupportedByContract
from app.services import rpc
from app.services.codec import Call, Event, event_stake_codec
from app.services.contract_receipts import read_event_completed, read_fees_withdrawn, read_result
from app.services.contract_types import (
    BookingCancelled,
    BookingCost,
    BookingCreated,
    BookingStatus,
    CreditWithdrawn,
    EventCancelled,
    EventCompleted,
    EventExpired,
    EventRunCreated,
    OnchainBooking,
    OnchainEventRun,
    PlatformFeesWithdrawn,
    RunStatus,
    status_of,
    unix_seconds,
)
from app.services.log_reader import LogReader
from app.services.rpc import BlockId
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable, as_contract_rejected
from app.services.rpc_types import BlockHeader, Receipt
from app.services.transactions.sender import TransactionSender

ZERO_ADDRESS = "0x" + "00" * 20


class BlockchainService:
    """One contract on one chain. The platform signs where `signer` is None.

    Methods that send raise `ContractRejected`, `UnsupportedByContract` (before sending), `ChainUnavailable` or
    `UnexpectedReceipt`; methods that only read raise the first three.

    Attributes:
        sender: Sends the transactions.
        address: Address of the contract.
        custody: Address under which people without a wallet are entered.
    """

    def __init__(self, w3: Web3, contract_address: str, sender: TransactionSender, custody: str | None = None) -> None:
        self._w3, self.sender, self._codec = w3, sender, event_stake_codec()
        self.address = _address(contract_address)
        self._logs = LogReader(w3, self.address)
        self.custody = _address(custody) if custody else self.platform
        sender.allow(self.address)

    @property
    def platform(self) -> ChecksumAddress:
        """Address of the platform's account."""
        return self.sender.address

    @cached_property
    def has_full_interface(self) -> bool:
        """Whether the contract has all functions of `EventStake`; read once. Raises `ChainUnavailable`."""
        try:
            self._view("totalLiabilities")
        except (ContractRejected, UnsupportedByContract):
            return False
        return True

    # ------------------------------------------------------------------------------ calls to be sent as transactions

    def create_event_run_call(
        self,
        experience_id: str,
        price_per_seat_wei: int,
        max_seats: int,
        starts_at: datetime,
        *,
        host: str | None = None,
        signer: LocalAccount | None = None,
        stake_wei: int | None = None,
    ) -> Call:
        """Returns the call that creates a run.

        Args:
            experience_id: Id of the experience.
            price_per_seat_wei: Price of a seat in wei.
            max_seats: Number of seats.
            starts_at: Start, with a time zone.
            host: Address of the host; the signer's if None.
            signer: Account that sends the call; the platform if None.
            stake_wei: The host's stake in wei; calculated by the contract if None.
        """
        args = (experience_id, price_per_seat_wei, max_seats, unix_seconds(starts_at))
        function, party = self._for_party("createEventRun", host, signer)
        if stake_wei is None:
            stake_wei = self.calculate_required_stake(price_per_seat_wei, max_seats)
        return self._call(function, *party, *args, value=stake_wei)

    def book_event_call(
        self,
        onchain_run_id: int,
        seats: int,
        *,
        attendee: str | None = None,
        signer: LocalAccount | None = None,
        total_wei: int | None = None,
    ) -> Call:
        """Returns the call that books seats.

        Args:
            onchain_run_id: The contract's number of the run.
            seats: Number of seats.
            attendee: Address of the attendee; the signer's if None.
            signer: Account that sends the call; the platform if None.
            total_wei: Payment and stake in wei; calculated by the contract if None.
        """
        function, party = self._for_party("bookEvent", attendee, signer)
        if total_wei is None:
            total_wei = self.calculate_booking_cost(onchain_run_id, seats).total_wei
        return self._call(function, *party, onchain_run_id, seats, value=total_wei)

    def complete_event_call(self, onchain_run_id: int, attended_onchain_booking_ids: Sequence[int]) -> Call:
        """Returns the call that completes a run; bookings that are not listed are no-shows."""
        return self._call("completeEvent", onchain_run_id, list(attended_onchain_booking_ids))

    def cancel_event_call(self, onchain_run_id: int) -> Call:
        """Returns the call that cancels a run."""
        return self._call("cancelEvent", onchain_run_id)

    def cancel_booking_call(self, onchain_booking_id: int) -> Call:
        """Returns the call that cancels a booking."""
        self._require_function("cancelBooking")
        return self._call("cancelBooking", onchain_booking_id)

    def expire_event_call(self, onchain_run_id: int) -> Call:
        """Returns the call that expires a run."""
        self._require_function("expireEvent")
        return self._call("expireEvent", onchain_run_id)

    # ------------------------------------------------------------------------------- transactions, sent and confirmed

    def create_event_run_onchain(
        self,
        experience_id: str,
        price_per_seat_wei: int,
        max_seats: int,
        starts_at: datetime,
        *,
        host: str | None = None,
        signer: LocalAccount | None = None,
        stake_wei: int | None = None,
    ) -> EventRunCreated:
        """Creates a run. Arguments as for `create_event_run_call`."""
        call = self.create_event_run_call(
            experience_id, price_per_seat_wei, max_seats, starts_at, host=host, signer=signer, stake_wei=stake_wei
        )
        receipt = self.sender.send(call, signer)
        return read_result(EventRunCreated, receipt, self._events(receipt))

    def book_event_onchain(
        self,
        onchain_run_id: int,
        seats: int,
        *,
        attendee: str | None = None,
        signer: LocalAccount | None = None,
        total_wei: int | None = None,
    ) -> BookingCreated:
        """Books seats. Arguments as for `book_event_call`."""
        call = self.book_event_call(onchain_run_id, seats, attendee=attendee, signer=signer, total_wei=total_wei)
        receipt = self.sender.send(call, signer)
        return read_result(BookingCreated, receipt, self._events(receipt), onchain_run_id=onchain_run_id)

    def complete_event_onchain(
        self, onchain_run_id: int, attended_onchain_booking_ids: Sequence[int], signer: LocalAccount | None = None
    ) -> EventCompleted:
        """Completes a run; bookings that are not listed are no-shows."""
        call = self.complete_event_call(onchain_run_id, attended_onchain_booking_ids)
        return self.read_event_completed(self.sender.send(call, signer))

    def cancel_event_onchain(self, onchain_run_id: int, signer: LocalAccount | None = None) -> EventCancelled:
        """Cancels a run."""
        return self.read_event_cancelled(self.sender.send(self.cancel_event_call(onchain_run_id), signer))

    def cancel_booking_onchain(self, onchain_booking_id: int, signer: LocalAccount | None = None) -> BookingCancelled:
        """Cancels a booking."""
        return self.read_booking_cancelled(self.sender.send(self.cancel_booking_call(onchain_booking_id), signer))

    def expire_event_onchain(self, onchain_run_id: int, signer: LocalAccount | None = None) -> EventExpired:
        """Expires a run."""
        return self.read_event_expired(self.sender.send(self.expire_event_call(onchain_run_id), signer))

    def withdraw_onchain(self, signer: LocalAccount, to: str | None = None) -> CreditWithdrawn:
        """Withdraws the signer's credit, to the signer or to another address."""
        function = "withdraw" if to is None else "withdrawTo"
        self._require_function(function)
        call = self._call(function, *([] if to is None else [_address(to)]))
        receipt = self.sender.send(call, signer)
        return read_result(CreditWithdrawn, receipt, self._events(receipt), creditor=signer.address)

    def withdraw_platform_fees_onchain(self, signer: LocalAccount | None = None) -> PlatformFeesWithdrawn:
        """Withdraws the platform's balance to the owner."""
        receipt = self.sender.send(self._call("withdrawPlatformFees"), signer)
        return read_fees_withdrawn(receipt, self._events(receipt), has_full_interface=self.has_full_interface)

    # ------------------------------------------------------------------------------- results of receipts

    def read_event_completed(self, receipt: Receipt) -> EventCompleted:
        """Returns the result of `completeEvent`."""
        return read_event_completed(receipt, self._events(receipt))

    def read_event_cancelled(self, receipt: Receipt) -> EventCancelled:
        """Returns the result of `cancelEvent`."""
        return read_result(EventCancelled, receipt, self._events(receipt))

    def read_booking_cancelled(self, receipt: Receipt) -> BookingCancelled:
        """Returns the result of `cancelBooking`."""
        return read_result(BookingCancelled, receipt, self._events(receipt))

    def read_event_expired(self, receipt: Receipt) -> EventExpired:
        """Returns the result of `expireEvent`."""
        return read_result(EventExpired, receipt, self._events(receipt))

    # ------------------------------------------------------------------------------- views

    def block_number(self) -> int:
        """Returns the number of the latest block."""
        try:
            return rpc.block_number(self._w3)
        except NODE_ERRORS as error:
            raise as_chain_unavailable("block number", error) from error

    def block_header(self, block: BlockId) -> BlockHeader:
        """Returns the header of a block.

        Raises:
            ChainUnavailable: The node does not answer, or lacks the block.
        """
        try:
            header = rpc.block_header(self._w3, block)
        except NODE_ERRORS as error:
            raise as_chain_unavailable("block", error) from error
        if header is None:
            raise ChainUnavailable(f"block: the node has no block {block} at present.")
        return header

    def events_between(self, first_block: int, last_block: int) -> list[tuple[str, Event]]:
        """Returns the contract's events from the first to the last block, each with its transaction's hash.

        Raises:
            ChainUnavailable: The node does not show them, or lacks the last block.
        """
        try:
            logs = self._logs.read(first_block, last_block)
        except NODE_ERRORS as error:
            raise as_chain_unavailable("events", error) from error
        return [(log.tx_hash, event) for log in logs for event in self._codec.events([log], self.address)]

    def calculate_required_stake(self, price_per_seat_wei: int, seats: int) -> int:
        """Returns the host's stake in wei for a run with this price and number of seats."""
        return int(self._view("calculateRequiredStake", price_per_seat_wei, seats)[0])

    def calculate_booking_cost(self, onchain_run_id: int, seats: int) -> BookingCost:
        """Returns the cost of seats of a run.

        Raises:
            ContractRejected: Named UnknownEventRun if there is no such run, even if the contract returns zeros.
        """
        cost = BookingCost(*self._view("calculateBookingCost", onchain_run_id, seats))
        if not cost.payment_wei:  # no seats, or no such run on a contract that returns zeros
            self.get_event_run_from_chain(onchain_run_id)
        return cost

    def get_event_run_from_chain(self, onchain_run_id: int, block: BlockId = "latest") -> OnchainEventRun:
        """Returns a run as of a block.

        Raises:
            ContractRejected: Named UnknownEventRun if there is no such run, even if the contract returns zeros.
            UnsupportedByContract: Its status is none of `RunStatus`.
        """
        run = OnchainEventRun(*self._view("getEventRun", onchain_run_id, block=block)[0])
        if run.onchain_run_id != onchain_run_id or run.host == ZERO_ADDRESS:
            raise _unknown("getEventRun", "UnknownEventRun", onchain_run_id)
        return replace(run, status=status_of(RunStatus, run.status, f"event run {onchain_run_id}"))

    def get_booking_from_chain(self, onchain_booking_id: int, block: BlockId = "latest") -> OnchainBooking:
        """Returns a booking as of a block.

        Raises:
            ContractRejected: Named UnknownBooking if there is no such booking, even if the contract returns zeros.
            UnsupportedByContract: Its status is none of `BookingStatus`.
        """
        booking = OnchainBooking(*self._view("getBooking", onchain_booking_id, block=block)[0])
        if booking.onchain_booking_id != onchain_booking_id or booking.user == ZERO_ADDRESS:
            raise _unknown("getBooking", "UnknownBooking", onchain_booking_id)
        return replace(booking, status=status_of(BookingStatus, booking.status, f"booking {onchain_booking_id}"))

    def get_event_bookings(self, onchain_run_id: int) -> list[int]:
        """Returns the on-chain ids of a run's bookings."""
        return list(self._view("getEventBookings", onchain_run_id)[0])

    def get_user_bookings(self, user: str) -> list[int]:
        """Returns the on-chain ids of an attendee's bookings, by address."""
        return list(self._view("getUserBookings", _address(user))[0])

    def get_host_events(self, host: str) -> list[int]:
        """Returns the on-chain ids of a host's runs, by address."""
        return list(self._view("getHostEvents", _address(host))[0])

    def owner(self) -> ChecksumAddress:
        """Returns the address of the contract's owner."""
        address: ChecksumAddress = self._view("owner")[0]
        return address

    def is_operator(self, account: str) -> bool:
        """Returns whether an address acts for the platform without being the owner."""
        self._require_function("isOperator")
        return bool(self._view("isOperator", _address(account))[0])

    def credit_of(self, account: str) -> int:
        """Returns the credit of an address in wei."""
        self._require_function("creditOf")
        return int(self._view("creditOf", _address(account))[0])

    def platform_balance(self) -> int:
        """Returns the platform's earnings that are not withdrawn, in wei."""
        self._require_function("platformBalance")
        return int(self._view("platformBalance")[0])

    def total_liabilities(self) -> int:
        """Returns the sum of everything that the contract owes, in wei."""
        self._require_function("totalLiabilities")
        return int(self._view("totalLiabilities")[0])

    # ------------------------------------------------------------------------------- helpers

    def _for_party(
        self, function: str, party: str | None, signer: LocalAccount | None
    ) -> tuple[str, tuple[ChecksumAddress, ...]]:
        """Returns the function that acts for `party`, and its first arguments.

        The plain function acts for its sender. The function with the suffix For acts for the address that the platform
        passes, in whichever lane.
        """
        sender = signer.address if signer else self.platform
        is_in_a_lane = signer is None and self.sender.lanes.are_several
        if party is None or (_address(party) == sender and not is_in_a_lane):
            return function, ()
        self._require_function(f"{function}For", f"{party} has to sign for itself")
        return f"{function}For", (_address(party),)

    def _require_function(self, function: str, remedy: str = "there is no other way") -> None:
        if not self.has_full_interface:
            raise UnsupportedByContract(f"The contract at {self.address} has no {function}: {remedy}.")

    def _call(self, function: str, *args: Any, value: int = 0) -> Call:
        return self._codec.call(self.address, function, *args, value=value)

    def _events(self, receipt: Receipt) -> list[Event]:
        return self._codec.events(receipt.logs, self.address)

    def _view(self, function: str, *args: Any, block: BlockId = "latest") -> tuple[Any, ...]:
        call = self._call(function, *args)
        try:
            data = rpc.call(self._w3, call.to, call.data, block)
        except ContractLogicError as error:
            raise as_contract_rejected(function, error, self._codec) or as_chain_unavailable(function, error) from error
        except NODE_ERRORS as error:
            raise as_chain_unavailable(function, error) from error
        return self._codec.result(function, data)


def _unknown(function: str, error_name: str, onchain_id: int) -> ContractRejected:
    """Returns the error of `EventStake` itself, so that callers need not know which contract they call."""
    message = f"{function}: the contract has nothing under the id {onchain_id}, and gives zeros."
    return ContractRejected(error_name, (onchain_id,), message)


@lru_cache(maxsize=10_000)
def _address(text: str) -> ChecksumAddress:
    if not Web3.is_address(text):
        raise InvalidRequest(f"{text!r} is no Ethereum address.")
    return Web3.to_checksum_address(text)
