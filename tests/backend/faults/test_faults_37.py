"""Row 37: what nodes say is parsed into typed values, and everything else is that node's trouble."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from app.core.errors import ChainUnavailable
from app.services import rpc
from app.services.codec import event_stake_codec
from app.services.rpc_answers import parse, printable, result_of
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable, as_contract_rejected
from app.services.rpc_failover import FailoverProvider
from app.services.rpc_types import BlockHeader, MalformedAnswer, NodeError, Receipt
from eth_utils.crypto import keccak
from fault_environment import SEND, FaultEnvironment, Forward, first
from hypothesis import given
from hypothesis import strategies as st
from scripted_node import HttpError, ScriptedNode, running
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3Exception
from web3.providers import BaseProvider

RAW = "0x02f86d"
RAW_HASH = "0x" + keccak(hexstr=RAW).hex()
TX, OTHER_TX, BLOCK, OTHER_BLOCK = ("0x" + byte * 32 for byte in ("a1", "a2", "b1", "b2"))
WHO, CONTRACT = Web3.to_checksum_address("0x" + "11" * 20), Web3.to_checksum_address("0x" + "c0" * 20)

LOG = {
    "address": CONTRACT.lower(),
    "topics": ["0x" + "0f" * 32],
    "data": "0xabcd",
    "blockNumber": "0x7",
    "blockHash": BLOCK,
    "transactionHash": TX,
    "removed": False,
}
RECEIPT = {
    "transactionHash": TX,
    "blockHash": BLOCK,
    "blockNumber": "0x7",
    "from": WHO,
    "to": CONTRACT,
    "contractAddress": None,
    "status": "0x1",
    "gasUsed": "0x5208",
    "effectiveGasPrice": "0x3b9aca00",
    "logs": [LOG],
}
HEADER = {
    "number": "0x7",
    "hash": BLOCK,
    "parentHash": OTHER_BLOCK,
    "timestamp": "0x65",
    "baseFeePerGas": "0x7",
    "transactions": [TX],
}
TRANSACTION = {"hash": TX, "from": WHO, "to": None, "nonce": "0x5", "blockNumber": "0x7", "blockHash": BLOCK}
FULL_BLOCK = HEADER | {"transactions": [TRANSACTION]}
FILTER = {"address": CONTRACT, "fromBlock": "0x5", "toBlock": "0x9"}

GOOD: list[tuple[str, tuple[Any, ...], Any]] = [
    ("eth_chainId", (), "0xaa36a7"),
    ("eth_blockNumber", (), "0x7"),
    ("eth_getTransactionCount", (WHO, "latest"), "0x5"),
    ("eth_estimateGas", ({}, "latest"), "0x5208"),
    ("eth_getBalance", (WHO, "latest"), "0x0"),
    ("eth_getCode", (WHO, "latest"), "0x"),
    ("eth_call", ({}, "latest"), "0xabcd"),
    (SEND, (RAW,), RAW_HASH),
    ("eth_getTransactionReceipt", (TX,), RECEIPT),
    ("eth_getTransactionByHash", (TX,), TRANSACTION),
    ("eth_getBlockByNumber", ("0x7", False), HEADER),
    ("eth_getBlockByNumber", ("0x7", True), FULL_BLOCK),
    ("eth_getLogs", (FILTER,), [LOG]),
]
"""An answer that is right, for each request."""


@pytest.mark.parametrize(("method", "params", "answer"), GOOD)
def test_37_right_answers_are_typed_values(method: str, params: Any, answer: Any) -> None:
    assert isinstance(parse(method, params, answer), int | str | bytes | tuple)


def test_37_a_header_and_a_receipt() -> None:
    header = parse("eth_getBlockByNumber", ["latest", False], HEADER)
    assert header == BlockHeader(7, BLOCK, OTHER_BLOCK, 101, 7, (TX,))
    receipt = parse("eth_getTransactionReceipt", [TX.upper().replace("X", "x")], RECEIPT)
    assert isinstance(receipt, Receipt)
    assert (receipt.succeeded, receipt.sender, receipt.to, receipt.gas_price) == (True, WHO, CONTRACT, 10**9)
    assert (receipt.logs[0].address, receipt.logs[0].data) == (CONTRACT, b"\xab\xcd")
    with pytest.raises(AttributeError):
        receipt.succeeded = False  # type: ignore[misc]


def test_37_a_network_without_a_base_fee() -> None:
    """Its blocks can be compared; only what needs the fee fails, and says why."""
    header = parse("eth_getBlockByNumber", ["0x7", False], {k: v for k, v in HEADER.items() if k != "baseFeePerGas"})
    assert (header.number, header.base_fee_per_gas) == (7, None)
    with pytest.raises(MalformedAnswer, match="block 7 has no base fee, and transactions of EIP-1559 need one"):
        header.base_fee  # noqa: B018


NO_NUMBERS = [None, 7, "7", "0x", "0x-1", "-0x1", "0x1_0", " 0x1", "0x1 ", "0xg", "0x" + "f" * 65, True, [], {}, "0x٣"]
NO_HASHES = [None, "0x", BLOCK[:-1], BLOCK + "0", BLOCK[2:], "0x" + "g" * 64, "0x" + "0" * 63 + " ", 7, [BLOCK]]
NO_ADDRESSES = [None, "0x", CONTRACT[:-1], CONTRACT[2:], CONTRACT + "0", "0x" + "g" * 40, 7, {}]
NO_DATA = [None, "", "0x0", "abcd", "0xab c", "0xzz", 7, [], "0x" + "é" * 2]
METHOD_OF = {id(RECEIPT): ("eth_getTransactionReceipt", (TX,)), id(HEADER): ("eth_getBlockByNumber", ("0x7", False))}


def wrong(record: dict[str, Any], field: str, values: list[Any]) -> list[Any]:
    method, params = METHOD_OF[id(record)]
    answers = [record | {field: value} for value in values] + [{k: v for k, v in record.items() if k != field}]
    return [pytest.param(method, params, answer, id=f"{field}: {str(answer.get(field))[:20]}") for answer in answers]


def wrong_logs(field: str, values: list[Any]) -> list[Any]:
    logs = [LOG | {field: value} for value in values] + [{k: v for k, v in LOG.items() if k != field}]
    return [
        pytest.param(
            "eth_getTransactionReceipt", (TX,), RECEIPT | {"logs": [log]}, id=f"{field}: {log.get(field)!s:.20}"
        )
        for log in logs
    ]


MALFORMED = [
    *wrong(RECEIPT, "transactionHash", [*NO_HASHES, OTHER_TX]),
    *wrong(RECEIPT, "blockHash", [*NO_HASHES, OTHER_BLOCK]),
    *wrong(RECEIPT, "blockNumber", [*NO_NUMBERS, "0x8", hex(2**63)]),
    *wrong(RECEIPT, "status", [*NO_NUMBERS, "0x2"]),
    *wrong(RECEIPT, "gasUsed", [*NO_NUMBERS, hex(2**63)]),
    *wrong(RECEIPT, "effectiveGasPrice", NO_NUMBERS),
    *wrong(RECEIPT, "from", NO_ADDRESSES),
    *wrong(RECEIPT, "logs", [None, 7, "0x", {}, [None], [[]], ["0x"]])[:-1],
    *wrong_logs("transactionHash", [None, OTHER_TX, "0x"]),
    *wrong_logs("blockHash", [None, OTHER_BLOCK, "0x"]),
    *wrong_logs("blockNumber", [None, "0x8", "7"]),
    *wrong_logs("address", NO_ADDRESSES),
    *wrong_logs("topics", [None, ["0x"], ["0x" + "0f" * 31], [None], ["0x" + "0f" * 32] * 5, 7]),
    *wrong_logs("data", NO_DATA),
    *wrong_logs("removed", [True, None, "false", 0])[:-1],
    *wrong(HEADER, "number", [*NO_NUMBERS, "0x8", hex(2**63)]),
    *wrong(HEADER, "hash", NO_HASHES),
    *wrong(HEADER, "parentHash", NO_HASHES),
    *wrong(HEADER, "timestamp", [*NO_NUMBERS, hex(2**40)]),
    *wrong(HEADER, "baseFeePerGas", NO_NUMBERS)[:-1],
    *wrong(HEADER, "transactions", [None, 7, TX, {}, [None], [TRANSACTION], ["0x"]]),
    pytest.param("eth_getTransactionReceipt", (OTHER_TX,), RECEIPT, id="another transaction's receipt"),
    pytest.param("eth_getLogs", (FILTER,), None, id="logs: None"),
    pytest.param("eth_getLogs", (FILTER,), {}, id="logs: {}"),
    pytest.param("eth_getLogs", (FILTER,), "", id="logs: ''"),
    pytest.param("eth_getLogs", (FILTER,), [LOG | {"address": WHO}], id="another contract's log"),
    pytest.param("eth_getLogs", (FILTER,), [LOG | {"blockNumber": "0x4"}], id="a log before the range"),
    pytest.param("eth_getLogs", (FILTER,), [LOG | {"blockNumber": "0xa"}], id="a log after the range"),
    pytest.param(SEND, (RAW,), TX, id="another transaction's hash"),
    pytest.param(SEND, (RAW,), None, id="no hash"),
    pytest.param("eth_chainId", (), "0x0", id="chain 0"),
    pytest.param("eth_estimateGas", ({}, "latest"), "0x0", id="no gas"),
    pytest.param("eth_call", ({}, "latest"), None, id="no output"),
    pytest.param("eth_getTransactionByHash", (OTHER_TX,), TRANSACTION, id="another transaction"),
    pytest.param("eth_getTransactionByHash", (TX,), TRANSACTION | {"blockHash": None}, id="half a block"),
    pytest.param("eth_getBlockByNumber", ("0x8", True), FULL_BLOCK, id="another block"),
    pytest.param(
        "eth_getBlockByNumber",
        ("0x7", True),
        FULL_BLOCK | {"transactions": [TRANSACTION | {"blockHash": OTHER_BLOCK}]},
        id="a transaction of another block",
    ),
]


@pytest.mark.slow
def test_37_malformed_answers_are_the_nodes_trouble(subtests: pytest.Subtests) -> None:
    for case in MALFORMED:
        with subtests.test(str(case.id)):
            with pytest.raises(MalformedAnswer) as caught:
                parse(*case.values)
            assert isinstance(caught.value, NODE_ERRORS)
            assert len(str(caught.value)) < 120, "it quotes nothing of the answer"


# -------------------------------------------------------------------------------------------------------- fuzzing

HEX = st.from_regex(r"0x[0-9a-f]{0,66}", fullmatch=True) | st.sampled_from([TX, BLOCK, WHO, "0x7"])
TEXTS = st.text(max_size=70) | HEX
NAMES = TEXTS | st.sampled_from([*RECEIPT, *LOG, *HEADER])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def nearly_right(draw: st.DrawFn) -> Any:
    """A right answer with some of its values replaced or removed, at any depth."""
    method, params, answer = copy.deepcopy(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 3))):
        node: Any = answer
        while isinstance(node, dict | list) and node:
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
            if not isinstance(node[key], dict | list) or draw(st.booleans()):
                if draw(st.booleans()):
                    node[key] = draw(JSON)
                else:
                    del node[key]
                break
            node = node[key]
        else:
            answer = draw(JSON)
    return method, params, answer


@pytest.mark.slow
@given(nearly_right() | st.tuples(st.sampled_from(GOOD), JSON).map(lambda case: (*case[0][:2], case[1])))
def test_37_any_result_is_a_value_or_the_one_error(case: Any) -> None:
    with suppress(MalformedAnswer):
        parse(*case)


class Says(BaseProvider):
    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response

    def make_request(self, method: Any, params: Any) -> Any:
        return self.response


REVERT_DATA = JSON | st.sampled_from(["0xzz", "Reverted 0x1", {"a": {"data": "0x1"}}, {"data": {"data": []}}])
ERRORS = st.fixed_dictionaries({}, optional={"code": JSON, "message": TEXTS | JSON, "data": REVERT_DATA})
RESPONSES = JSON | st.fixed_dictionaries(
    {}, optional={"id": JSON, "jsonrpc": JSON, "result": JSON, "error": ERRORS | JSON}
)
REQUESTS: list[Callable[[Web3], Any]] = [
    rpc.chain_id,
    rpc.block_number,
    rpc.block_header,
    rpc.latest_header,
    lambda w3: rpc.block_transactions(w3, 7),
    lambda w3: rpc.transaction(w3, TX),
    lambda w3: rpc.transaction_count(w3, WHO, "latest"),
    lambda w3: rpc.balance(w3, WHO),
    lambda w3: rpc.code(w3, WHO),
    lambda w3: rpc.logs(w3, CONTRACT, 5, 9),
    lambda w3: rpc.call(w3, CONTRACT, b""),
    lambda w3: rpc.estimate_gas(w3, CONTRACT, b"", "pending"),
    lambda w3: rpc.send_raw(w3, RAW),
    lambda w3: rpc.receipt(w3, TX),
]


@pytest.mark.slow
@given(st.sampled_from(REQUESTS), RESPONSES)
def test_37_any_response_is_a_value_or_a_nodes_error(request_: Callable[[Web3], Any], response: Any) -> None:
    try:
        request_(Web3(Says(response), []))
    except ContractLogicError as error:
        as_contract_rejected("bookEvent", error, event_stake_codec())
    except Web3Exception as error:
        as_chain_unavailable("bookEvent", error).message.encode()


@given(st.text(st.characters(), max_size=2_000))
def test_37_a_nodes_words_can_be_logged_and_stored(words: str) -> None:
    clean = printable(words)
    assert clean.encode().decode() == clean
    assert "\0" not in clean
    assert "\n" not in clean
    assert len(clean) <= 500


def test_37_a_nodes_words_show_no_url() -> None:
    assert "secret" not in printable("upstream https://node.example/v3/secret failed; see wss://x.example/?key=secret2")
    with pytest.raises(NodeError, match="too many requests"):
        result_of({"error": "too many requests"})


# ------------------------------------------------------------------------------------------------- the next endpoint


@pytest.mark.parametrize("answer", [None, {}, RECEIPT | {"transactionHash": OTHER_TX}, RECEIPT | {"logs": None}])
def test_37_the_next_endpoint_is_asked(answer: Any) -> None:
    lying, honest = ScriptedNode(), ScriptedNode(eth_getTransactionReceipt=lambda _: RECEIPT, eth_call=lambda _: "0x0c")
    lying.answers["eth_getTransactionReceipt"] = lambda _: answer or {}
    lying.answers["eth_call"] = lambda _: answer
    with running(lying, honest):
        w3 = Web3(FailoverProvider([lying.url, honest.url]), [])
        receipt = rpc.receipt(w3, TX)
        assert receipt is not None
        assert receipt.tx_hash == TX
        assert rpc.call(w3, CONTRACT, b"") == b"\x0c"
    assert lying.asked


@pytest.mark.parametrize("response_id", [None, "1", -1, [], 4711])
def test_37_a_response_to_another_request(response_id: Any) -> None:
    """A proxy that mixes up its clients' requests."""
    mixed_up, good = ScriptedNode(eth_call=lambda _: "0xbad0"), ScriptedNode(eth_call=lambda _: "0x0c")
    mixed_up.id_of = lambda request: response_id
    with running(mixed_up, good):
        w3 = Web3(FailoverProvider([mixed_up.url, good.url]), [])
        assert rpc.call(w3, CONTRACT, b"") == b"\x0c"
    assert mixed_up.asked == ["eth_call"]


