"""A home-made script: web3.py with contract objects, a key per actor, a fixed gas limit, a receipt per transaction.

It runs on eth-tester or on an anvil. On eth-tester it is the base of all ratios on the results page.
"""

from typing import Any

from eth_account import Account
from lifecycle import ARTIFACT, ATTENDED, ETH, HOST_STAKE, LEAD, PRICE, SEATS, STAKE, TERMS, check, options, timed
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint

chosen = options(
    ("--chain", {"choices": ("eth-tester", "anvil"), "default": "eth-tester"}), ("--calls", {"action": "store_true"})
)
platform, host, *attendees = (Account.from_key(bytes([7]) * 31 + bytes([n + 1])) for n in range(SEATS + 2))
everybody = [platform, host, *attendees]

if chosen.chain == "anvil":
    from stakesim.evm.anvil import start_anvil

    url, stop = start_anvil()
    w3 = Web3(HTTPProvider(url))

    def rpc(method: str, *params: Any) -> None:
        answer = w3.provider.make_request(RPCEndpoint(method), params)
        assert "error" not in answer, answer

    for account in everybody:
        rpc("anvil_setBalance", account.address, hex(10**6 * ETH))

    def travel(at: int) -> None:
        rpc("evm_setNextBlockTimestamp", at)
else:
    from eth_tester import EthereumTester, PyEVMBackend
    from eth_utils import to_canonical_address
    from web3 import EthereumTesterProvider

    rich = {"balance": 10**6 * ETH, "nonce": 0, "code": b"", "storage": {}}
    genesis = PyEVMBackend.generate_genesis_params({"gas_limit": 60_000_000})
    tester = EthereumTester(PyEVMBackend(genesis, {to_canonical_address(a.address): rich for a in everybody}))
    w3 = Web3(EthereumTesterProvider(tester))

    def travel(at: int) -> None:
        tester.time_travel(at)


chain_id = w3.eth.chain_id


def send(call: Any, by: Any, wei: int = 0) -> Any:
    fields = {
        "from": by.address,
        "value": wei,
        "gas": 3_000_000,
        "nonce": w3.eth.get_transaction_count(by.address),
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
        "chainId": chain_id,
    }
    signed = by.sign_transaction(call.build_transaction(fields))
    sent = w3.eth.send_raw_transaction(signed.raw_transaction)
    receipt = w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.001)
    assert receipt["status"] == 1, receipt
    return receipt


factory = w3.eth.contract(abi=ARTIFACT["abi"], bytecode=ARTIFACT["bytecode"])
stake = w3.eth.contract(
    send(factory.constructor(platform.address, TERMS), platform)["contractAddress"], abi=ARTIFACT["abi"]
)
runs = bookings = 0


def balance() -> int:
    """The platform's balance in the contract, in wei. eth-tester requires a caller with ether for the gas."""
    return stake.functions.platformBalance().call({"from": platform.address})


def run_lifecycle() -> None:
    global runs, bookings
    start = w3.eth.get_block("latest")["timestamp"] + LEAD
    send(stake.functions.createEventRun("pottery", PRICE, SEATS, start), host, HOST_STAKE)
    runs += 1
    for attendee in attendees:
        send(stake.functions.bookEvent(runs, 1), attendee, PRICE + STAKE)
    before = {a.address: w3.eth.get_balance(a.address) for a in (host, *attendees)}
    earned = balance()
    travel(start)
    attended = [bookings + n + 1 for n in range(ATTENDED)]
    receipt = send(stake.functions.completeEvent(runs, attended), host)
    bookings += SEATS
    received = {a: w3.eth.get_balance(a) - before[a] for a in before}
    gas = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    each = [received[a.address] for a in attendees]
    check(
        each[:ATTENDED],
        each[ATTENDED:],
        received[host.address] + gas,
        stake.functions.platformBalance().call({"from": platform.address}) - earned,
    )


try:
    timed(run_lifecycle, chosen.lifecycles, "web3", "eth-tester", "py-evm", calls=chosen.calls)
finally:
    if chosen.chain == "anvil":
        stop()
