"""A stranger books all free seats of a run just before a booking of the service is mined."""

from __future__ import annotations

from typing import NamedTuple

from hexbytes import HexBytes

from stakesim.faults.signed_transaction import SignedTransaction
from stakesim.faults.testbed import FaultTestbed, stranger

_BOOKING_FUNCTIONS = (("bookEvent", (0, 0), 0), ("bookEventFor", ("0x" + "00" * 20, 0, 0), 1))
"""Functions that book: name, example arguments, and the position of the run's id among them."""


class SellOut(NamedTuple):
    """The stranger's booking.

    Attributes:
        onchain_run_id: The run.
        seats: Seats that were free.
        tx_hash: Hash of the stranger's transaction, 0x-prefixed hex.
        raw: The signed transaction, 0x-prefixed hex.
    """

    onchain_run_id: int
    seats: int
    tx_hash: str
    raw: str


def sell_out(testbed: FaultTestbed, raw: str, *, tip: int) -> SellOut | None:
    """Sends the stranger's booking.

    Args:
        testbed: The chain, with a contract that has `bookEvent` and `getEventRun`.
        raw: Transaction that the service is about to send, 0x-prefixed hex.
        tip: Priority fee of the stranger, in wei per gas; above the service's.

    Returns:
        None, without a transaction, if the service does not book, or the run has no free seats.
    """
    abi, contract = testbed.abi, testbed.contract
    onchain_run_id = _booked_run(testbed, SignedTransaction.decode(raw).data)
    if onchain_run_id is None:
        return None
    call = "0x" + abi.encode("getEventRun", onchain_run_id).hex()
    response = testbed.rpc("eth_call", {"to": contract, "data": call}, "latest")
    _, _, _, price, max_seats, seats_booked, *_ = abi.decode("getEventRun", bytes(HexBytes(response)))[0]
    free_seats = max_seats - seats_booked
    if free_seats < 1:
        return None
    payment = price * free_seats
    buyer = stranger()
    tx_hash, booking = testbed.sign(
        buyer,
        testbed.w3.eth.get_transaction_count(buyer.address),
        contract,
        abi.encode("bookEvent", onchain_run_id, free_seats),
        payment + payment * testbed.terms.stake_bps // 10_000,
        tip=tip,
    )
    testbed.send(booking)
    return SellOut(onchain_run_id, free_seats, tx_hash, booking)


def _booked_run(testbed: FaultTestbed, calldata: bytes) -> int | None:
    """On-chain id of the run that this call books; None for other calls."""
    abi = testbed.abi
    for function, example, position in _BOOKING_FUNCTIONS:
        if function in abi and abi.encode(function, *example)[:4] == calldata[:4]:
            return int.from_bytes(calldata[4 + 32 * position : 36 + 32 * position], "big")
    return None