def test_37_an_error_to_another_request_is_no_answer() -> None:
    mixed_up, good = ScriptedNode(), ScriptedNode(**{SEND: lambda _: RAW_HASH})
    mixed_up.answers[SEND] = lambda _: HttpError("nonce too low: next nonce 7, tx nonce 5")
    mixed_up.id_of = lambda request: request["id"] + 1
    with running(mixed_up, good):
        rpc.send_raw(Web3(FailoverProvider([mixed_up.url, good.url]), []), RAW)
    assert good.asked == [SEND]


# ---------------------------------------------------------------------------------------- one operation's round only


@pytest.mark.slow
def test_37_a_receipt_of_another_sender_or_receiver(environment: FaultEnvironment) -> None:
    """The transaction with our hash is ours alone, so such a receipt is a lie."""
    operation = environment.follow(environment.prepare_run())
    environment.mine()
    for field in ("from", "to"):

        def lie(method: str, params: Any, forward: Forward, field: str = field) -> Any:
            response = forward()
            return response | {"result": response["result"] | {field: WHO}}

        environment.connection.fault = first(1, lie, "eth_getTransactionReceipt")
        with pytest.raises(ChainUnavailable, match="malformed"):
            environment.step(operation)
        assert environment.find(operation).state == "submitted"
    environment.connection.fault = None
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1)


