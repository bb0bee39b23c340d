"""Row 39: what strangers put on the chain: bytes that are no UTF-8, malformed data, runs past the backend."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from app.core.errors import ContractRejected, UnsupportedByContract
from app.services.codec import event_stake_codec, revert_data
from app.services.rpc_answers import MAX_INT64
from app.services.rpc_types import Log
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from fault_environment import SEND, FaultEnvironment, Forward, first, refusal, result
from hypothesis import given
from hypothesis import strategies as st
from web3 import Web3
from web3.exceptions import ContractLogicError

CODEC = event_stake_codec()
CONTRACT = Web3.to_checksum_address("0x" + "c0" * 20)
NO_UTF8 = b"\xff\xfe pottery \xed\xa0\x80 \xc3"
"""A start of a character, half of a surrogate pair, and half a character."""
RUN_TYPE = "(uint256,address,bytes,uint256,uint256,uint256,uint256,uint256,uint8,bool,uint256)"
CREATED = "EventRunCreated(uint256,address,string,uint256,uint256,uint256)"
TX, BLOCK = "0x" + "0a" * 32, "0x" + "0b" * 32


def topics(signature: str, *values: int) -> tuple[bytes, ...]:
    return (keccak(text=signature), *(value.to_bytes(32) for value in values))


# ------------------------------------------------------------------------------------------------------ decoding


def test_39_strings_that_are_no_utf8_are_decoded_with_replacements() -> None:
    run = (1, CONTRACT, NO_UTF8, 1, 1, 0, 0, 1, 1, False, 1)
    [decoded] = CODEC.result("getEventRun", encode([RUN_TYPE], [run]))
    assert decoded[2] == NO_UTF8.decode(errors="replace")
    assert decoded[2].encode().decode() == decoded[2], "no lone surrogate, so that it can be sent as JSON"
    data = encode(["bytes", "uint256", "uint256", "uint256"], [NO_UTF8, 1, 1, 0])
    [event] = CODEC.events([Log(CONTRACT, topics(CREATED, 1, 2), data, 1, BLOCK, TX)], CONTRACT)
    assert event.args["experience_id"] == decoded[2]


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff" * 32, b"\0" * 31 + b"\x20" + b"\xff" * 64, b"\xff" * 4 * 32])
def test_39_a_malformed_log_is_ignored(data: bytes) -> None:
    good = encode(["bytes", "uint256", "uint256", "uint256"], [b"a", 1, 1, 0])
    logs = [Log(CONTRACT, topics(CREATED, 1, 2), each, 1, BLOCK, TX) for each in (data, good, data)]
    logs.append(logs[1]._replace(topics=(*topics(CREATED, 1), b"\xff" * 32)))  # an address of 32 bytes
    assert [event.args["event_run_id"] for event in CODEC.events(logs, CONTRACT)] == [1]


SIGNATURES = [keccak(text=CREATED), *CODEC._events]
WORDS = st.sampled_from([b"\0" * 32, b"\xff" * 32, (32).to_bytes(32), (2**63).to_bytes(32)]) | st.binary(
    min_size=32, max_size=32
)
DATA = st.lists(WORDS, max_size=8).map(b"".join) | st.binary(max_size=100)


@given(st.sampled_from(SIGNATURES), st.lists(WORDS, max_size=3), DATA)
def test_39_no_log_raises(signature: bytes, more_topics: list[bytes], data: bytes) -> None:
    for event in CODEC.events([Log(CONTRACT, (signature, *more_topics), data, 1, BLOCK, TX)], CONTRACT):
        assert isinstance(event.name, str)


@given(st.sampled_from(sorted(CODEC._outputs)), DATA)
def test_39_no_view_raises_anything_else(function: str, data: bytes) -> None:
    with suppress(UnsupportedByContract):
        CODEC.result(function, data)


@given(st.sampled_from(sorted(CODEC._errors)) | st.binary(min_size=4, max_size=4), DATA)
def test_39_no_revert_raises_and_each_can_be_stored(selector: bytes, data: bytes) -> None:
    revert = CODEC.revert(selector + data)
    assert "\0" not in f"{revert.name}{revert.args}{revert.reason}"
    revert.reason.encode()


@given(st.none() | st.text() | st.from_regex("(Reverted )?0x[0-9a-fg]{0,9}", fullmatch=True))
def test_39_no_revert_data_raise(data: Any) -> None:
    assert isinstance(revert_data(ContractLogicError("", data)), bytes)


# --------------------------------------------------------------------------------------------------- on real parts


def send_raw_call(environment: FaultEnvironment, function: str, arguments: bytes) -> None:
    """A stranger's call, encoded past the codec; the stake of a run of 1 wei is 0."""
    call = CODEC.call(Web3.to_checksum_address(environment.address), "cancelEvent", 1)
    stranger = environment.engine.accounts[5]
    nonce = environment.w3.eth.get_transaction_count(stranger.address)
    data = keccak(text=function)[:4] + arguments
    raw = environment._sign(stranger, nonce, call.to, data, 50 * 10**9, 20 * 10**9)
    environment.rpc(SEND, raw)


