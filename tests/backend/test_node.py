"""What is asked of a node past `w3.eth` is what `w3.eth` would tell."""

from __future__ import annotations

from typing import Any

import pytest
from app.services import rpc
from stage import Stage, deploy
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3RPCError
from web3.middleware import Web3Middleware
from web3.providers import BaseProvider


def test_a_receipt_has_web3s_fields(stage: Stage) -> None:
    w3 = stage.engine.w3
    stage.open_run()
    address = deploy(stage.engine, "Grumbler")
    seen = []
    for number in (w3.eth.block_number - 1, w3.eth.block_number):
        [tx_hash] = w3.eth.get_block(number)["transactions"]
        ours, theirs = rpc.receipt(w3, tx_hash.to_0x_hex()), w3.eth.get_transaction_receipt(tx_hash)
        assert ours is not None
        told = {field: theirs[field] for field in ours}
        told["logs"] = [{field: log[field] for field in ("address", "topics", "data")} for log in theirs["logs"]]
        assert ours == told
        seen.append((ours["contractAddress"], len(ours["logs"]) > 0))
    assert seen == [(None, True), (address, False)]
    assert rpc.receipt(w3, "0x" + "ab" * 32) is None


def test_a_head_is_asked_for_without_its_transactions(stage: Stage) -> None:
    w3, asked = stage.engine.w3, list[Any]()
    latest = w3.eth.get_block("latest")

    class Listen(Web3Middleware):
        def request_processor(self, method: Any, params: Any) -> Any:
            asked.append((method, params))
            return method, params

    w3.middleware_onion.add(Listen, "listen")
    heads = [rpc.block_header(w3), rpc.block_header(w3, latest["number"]), rpc.block_header(w3, latest["number"] + 1)]
    w3.middleware_onion.remove("listen")
    there = rpc.BlockHeader(latest["number"], latest["hash"].to_0x_hex(), latest["baseFeePerGas"])
    assert heads == [there, there, None]
    blocks = ("latest", hex(latest["number"]), hex(latest["number"] + 1))
    assert asked == [("eth_getBlockByNumber", [block, False]) for block in blocks]


TO = "0x" + "c0" * 20


class Node(BaseProvider):
    """Says the same whatever it is asked."""

    def __init__(self, **says: Any) -> None:
        super().__init__()
        self.says, self.asked = says, list[Any]()

    def make_request(self, method: Any, params: Any) -> Any:
        self.asked.append((method, params))
        return {"jsonrpc": "2.0", "id": 1, **self.says}


def test_a_call_has_no_more_fields_than_were_given() -> None:
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
def test_a_revert_is_told_from_trouble_by_its_data_or_by_the_word(error: dict[str, Any], data: str | None) -> None:
    with pytest.raises(ContractLogicError) as caught:
        rpc.call(Web3(Node(error=error), []), TO, b"")
    assert (caught.value.data, caught.value.message) == (data, error["message"])


def test_trouble_is_no_revert() -> None:
    with pytest.raises(Web3RPCError, match="too many requests"):
        rpc.call(Web3(Node(error={"code": -32005, "message": "too many requests"}), []), TO, b"")


def test_trouble_that_is_raised_on_the_way_is_no_revert() -> None:
    class Away(Node):
        def make_request(self, method: Any, params: Any) -> Any:
            raise Web3RPCError("reverted to another node")

    with pytest.raises(Web3RPCError, match="another node"):
        rpc.call(Web3(Away(), []), TO, b"")
