"""The RPC requests return what `w3.eth` returns."""

from __future__ import annotations

from typing import Any

import pytest
from app.services import rpc
from app.services.rpc_types import Log, Receipt
from backend_environment import BackendEnvironment, answering, deploy
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3RPCError
from web3.middleware import Web3Middleware
from web3.providers import BaseProvider


def test_a_receipt_has_web3s_fields(backend: BackendEnvironment) -> None:
    w3 = backend.engine.w3
    backend.open_run()
    address = deploy(backend.engine, "Grumbler")
    created = []
    for number in (w3.eth.block_number - 1, w3.eth.block_number):
        [tx_hash] = w3.eth.get_block(number)["transactions"]
        ours, web3_receipt = rpc.receipt(w3, tx_hash.to_0x_hex()), w3.eth.get_transaction_receipt(tx_hash)
        assert ours is not None
        block_number, block_hash = web3_receipt["blockNumber"], web3_receipt["blockHash"].to_0x_hex()
        logs = [
            Log(log["address"], tuple(map(bytes, log["topics"])), log["data"], block_number, block_hash, ours.tx_hash)
            for log in web3_receipt["logs"]
        ]
        assert ours == Receipt(
            tx_hash.to_0x_hex(),
            block_number,
            block_hash,
            web3_receipt["from"],
            web3_receipt["to"],
            web3_receipt["contractAddress"],
            web3_receipt["status"] == 1,
            web3_receipt["gasUsed"],
            web3_receipt["effectiveGasPrice"],
            tuple(logs),
        )
        created.append((ours.contract_address, len(ours.logs) > 0))
    assert created == [(None, True), (address, False)]
    assert rpc.receipt(w3, "0x" + "ab" * 32) is None


def test_a_block_header_is_requested_without_transactions(backend: BackendEnvironment) -> None:
    w3, requests = backend.engine.w3, list[Any]()
    latest = w3.eth.get_block("latest")

    class Listen(Web3Middleware):
        def request_processor(self, method: Any, params: Any) -> Any:
            requests.append((method, params))
            return method, params

    w3.middleware_onion.add(Listen, "listen")
    heads = [rpc.block_header(w3), rpc.block_header(w3, latest["number"]), rpc.block_header(w3, latest["number"] + 1)]
    w3.middleware_onion.remove("listen")
    expected_header = rpc.BlockHeader(
        latest["number"],
        latest["hash"].to_0x_hex(),
        latest["parentHash"].to_0x_hex(),
        latest["timestamp"],
        latest["baseFeePerGas"],
        tuple(HexBytes(tx_hash).to_0x_hex() for tx_hash in latest["transactions"]),
    )
    assert expected_header.base_fee == latest["baseFeePerGas"]
    assert heads == [expected_header, expected_header, None]
    blocks = ("latest", hex(latest["number"]), hex(latest["number"] + 1))
    assert requests == [("eth_getBlockByNumber", [block, False]) for block in blocks]


TO = "0x" + "c0" * 20


class Node(BaseProvider):
    """A node that gives the same answer to each request."""

    def __init__(self, **says: Any) -> None:
        super().__init__()
        self.says, self.asked = says, list[Any]()

    def make_request(self, method: Any, params: Any) -> Any:
        self.asked.append((method, params))
        return {"jsonrpc": "2.0", "id": 1, **self.says}


def test_a_call_has_only_the_given_fields() -> None:
    says = Node(result="0x0c")
    w3 = Web3(says, [])
    assert rpc.call(w3, TO, b"\xab\xcd") == b"\x0c"
    assert rpc.call(w3, TO, b"", 7, sender=TO, value=10, gas=30) == b"\x0c"
    assert rpc.estimate_gas(w3, TO, b"", "pending", sender=TO) == 12
    assert says.asked == [
        ("eth_call", [{"to": TO, "data": "0xabcd"}, "latest"]),
        ("eth_call", [{"to": TO, "data": "0x", "from": TO, "value": "0xa", "gas": "0x1e"}, "0x7"]),
        ("eth_estimateGas", [{"to": TO, "data": "0x", "from": TO}, "pending"]),
    ]


@pytest.mark.parametrize(
    ("error", "data"),
    [
        ({"code": 3, "message": "execution reverted", "data": "0xab"}, "0xab"),
        ({"code": -32000, "message": "VM Exception while processing transaction", "data": "0xab"}, "0xab"),
        ({"code": -32000, "message": "VM execution error: Reverted"}, None),
    ],
)
def test_a_revert_is_recognized_by_its_data_or_message(error: dict[str, Any], data: str | None) -> None:
    with pytest.raises(ContractLogicError) as caught:
        rpc.call(Web3(Node(error=error), []), TO, b"")
    assert (caught.value.data, caught.value.message) == (data, error["message"])


def test_a_node_error_is_no_revert() -> None:
    with pytest.raises(Web3RPCError, match="too many requests"):
        rpc.call(Web3(Node(error={"code": -32005, "message": "too many requests"}), []), TO, b"")


def test_a_connection_error_is_no_revert() -> None:
    class Away(Node):
        def make_request(self, method: Any, params: Any) -> Any:
            raise Web3RPCError("reverted to another node")

    with pytest.raises(Web3RPCError, match="another node"):
        rpc.call(Web3(Away(), []), TO, b"")


@pytest.mark.parametrize("answered", ["0x", "0x64", "0x" + "00" * 31 + "64"])
def test_a_storage_slot_has_32_bytes_though_a_node_drops_zeros(backend: BackendEnvironment, answered: str) -> None:
    w3 = backend.engine.w3
    w3.middleware_onion.add(answering("eth_getStorageAt", answered), "short")
    try:
        slot = rpc.storage_at(w3, backend.chain.address, "0x0")
    finally:
        w3.middleware_onion.remove("short")
    assert slot == int(answered[2:] or "0", 16).to_bytes(32)
