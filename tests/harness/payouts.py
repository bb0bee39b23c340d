"""A small web3 service that pays invoices one after another, and its fault campaign.

It shares no code with the backend.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import requests
from stakesim.evm.chain_spec import CHAIN_ID
from stakesim.evm.compiler import Artifact
from stakesim.evm.lean_web3 import lean_web3
from stakesim.faults.chain_actions import CHAIN_FAULTS, DEEP_REORG
from stakesim.faults.chain_faults import ChainFaults, ServiceHooks, ServiceStuckError
from stakesim.faults.episode_script import EpisodeScript
from stakesim.faults.events import EventSource, RandomEvents, ScriptedEvents, Swarm
from stakesim.faults.faulty_provider import FaultyProvider
from stakesim.faults.protocol import EpisodeResult, Violation
from stakesim.faults.rpc_faults import FAULTS
from stakesim.faults.testbed import GWEI, MAX_FEE, FaultTestbed, service_account
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3Exception

NO_CONTRACT = Artifact("Nothing", "", [], "0x00", "0x")
INVOICES, CONFIRMATIONS = 4, 3
LOOKS = 50
"""Number of looks for a receipt after which a blind payer gives its payment up; every other one brings a block."""
_CHAIN_FAULTS = tuple(fault for fault in CHAIN_FAULTS if fault.name != DEEP_REORG)
"""These payers never look at a payment again that has its confirmations."""
_FAULTS = [fault for fault in FAULTS if fault.row not in (31, 37)]
"""A payer believes the node's count of nonces, and leaves it to web3 to read what nodes say."""
ERRORS = (requests.RequestException, Web3Exception)


def payee(invoice: int) -> str:
    return Web3.to_checksum_address(f"0x{0xABCD_0000 + invoice:040x}")


class Payer:
    def __init__(self, w3: Web3) -> None:
        self.w3 = w3

    def sign(self, invoice: int, nonce: int) -> Any:
        fields = {"chainId": CHAIN_ID, "nonce": nonce, "to": payee(invoice), "value": 1 + invoice, "gas": 21_000}
        fees = {"type": 2, "maxFeePerGas": MAX_FEE, "maxPriorityFeePerGas": GWEI}
        return service_account().sign_transaction(fields | fees)

    def pay(self, invoice: int) -> None:
        raise NotImplementedError


class BlindPayer(Payer):
    """Treats each error as a payment that was not sent, and pays again with the next nonce."""

    def pay(self, invoice: int) -> None:
        while True:
            try:
                nonce = self.w3.eth.get_transaction_count(service_account().address, "pending")
                sent = self.w3.eth.send_raw_transaction(self.sign(invoice, nonce).raw_transaction)
                if self._is_mined(sent):
                    return
            except ERRORS:
                continue

    def _is_mined(self, sent: bytes) -> bool:
        """Looks for the receipt several times, and not for a time: how fast the machine is must change nothing."""
        for _ in range(LOOKS):
            with suppress(TransactionNotFound):
                self.w3.eth.get_transaction_receipt(sent)  # type: ignore[arg-type]
                return True
        return False


class CarefulPayer(Payer):
    """Keeps one nonce for a payment until a final block has another transaction with that nonce."""

    def __init__(self, w3: Web3) -> None:
        super().__init__(w3)
        self._read = self._retry(lambda: w3.eth.block_number) - CONFIRMATIONS + 1
        self._next = self._retry(lambda: w3.eth.get_transaction_count(service_account().address, self._read))

    def pay(self, invoice: int) -> None:
        while True:
            signed = self.sign(invoice, self._next)
            while (used := self._final(self._next)) is None:
                try:
                    self.w3.eth.send_raw_transaction(signed.raw_transaction)
                except ERRORS:
                    continue
            self._next += 1
            if used == signed.hash:
                return

    def _final(self, nonce: int) -> bytes | None:
        """Hash of the final transaction with this nonce; None if there is none yet."""
        head = self._retry(lambda: self.w3.eth.block_number)
        while self._read < head - CONFIRMATIONS + 1:
            block = self._retry(lambda: self.w3.eth.get_block(self._read + 1, full_transactions=True))
            self._read += 1
            for transaction in block["transactions"]:
                if (transaction["from"], transaction["nonce"]) == (service_account().address, nonce):
                    return transaction["hash"]
        return None

    def _retry(self, request: Any) -> Any:
        while True:
            try:
                return request()
            except ERRORS:
                continue


@dataclass(frozen=True)
class PayoutCampaign:
    payer: type[Payer] = CarefulPayer

    @property
    def statements(self) -> Mapping[str, str]:
        return {"ONCE": "each invoice is paid once", "END": "each payment comes to an end"}

    @property
    def faults(self) -> Mapping[str, int]:
        return {}

    def plan(self, runs: int) -> Mapping[str, int]:
        return {"payout": runs}

    def open(self) -> PayoutRunner:
        return PayoutRunner(self.payer)


class PayoutRunner:
    def __init__(self, payer: type[Payer]) -> None:
        self.payer, self.testbed = payer, FaultTestbed(NO_CONTRACT)

    def run_episode(self, kind: str, seed: int, number: int) -> EpisodeResult:
        first = tuple(fault.name for fault in (_CHAIN_FAULTS * 2)[2 * number % len(_CHAIN_FAULTS) :][:2])
        events = RandomEvents(
            np.random.default_rng([seed, number]), Swarm(block=(0.5,), chain=0.05, rpc=0.15, first=first)
        )
        return self._run(EpisodeScript(kind=kind, seed=seed, number=number), events, range(INVOICES))

    def replay(self, script: EpisodeScript) -> EpisodeResult:
        invoices = [step.args["invoice"] for step in script.steps if step.do == "pay"]
        return self._run(script, ScriptedEvents(script.steps), invoices)

    def _run(self, script: EpisodeScript, events: EventSource, invoices: Iterable[int]) -> EpisodeResult:
        started = time.perf_counter()
        self.testbed.reset()
        provider = FaultyProvider(self.testbed.provider(), _FAULTS, events)
        sent: list[str] = []
        hooks = ServiceHooks(before_send=sent.append)
        faults = ChainFaults(self.testbed, events, _CHAIN_FAULTS, confirmations=CONFIRMATIONS, hooks=hooks)
        faults.attach(provider)
        violations, due = [], []
        try:
            payer = self.payer(lean_web3(provider))
            for invoice in invoices:
                events.begin_step("pay", {"invoice": invoice})
                faults.begin_operation()
                due.append(payee(invoice))
                payer.pay(invoice)
        except ServiceStuckError as error:
            violations.append(Violation("END", str(error)))
        faults.stop()
        self.testbed.mine(10)
        paid = self.paid()
        violations += [
            Violation("ONCE", f"invoice of {address} is paid {paid[address]} times")
            for address in due
            if paid[address] != 1
        ]
        log = [f"request {request}: {event}" for request, event in faults.log] + [f"sent {raw[:20]}" for raw in sent]
        return EpisodeResult(
            f"{script.kind}:{script.number}",
            provider.counts + faults.counts,
            violations,
            log,
            time.perf_counter() - started,
            script.model_copy(update={"steps": events.steps}),
        )

    def paid(self) -> Counter[str]:
        """Number of payments on the chain by payee, read without faults."""
        payments: Counter[str] = Counter()
        for number in range(self.testbed.first_block, self.testbed.head() + 1):
            for transaction in self.testbed.w3.eth.get_block(number, full_transactions=True)["transactions"]:
                payments[transaction["to"]] += 1  # type: ignore[index]
        return payments

    def close(self) -> None:
        self.testbed.close()


campaign = PayoutCampaign()