@pytest.mark.slow
def test_39_runs_and_bookings_of_strangers_are_ignored(environment: FaultEnvironment) -> None:
    """One with a name that is no UTF-8, which starts after the year 9999, and a booking of it."""
    run = environment.open_run()
    environment.services.reconciler.run_full()
    arguments = encode(["bytes", "uint256", "uint256", "uint256"], [NO_UTF8, 1, 4, 2**39])
    send_raw_call(environment, "createEventRun(string,uint256,uint256,uint256)", arguments)
    environment.mine(3)
    services = environment.worker().services
    theirs = services.chain.get_event_run_from_chain(2)
    assert (theirs.experience_id, theirs.host) == (
        NO_UTF8.decode(errors="replace"),
        environment.engine.accounts[5].address,
    )
    events = services.chain.events_between(0, services.chain.block_number())
    assert [event.args["event_run_id"] for _, event in events if event.name == "EventRunCreated"] == [1, 2]
    for _ in range(2):
        report = services.reconciler.run_full()
        assert (report.problems, report.failure, report.differences) == ([], None, [])
    assert [row.id for row in services.runs.list_all()] == [run]


@pytest.mark.slow
@pytest.mark.parametrize("run_id", [MAX_INT64, MAX_INT64 + 1, 2**256 - 1])
def test_39_events_with_numbers_that_no_row_can_have(environment: FaultEnvironment, run_id: int) -> None:
    environment.open_run()
    worker = environment.worker()
    worker.services.reconciler.run_full()
    environment.mine(3)

    asked = list[Any]()

    def add_event(method: str, params: Any, forward: Forward) -> Any:
        if method != "eth_getLogs":
            return forward()
        asked.append(params)
        signature = "0x" + keccak(text="EventCancelled(uint256,uint256)").hex()
        log = {"address": worker.address, "topics": [signature, f"0x{run_id:064x}"], "data": "0x" + "00" * 32}
        at = {"blockNumber": params[0]["toBlock"], "blockHash": BLOCK, "transactionHash": TX, "removed": False}
        return result([log | at])

    worker.connection.fault = add_event
    report = worker.services.reconciler.run_full()
    assert (report.problems, report.failure) == ([], None)
    assert asked


@pytest.mark.slow
@pytest.mark.parametrize("reason", [b"no \xff seats", b"no \0 seats"])
def test_39_a_reason_that_no_column_can_hold(environment: FaultEnvironment, reason: bytes) -> None:
    """A contract's reason for a rejection is stored with the operation."""
    data = "0x08c379a0" + encode(["bytes"], [reason]).hex()
    response = refusal("execution reverted", 3)
    response["error"]["data"] = data
    operation = environment.prepare_run()
    environment.connection.fault = first(1, lambda *_: response, "eth_estimateGas")
    operation = environment.step(operation)
    assert (operation.state, (operation.error or {})["args"]) == ("rejected", ["no \ufffd seats"])
    with pytest.raises(ContractRejected, match="no \ufffd seats"):
        environment.services.sender.finish(operation)


@pytest.mark.slow
def test_39_a_nodes_words_that_no_column_can_hold(environment: FaultEnvironment) -> None:
    """Half a surrogate pair, and NUL, in a refusal that nobody foresaw."""
    operation = environment.step(environment.prepare_run())
    environment.connection.fault = first(1, lambda *_: refusal("no\ud800 room\0 here"), SEND)
    environment.step(operation)
    environment.connection.fault = None
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)