@pytest.mark.slow
@pytest.mark.parametrize("field", ["blockHash", "status", "logs", "gasUsed"])
def test_37_one_bad_answer_stops_one_operations_round(environment: FaultEnvironment, field: str) -> None:
    """The reconciler goes on with the next operation."""
    bad, good = (environment.follow(environment.prepare_run(seats=seats)) for seats in (4, 5))
    environment.mine(3)
    hashes = {attempt.tx_hash for attempt in bad.attempts}

    def lie(method: str, params: Any, forward: Forward) -> Any:
        response = forward()
        if method == "eth_getTransactionReceipt" and params[0] in hashes:
            response["result"][field] = None
        return response

    worker = environment.worker()
    worker.connection.fault = lie
    report = worker.services.reconciler.run_full()
    assert any("malformed" in problem for problem in report.problems)
    worker.connection.fault = None
    report = worker.services.reconciler.run_full()
    assert (report.pending, report.problems) == ([], [])
    assert environment.find(good).state == "confirmed"
    environment.check(runs=2)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["all", "the last"])
def test_37_a_receipt_without_some_of_its_logs_is_the_node_s_trouble(
    environment: FaultEnvironment, missing: str
) -> None:
    """Without its events, the operation would be closed, and the rows keep their status."""
    run = environment.open_run()
    bookings = [environment.settle(environment.prepare_booking(run)) for _ in range(2)]
    environment.engine.set_next_timestamp(int(environment.services.runs.get(run).starts_at.timestamp()))
    environment.mine()
    attended = [booking.subject for booking in bookings if booking.subject]
    operation = environment.follow(environment.services.runs.prepare_complete(run, attended))
    environment.mine(3)

    def cut(method: str, params: Any, forward: Forward) -> Any:
        response = forward()
        if method == "eth_getTransactionReceipt" and response["result"]:
            logs = response["result"]["logs"]
            response["result"]["logs"] = {"all": [], "the last": logs[:-1]}[missing]
        return response

    environment.connection.fault = cut
    with pytest.raises(ChainUnavailable):
        environment.step(operation)
    environment.connection.fault = None
    assert environment.settle(operation).state == "confirmed"
    environment.check(runs=1, bookings=2)


def test_37_a_bloom_filter_of_zeros_says_nothing() -> None:
    """Some networks give one for every receipt."""
    receipt = parse("eth_getTransactionReceipt", [TX], RECEIPT | {"logsBloom": "0x" + "00" * 256})
    assert len(receipt.logs) == 1
