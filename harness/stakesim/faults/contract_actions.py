"""Faults of the contract around a service: strangers use it, it is paused, its owner or its code changes.

They need no transaction of the service's account: owner and pause are written to the contract's storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hexbytes import HexBytes
from web3.exceptions import Web3RPCError

from stakesim.faults.chain_actions import CHAIN_FAULTS
from stakesim.faults.chain_faults import ChainFault, ChainFaults
from stakesim.faults.testbed import FaultTestbed, stranger

STRANGERS_RUN = "a stranger's run with bytes that are no UTF-8"
STRANGERS_BOOKING = "a stranger's booking"
PAUSED = "contract paused"
OTHER_OWNER = "contract has another owner"
OTHER_CODE = "contract has other code"
RUN_OVER = "runs have begun"
_NO_UTF8 = b"\xff\xfe\xc3\x28"
_PLACEHOLDER = "????"
"""Text of as many bytes as `_NO_UTF8`."""
_STOP = "0x600080fd"
"""Code that reverts without data."""
_PRICE_WEI = 10**15
_DAYS = range(1, 6)


def _send_as_stranger(faults: ChainFaults, data: bytes, value: int) -> str:
    testbed, by = faults.testbed, stranger()
    nonce = testbed.w3.eth.get_transaction_count(by.address, "pending")
    tx_hash, raw = testbed.sign(by, nonce, testbed.contract, data, value, tip=faults.max_fee * 2)
    testbed.send(raw)
    faults.foreign[tx_hash] = raw
    faults.mine()
    return tx_hash


def _create_run(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    """The experience's id is text of the contract, and can be any bytes."""
    testbed = faults.testbed
    starts_at = testbed.engine.now() + 5 * 86_400
    data = testbed.abi.encode("createEventRun", _PLACEHOLDER, _PRICE_WEI, 5, starts_at)
    stake = 5 * _PRICE_WEI * testbed.terms.stake_bps // 10_000
    tx_hash = _send_as_stranger(faults, data.replace(_PLACEHOLDER.encode(), _NO_UTF8), stake)
    return f"{tx_hash[:10]}"


def _book(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    """Books a seat of a run that is open, whoever created it."""
    testbed = faults.testbed
    run_count = faults.choose("run", range(1, 4))
    try:
        response = testbed.rpc(
            "eth_call",
            {"to": testbed.contract, "data": "0x" + testbed.abi.encode("calculateBookingCost", run_count, 1).hex()},
            "latest",
        )
    except Web3RPCError:
        return None
    payment, stake, *_ = testbed.abi.decode("calculateBookingCost", bytes(HexBytes(response)))
    if not payment:
        return None
    return f"{_send_as_stranger(faults, testbed.abi.encode('bookEvent', run_count, 1), payment + stake)[:10]}"


def _pause(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    return _change_storage(faults, "paused", PAUSED)


def _change_owner(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    return _change_storage(faults, "owner", OTHER_OWNER)


def _change_storage(faults: ChainFaults, view: str, name: str) -> str | None:
    """Flips a bit of the slot that `view` reads, and restores that bit when the faults stop.

    The rest of the slot stays as it is by then: the contract keeps other values there.
    """
    testbed = faults.testbed
    if name in faults.undo:
        return None
    found = _slot_of(testbed, view)
    if found is None:
        return None
    slot, bit, original = found
    _write_bit(testbed, slot, bit, not original)
    faults.undo[name] = lambda: _write_bit(testbed, slot, bit, original)
    return "until the faults stop"


def _slot_of(testbed: FaultTestbed, view: str) -> tuple[int, int, bool] | None:
    """Slot that a view without arguments reads, a bit of it that changes the view, and that bit's value."""
    data = "0x" + testbed.abi.encode(view).hex()
    before = testbed.rpc("eth_call", {"to": testbed.contract, "data": data}, "latest")
    for slot in range(8):
        for bit in (0, 160):
            original = bool(_read(testbed, slot) >> bit & 1)
            _write_bit(testbed, slot, bit, not original)
            after = testbed.rpc("eth_call", {"to": testbed.contract, "data": data}, "latest")
            _write_bit(testbed, slot, bit, original)
            if after != before:
                return slot, bit, original
    return None


def _read(testbed: FaultTestbed, slot: int) -> int:
    return int(testbed.rpc("eth_getStorageAt", testbed.contract, hex(slot), "latest"), 16)


def _write_bit(testbed: FaultTestbed, slot: int, bit: int, is_set: bool) -> None:
    value = _read(testbed, slot) & ~(1 << bit) | is_set << bit
    testbed.rpc("anvil_setStorageAt", testbed.contract, hex(slot), "0x" + value.to_bytes(32, "big").hex())


def _change_code(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    testbed = faults.testbed
    if OTHER_CODE in faults.undo:
        return None
    code = testbed.rpc("eth_getCode", testbed.contract, "latest")
    testbed.rpc("anvil_setCode", testbed.contract, _STOP)
    faults.undo[OTHER_CODE] = lambda: testbed.rpc("anvil_setCode", testbed.contract, code)
    return "until the faults stop"


def _let_days_pass(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    """Runs begin, and end, while orders wait."""
    days = faults.choose("days", _DAYS)
    testbed = faults.testbed
    testbed.engine.set_next_timestamp(testbed.engine.now() + days * 86_400)
    faults.mine()
    return f"{days} days pass"


CONTRACT_FAULTS: tuple[ChainFault, ...] = (
    ChainFault(STRANGERS_RUN, 39, _create_run, needs=("createEventRun",)),
    ChainFault(STRANGERS_BOOKING, 39, _book, needs=("bookEvent", "calculateBookingCost")),
    ChainFault(PAUSED, 42, _pause, needs=("paused",)),
    ChainFault(OTHER_OWNER, 42, _change_owner, needs=("owner",)),
    ChainFault(OTHER_CODE, 42, _change_code, needs=("paused",)),
    ChainFault(RUN_OVER, 43, _let_days_pass, needs=("bookEvent",)),
)
"""All faults of this module, each with a unique name."""
SURROUNDINGS = (*CHAIN_FAULTS, *CONTRACT_FAULTS)
"""All faults of the chain and of the contract."""
