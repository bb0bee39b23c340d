"""The node behind `stakesim.evm.provider()`: what web3's own tests (`test_web3_modules.py`) leave out."""

from __future__ import annotations

import random
import re
import secrets
from typing import Any

import pytest
import stakesim.evm
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract
from stakesim.evm.errors import EngineError
from stakesim.paths import checkout
from web3 import Web3
from web3.exceptions import MethodUnavailable, TransactionNotFound, Web3RPCError
from web3.types import RPCEndpoint

from tests.engines.test_open_engine import stops_answering

GWEI = 10**9
NOBODY = "0x" + "00" * 19 + "99"


@pytest.fixture(scope="module", params=["py-evm", "revm"])
def client(request: pytest.FixtureRequest) -> Web3:
    if request.param == "revm":
        pytest.importorskip("pyrevm", reason="the engine revm is an extra: pip install -e '.[revm]'")
    return Web3(stakesim.evm.provider(request.param))


@pytest.fixture
def w3(client: Web3) -> Any:
    """Back at the first block in each test."""
    ask(client, "evm_setAutomine", True)
    ask(client, "evm_reset")
    return client


def ask(w3: Web3, method: str, *params: Any) -> Any:
    return w3.manager.request_blocking(RPCEndpoint(method), list(params))


def pay(w3: Web3, sender: int = 0, **fields: Any) -> Any:
    fees = {} if "gasPrice" in fields else {"maxFeePerGas": 3 * GWEI, "maxPriorityFeePerGas": GWEI}
    return w3.eth.send_transaction(
        {"from": w3.eth.accounts[sender], "to": NOBODY, "value": 1, "gas": 21_000} | fees | fields
    )


def probe(w3: Web3) -> Any:
    artifact = load_contract(CONTRACTS / "test" / "Probe.sol")
    deployment = w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode).constructor()
    receipt = w3.eth.wait_for_transaction_receipt(deployment.transact({"from": w3.eth.accounts[0]}))
    return w3.eth.contract(receipt["contractAddress"], abi=artifact.abi)


def test_each_provider_has_a_chain_of_its_own(w3: Web3) -> None:
    other = Web3(stakesim.evm.provider("py-evm"))
    pay(w3)
    assert (w3.eth.get_balance(NOBODY), other.eth.get_balance(NOBODY)) == (1, 0)
    assert other.eth.accounts == w3.eth.accounts


