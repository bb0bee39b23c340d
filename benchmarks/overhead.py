"""What services, database, model and invariants cost together: the same lifecycles through the full path, and as a bare
loop of signed web3.py transactions on eth-tester, turn by turn in one run.

    python benchmarks/overhead.py --runs 125 --seed 0 --engine revm

The bare loop has what a home-made script has: web3's own provider and contract objects, a key per actor, gas given,
a receipt per transaction. It sends what the full path sent, and what the contract refused the full path at the
estimate: a script without estimates sees that fail as a transaction that reverts.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions import TypedTransaction
from eth_tester import EthereumTester, PyEVMBackend
from eth_utils.address import to_canonical_address, to_checksum_address
from hexbytes import HexBytes
from rich.console import Console
from rich.progress import track
from web3 import EthereumTesterProvider, Web3
from web3.middleware import Web3Middleware

from harness.evm.compiler import compile_contracts
from harness.evm.engine import BLOCK_GAS_LIMIT, INITIAL_BALANCE, START, engine_accounts
from harness.runner.campaign import PROFILES
from harness.runner.play import play
from harness.runner.world import creation, open_world
from harness.scenario.generate import generate, load_profile
from harness.scenario.scenario import Scenario

NAMES = ("calm", "flaky", "hostile", "volatile")


@dataclass
class Sent:
    """A transaction of the full path: who signed it, when it was mined (0: refused, not mined), and what was in it."""

    by: str
    at: int
    to: str | None
    value: int
    data: bytes


def recorder(log: list[Any], now: Callable[[], int]) -> type[Web3Middleware]:
    """Notes every transaction with its block's time, and every call that an estimate refused with the time it had."""

    class Recorder(Web3Middleware):
        def wrap_make_request(self, make_request):
            def middleware(method, params):
                response = make_request(method, params)
                if method == "eth_sendRawTransaction":
                    log.append((params[0], now()))  # told apart later: that is not part of what is measured
                elif method == "eth_estimateGas" and "error" in response:
                    call = params[0]
                    log.append(
                        Sent(call["from"], 0, call["to"], int(str(call["value"]), 0), bytes(HexBytes(call["data"])))
                    )
                return response

            return middleware

    return Recorder


def decoded(raw: HexBytes, at: int) -> Sent:
    fields = TypedTransaction.from_bytes(raw).as_dict()
    to = to_checksum_address(fields["to"]) if fields["to"] else None
    return Sent(Account.recover_transaction(raw), at, to, fields["value"], bytes(fields["data"]))


class Bare:
    """eth-tester with the same accounts, and a web3 contract object for the stake contract."""

    def __init__(self) -> None:
        account = {"balance": INITIAL_BALANCE, "nonce": 0, "code": b"", "storage": {}}
        genesis = PyEVMBackend.generate_genesis_params({"gas_limit": BLOCK_GAS_LIMIT, "timestamp": START})
        self.keys: dict[str, LocalAccount] = {a.address: a for a in engine_accounts()}
        state = {to_canonical_address(address): account for address in self.keys}
        self.tester = EthereumTester(PyEVMBackend(genesis, state))
        self.w3 = Web3(EthereumTesterProvider(self.tester))
        self.abi = compile_contracts()["EventStake"].abi
        self.chain_id = self.w3.eth.chain_id

    def call(self, sent: Sent) -> Any:
        """The contract function of a transaction, or None where it is another contract's, or a creation."""
        if sent.to is None:
            return None
        contract = self.w3.eth.contract(sent.to, abi=self.abi)
        try:
            return contract.decode_function_input(sent.data)
        except ValueError:
            return None

    def send(self, sent: Sent, call: Any) -> None:
        if sent.at > self.tester.get_block_by_number("pending")["timestamp"]:
            self.tester.time_travel(sent.at - 1)
        fields = {
            "from": sent.by,
            "value": sent.value,
            "gas": 16_000_000 if call is None else 3_000_000,
            "nonce": self.w3.eth.get_transaction_count(sent.by),
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
            "chainId": self.chain_id,
        }
        if call is None:
            transaction = {**fields, "data": sent.data, "type": 2} | ({"to": sent.to} if sent.to else {})
            del transaction["from"]
        else:
            function, arguments = call
            transaction = function(**arguments).build_transaction(fields)
        signed = self.keys[sent.by].sign_transaction(transaction)
        self.w3.eth.wait_for_transaction_receipt(self.w3.eth.send_raw_transaction(signed.raw_transaction))


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=10, help="scenarios from each of the four profiles")
    arguments.add_argument("--engine", default="py-evm", help="of the full path")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    console = Console()
    scenarios = [
        generate(load_profile(PROFILES / f"{name}.yaml"), options.seed, index)
        for name in NAMES
        for index in range(options.runs)
    ]
    world = open_world(options.engine)
    log: list[Any] = []
    world.engine.w3.middleware_onion.add(recorder(log, lambda: world.engine.now()), "log")
    play(world, scenarios[0])  # compiled, connected, deployed: not part of what is measured
    reached: Counter[str] = Counter()
    findings, ratios = [], []
    full = bare = 0.0
    transactions = actions = 0
    for scenario in track(scenarios, "playing", console=Console(stderr=True), transient=True):
        log.clear()
        began = time.perf_counter()
        played = play(world, scenario)
        took = time.perf_counter() - began
        full += took
        transactions += played.transactions
        reached += played.reached
        findings += played.findings

        chain = Bare()
        sent = [one if isinstance(one, Sent) else decoded(HexBytes(one[0]), one[1]) for one in log]
        hostile = sum(actor.is_contract for actor in scenario.actors.values())
        staged = hostile + (2 if sent and sent[0].to is None and sent[0].by == engine_accounts()[0].address else 0)
        script = sent[staged:]
        prepare(chain, scenario, sent[staged - hostile : staged])
        calls = [chain.call(s) for s in script]
        began = time.perf_counter()
        for one, call in zip(script, calls, strict=True):
            chain.send(one, call)
        spent = time.perf_counter() - began
        bare += spent
        actions += len(script)
        ratios.append(took / spent)
    world.close()
    console.print(f"{len(scenarios)} lifecycles of {', '.join(NAMES)}, seed {options.seed}: {len(findings)} findings")
    console.print(
        ", ".join(f"{count} {what}" for what, count in sorted(reached.items()) if not what.startswith("action"))
    )
    console.print(f"{actions} calls of the contract, of which {actions - transactions} were refused at the estimate")
    for what, seconds in (("full path", full), ("bare loop", bare)):
        rates = f"{transactions / seconds:.1f} transactions a second, {actions / seconds:.1f} calls a second"
        console.print(f"{what}: {seconds:.1f} s, {rates}")
    console.print(f"overhead: {full / bare:.2f}x in all, {median(ratios):.2f}x in the median lifecycle")
    return 1 if findings else 0


def prepare(chain: Bare, scenario: Scenario, hostile: list[Sent]) -> None:
    """The stake contract and the hostile ones at the addresses that the full path has them at."""
    platform = engine_accounts()[0].address
    artifacts = compile_contracts()
    terms = tuple(value for _, value in scenario.terms)
    for data in (creation(artifacts["Lens"]), creation(artifacts["EventStake"], (platform, terms))):
        chain.send(Sent(platform, 0, None, 0, data), None)
    for deploy in hostile:
        chain.send(deploy, None)


if __name__ == "__main__":
    sys.exit(main())
