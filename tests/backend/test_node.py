"""What is asked of a node past `w3.eth` is what `w3.eth` would tell."""

from __future__ import annotations

from typing import Any

from app.services import node
from stage import Stage, deploy
from web3.middleware import Web3Middleware


def test_a_receipt_has_web3s_fields(stage: Stage) -> None:
    w3 = stage.engine.w3
    stage.open_run()
    address = deploy(stage.engine, "Grumbler")
    seen = []
    for number in (w3.eth.block_number - 1, w3.eth.block_number):
        [tx_hash] = w3.eth.get_block(number)["transactions"]
        ours, theirs = node.receipt(w3, tx_hash.to_0x_hex()), w3.eth.get_transaction_receipt(tx_hash)
        assert ours is not None
        told = {field: theirs[field] for field in ours}
        told["logs"] = [{field: log[field] for field in ("address", "topics", "data")} for log in theirs["logs"]]
        assert ours == told
        seen.append((ours["contractAddress"], len(ours["logs"]) > 0))
    assert seen == [(None, True), (address, False)]
    assert node.receipt(w3, "0x" + "ab" * 32) is None


def test_a_head_is_asked_for_without_its_transactions(stage: Stage) -> None:
    w3, asked = stage.engine.w3, list[Any]()
    latest = w3.eth.get_block("latest")

    class Listen(Web3Middleware):
        def request_processor(self, method: Any, params: Any) -> Any:
            asked.append((method, params))
            return method, params

    w3.middleware_onion.add(Listen, "listen")
    heads = [node.head(w3), node.head(w3, latest["number"]), node.head(w3, latest["number"] + 1)]
    w3.middleware_onion.remove("listen")
    there = node.Head(latest["number"], latest["hash"].to_0x_hex(), latest["baseFeePerGas"])
    assert heads == [there, there, None]
    blocks = ("latest", hex(latest["number"]), hex(latest["number"] + 1))
    assert asked == [("eth_getBlockByNumber", [block, False]) for block in blocks]