def test_the_examples_of_node_md_run(w3: Web3) -> None:
    first, in_pytest = re.findall(r"```python\n(.*?)```", (checkout() / "docs" / "NODE.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(first + in_pytest, names)
    names["test_transfer"](w3)


def test_an_unknown_engine_is_an_error_that_lists_the_choices() -> None:
    with pytest.raises(EngineError, match="choose py-evm, revm, anvil, or rpc:http://"):
        stakesim.evm.provider("geth")


def test_waiting_transactions_are_mined_by_nonce_and_then_in_order_of_arrival(w3: Web3) -> None:
    ask(w3, "evm_setAutomine", False)
    second, first, other, gap = pay(w3, nonce=1), pay(w3, nonce=0), pay(w3, sender=1), pay(w3, nonce=7)
    assert w3.eth.block_number == 0
    assert w3.eth.get_transaction_count(w3.eth.accounts[0]) == 0
    assert w3.eth.get_transaction_count(w3.eth.accounts[0], "pending") == 2
    assert w3.eth.get_block("pending")["transactions"] == [second, first, other, gap]
    assert {state: int(number, 16) for state, number in w3.geth.txpool.status().items()} == {"pending": 3, "queued": 1}
    assert list(w3.geth.txpool.content()["queued"][w3.eth.accounts[0]]) == ["7"]
    w3.testing.mine()
    assert w3.eth.get_block("latest")["transactions"] == [first, other, second]
    receipts = w3.eth.get_block_receipts("latest")
    assert [receipt["cumulativeGasUsed"] for receipt in receipts] == [21_000, 42_000, 63_000]
    assert w3.eth.get_balance(NOBODY) == 3
    assert w3.eth.get_transaction(gap)["blockHash"] is None
    with pytest.raises(TransactionNotFound):
        w3.eth.get_transaction_receipt(gap)


def test_what_waited_is_mined_when_blocks_are_mined_at_once_again(w3: Web3) -> None:
    ask(w3, "evm_setAutomine", False)
    held = pay(w3)
    assert ask(w3, "anvil_getAutomine") is False
    ask(w3, "evm_setAutomine", True)
    assert w3.eth.get_transaction_receipt(held)["blockNumber"] == 1


@pytest.mark.parametrize(
    ("fees", "replaces"),
    [
        ({"maxFeePerGas": 33 * GWEI // 10, "maxPriorityFeePerGas": 11 * GWEI // 10}, True),
        ({"maxFeePerGas": 33 * GWEI // 10 - 1, "maxPriorityFeePerGas": 11 * GWEI // 10}, False),
        ({"maxFeePerGas": 4 * GWEI, "maxPriorityFeePerGas": 11 * GWEI // 10 - 1}, False),
    ],
)
def test_a_replacement_pays_a_tenth_more_of_both_fees(w3: Web3, fees: dict[str, int], replaces: bool) -> None:
    ask(w3, "evm_setAutomine", False)
    old = pay(w3, nonce=0)
    if not replaces:
        with pytest.raises(Web3RPCError, match="replacement transaction underpriced"):
            pay(w3, nonce=0, value=2, **fees)
    new = pay(w3, nonce=0, value=2, **fees) if replaces else old
    w3.testing.mine()
    assert w3.eth.get_block("latest")["transactions"] == [new]


def test_a_block_takes_what_its_gas_and_the_senders_funds_allow(w3: Web3) -> None:
    ask(w3, "evm_setAutomine", False)
    ask(w3, "hardhat_setBalance", w3.eth.accounts[3], hex(21_000 * 3 * GWEI + 1))
    hashes = [
        pay(w3, sender=1, gas=16_000_000),
        pay(w3, sender=2, gas=16_000_000),
        pay(w3, sender=3),
        pay(w3, sender=3),
    ]
    w3.testing.mine()
    assert w3.eth.get_block("latest")["transactions"] == [hashes[0], hashes[2]]
    w3.testing.mine()
    assert w3.eth.get_block("latest")["transactions"] == [hashes[1]]


def test_the_same_transaction_is_refused_while_it_waits_and_afterwards(w3: Web3) -> None:
    ask(w3, "evm_setAutomine", False)
    raw = w3.eth.get_raw_transaction(pay(w3))
    for _ in range(2):
        with pytest.raises(Web3RPCError, match="already known"):
            w3.eth.send_raw_transaction(raw)
        w3.testing.mine()


def test_a_snapshot_brings_back_chain_and_waiting_transactions(w3: Web3) -> None:
    contract = probe(w3)
    ask(w3, "evm_setAutomine", False)
    held, before = pay(w3), w3.testing.snapshot()
    later = w3.testing.snapshot()
    w3.testing.mine(3)
    ask(w3, "anvil_setCode", contract.address, "0x")
    assert (w3.eth.block_number, w3.eth.get_code(contract.address)) == (4, b"")
    w3.testing.revert(before)
    assert (w3.eth.block_number, len(w3.eth.get_code(contract.address)) > 0) == (1, True)
    assert w3.eth.get_block("pending")["transactions"] == [held]
    assert [ask(w3, "evm_revert", each) for each in (before, later, "0x99")] == [False, False, False]
    w3.testing.reset()
    assert (w3.eth.block_number, w3.eth.get_block("pending")["transactions"]) == (0, [])


def test_time_is_set_and_moved_and_never_goes_back(w3: Web3) -> None:
    now = w3.eth.get_block("latest")["timestamp"]
    w3.testing.timeTravel(now + 100)
    assert int(ask(w3, "evm_increaseTime", 50), 16) == 150
    w3.testing.mine()
    assert w3.eth.get_block("latest")["timestamp"] == now + 150
    ask(w3, "hardhat_mine", "0x3", "0x3c")
    assert w3.eth.get_block("latest")["timestamp"] == now + 150 + 1 + 2 * 60
    with pytest.raises(Web3RPCError, match="time can't go back"):
        w3.testing.timeTravel(now)


def test_balance_nonce_code_and_storage_can_be_set(w3: Web3) -> None:
    account = w3.eth.accounts[5]
    ask(w3, "anvil_setBalance", account, 10**20)
    ask(w3, "anvil_setNonce", account, 9)
    ask(w3, "anvil_setStorageAt", NOBODY, "0x2", f"0x{7:064x}")
    ask(w3, "anvil_setCode", NOBODY, "0x60025460005260206000f3")  # returns slot 2
    assert (w3.eth.get_balance(account), w3.eth.get_transaction_count(account)) == (10**20, 9)
    assert int.from_bytes(w3.eth.call({"to": NOBODY})) == int.from_bytes(w3.eth.get_storage_at(NOBODY, 2)) == 7
    assert w3.eth.get_transaction(pay(w3, sender=5, gas=100_000))["nonce"] == 9
    assert int.from_bytes(w3.eth.call({"to": NOBODY})) == 7


def test_overrides_hold_for_one_call_only(w3: Web3) -> None:
    """Code that returns the sum of slots 1 and 2, its balance and the caller's."""
    code = "0x60015460025401470133310160005260206000f3"
    ask(w3, "anvil_setCode", NOBODY, code)
    ask(w3, "anvil_setStorageAt", NOBODY, 1, f"0x{5:064x}")
    ask(w3, "anvil_setStorageAt", NOBODY, 2, f"0x{6:064x}")
    caller = "0x" + "00" * 19 + "77"

    def called(**override: Any) -> int:
        rich = {caller: {"balance": 1_000}, NOBODY: override}
        return int.from_bytes(w3.eth.call({"from": caller, "to": NOBODY}, "latest", rich))  # type: ignore[arg-type]

    two = {f"0x{2:064x}": f"0x{40:064x}"}
    assert called() == 1_011
    assert called(stateDiff=two) == 1_045
    assert called(state=two) == 1_040
    assert called(balance=100, state={}) == 1_100
    assert called(code="0x600260005260206000f3") == 2
    with pytest.raises(Web3RPCError, match="both 'state' and 'stateDiff'"):
        called(state=two, stateDiff=two)
    assert int.from_bytes(w3.eth.call({"from": caller, "to": NOBODY})) == 11
    estimate = w3.eth.estimate_gas({"from": caller, "to": NOBODY, "value": 5}, "latest", {caller: {"balance": 10}})
    assert estimate > 21_000
    with pytest.raises(Web3RPCError, match="insufficient funds"):
        w3.eth.estimate_gas({"from": caller, "to": NOBODY, "value": 5})


def test_an_access_list_has_what_the_call_touches_and_its_gas_is_enough(w3: Web3) -> None:
    contract, sender = probe(w3), w3.eth.accounts[0]
    call = contract.functions.note(1, "listed").build_transaction({"from": sender})
    listed = w3.eth.create_access_list(call)
    slots = {entry["address"]: [int(slot, 16) for slot in entry["storageKeys"]] for entry in listed["accessList"]}
    assert set(slots) <= {contract.address}
    gas = {"accessList": listed["accessList"], "gas": listed["gasUsed"]}
    assert w3.eth.wait_for_transaction_receipt(w3.eth.send_transaction(call | gas))["status"] == 1  # type: ignore[arg-type]


def test_access_lists_are_the_same_on_both_engines() -> None:
    pytest.importorskip("pyrevm", reason="the engine revm is an extra: pip install -e '.[revm]'")
    # reads slot 3 of itself, the balance of 0x..88, and calls 0x..66, which writes its slot 5
    caller, callee = NOBODY, "0x" + "00" * 19 + "66"
    lists = []
    for engine in ("py-evm", "revm"):
        w3 = Web3(stakesim.evm.provider(engine))
        ask(w3, "anvil_setCode", callee, "0x600160055500")
        ask(w3, "anvil_setCode", caller, "0x600354608831506000600060006000600060665af100")
        lists.append(ask(w3, "eth_createAccessList", {"from": w3.eth.accounts[0], "to": caller}, "latest"))
    assert lists[0] == lists[1]
    assert [(int(e["address"], 16), [int(s, 16) for s in e["storageKeys"]]) for e in lists[0]["accessList"]] == [
        (0x66, [5]),
        (0x88, []),
        (0x99, [3]),
    ]


def test_filters_tell_what_is_new_and_only_once(w3: Web3) -> None:
    contract = probe(w3)
    blocks, arrivals = w3.eth.filter("latest"), w3.eth.filter("pending")
    logs = w3.eth.filter({"address": contract.address, "fromBlock": "latest"})
    elsewhere = w3.eth.filter({"address": NOBODY})
    ask(w3, "evm_setAutomine", False)
    noted = contract.functions.note(4, "four").transact({"from": w3.eth.accounts[0], "gas": 200_000})
    assert (arrivals.get_new_entries(), logs.get_new_entries(), blocks.get_new_entries()) == ([noted], [], [])
    w3.testing.mine(2)
    assert arrivals.get_new_entries() == []
    hashes = [w3.eth.get_block(number)["hash"] for number in (2, 3)]
    assert (blocks.get_new_entries(), blocks.get_new_entries()) == (hashes, [])
    assert [log["transactionHash"] for log in logs.get_new_entries()] == [noted]
    assert (logs.get_new_entries(), elsewhere.get_new_entries()) == ([], [])
    assert w3.eth.uninstall_filter(logs.filter_id)
    with pytest.raises(Web3RPCError, match="filter not found"):
        logs.get_new_entries()


def test_the_history_of_fees_has_fees_fullness_and_tips_by_gas(w3: Web3) -> None:
    ask(w3, "evm_setAutomine", False)
    for sender, tip in enumerate((3, 1, 2)):
        pay(w3, sender=sender, maxFeePerGas=9 * GWEI, maxPriorityFeePerGas=tip * GWEI)
    w3.testing.mine()
    w3.testing.mine()
    history = w3.eth.fee_history(2, 1, [0, 50, 100])
    fees = [w3.eth.get_block(number)["baseFeePerGas"] for number in (0, 1, 2)]
    assert (history["oldestBlock"], history["baseFeePerGas"]) == (0, fees)
    assert history["gasUsedRatio"] == [0, 63_000 / 30_000_000]
    assert history["reward"] == [[0, 0, 0], [1 * GWEI, 2 * GWEI, 3 * GWEI]]
    assert w3.eth.fee_history(1, "latest")["baseFeePerGas"][-1] == w3.eth.get_block("pending")["baseFeePerGas"]
    with pytest.raises(Web3RPCError, match="in rising order"):
        w3.eth.fee_history(1, "latest", [50, 10])


@pytest.mark.parametrize("kind", ["legacy", "access list", "fees"])
def test_a_transaction_is_given_back_as_it_was_sent(w3: Web3, kind: str) -> None:
    rng = random.Random(secrets.randbits(40))
    account = w3.eth.account.from_key(rng.randbytes(32))
    ask(w3, "anvil_setBalance", account.address, 10**18)
    listed = {"accessList": [{"address": NOBODY, "storageKeys": [f"0x{rng.getrandbits(256):064x}"]}]}
    fees = {"maxFeePerGas": 3 * GWEI, "maxPriorityFeePerGas": GWEI} if kind == "fees" else {"gasPrice": 3 * GWEI}
    fields = {"to": NOBODY, "nonce": 0, "gas": 100_000, "value": rng.randrange(10**9), "data": rng.randbytes(40)}
    fields |= fees | {"chainId": w3.eth.chain_id} | (listed if kind == "access list" else {})
    signed = account.sign_transaction(fields)
    ask(w3, "evm_setAutomine", rng.choice([True, False]))
    w3.eth.send_raw_transaction(signed.raw_transaction)
    assert w3.eth.get_raw_transaction(signed.hash) == signed.raw_transaction
    w3.testing.mine()
    receipt = w3.eth.get_transaction_receipt(signed.hash)
    assert w3.eth.get_raw_transaction_by_block(receipt["blockNumber"], 0) == signed.raw_transaction
    assert w3.eth.get_raw_transaction_by_block(receipt["blockHash"], 0) == signed.raw_transaction
    sent = w3.eth.get_transaction_by_block(receipt["blockHash"], 0)
    assert [sent[name] for name in ("value", "input", "from")] == [fields["value"], fields["data"], account.address]


def test_only_its_accounts_are_signed_for_and_what_is_wrong_is_an_error_of_json_rpc(w3: Web3) -> None:
    stranger = w3.eth.account.create().address
    for request in (
        lambda: w3.eth.send_transaction({"from": stranger, "gas": 21_000}),
        lambda: w3.eth.sign(stranger, b"a"),
    ):
        with pytest.raises(Web3RPCError, match=f"unknown account {stranger}: the node signs for those of eth_accounts"):
            request()
    with pytest.raises(MethodUnavailable, match=r"the (py-evm|revm) engine has no method debug_traceCall"):
        ask(w3, "debug_traceCall")
    with pytest.raises(Web3RPCError, match="invalid parameters of eth_getBalance"):
        ask(w3, "eth_getBalance")


@pytest.mark.slow
def test_an_anvil_can_be_ended() -> None:
    provider: Any = stakesim.evm.provider("anvil")
    w3 = Web3(provider)
    assert w3.eth.wait_for_transaction_receipt(pay(w3))["status"] == 1
    assert w3.eth.chain_id == Web3(stakesim.evm.provider("py-evm")).eth.chain_id
    provider.engine.close()
    assert stops_answering(provider.endpoint_uri)
