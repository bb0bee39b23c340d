"""A deployed EventStake and the few words the contract's tests are written in."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from app.services.codec import event_stake_codec, revert_data
from stakesim.evm.compiler import CONTRACTS, Artifact, compile_contracts
from stakesim.evm.contract_file import load_contract
from stakesim.evm.engine import Engine, open_engine
from stakesim.scenario.actions import Terms
from web3.contract import Contract
from web3.exceptions import ContractLogicError

TERMS = Terms().as_struct()
STAKE, FEE, FORFEIT, CUTOFF, GRACE = TERMS
PRICE = 10**17


@dataclass
class Chain:
    """The engine, and transactions that say what they came to."""

    engine: Engine
    artifacts: dict[str, Artifact]
    unused: list[Contract] = field(default_factory=list)
    """Stake contracts on the usual terms that are there already."""

    def __post_init__(self):
        self.platform, self.host, self.attendee, self.stranger = self.engine.accounts[:4]

    def deploy(self, name: str, *args: Any, by=None, value: int = 0) -> Contract:
        artifact = self.artifacts[name]
        factory = self.engine.w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        receipt = self.send(factory.constructor(*args), by or self.platform, value)
        assert receipt.status == 1
        return self.engine.w3.eth.contract(receipt.contractAddress, abi=artifact.abi)

    def stake(self, stake_bps=STAKE, fee_bps=FEE, forfeit_to_host_bps=FORFEIT, cutoff=CUTOFF, grace=GRACE) -> Contract:
        terms = (stake_bps, fee_bps, forfeit_to_host_bps, cutoff, grace)
        if terms == TERMS and self.unused:
            return self.unused.pop()
        return self.deploy("EventStake", self.platform.address, terms)

    def send(self, call, by, value: int = 0, at: int | None = None, gas: int = 16_777_216):
        """Mines the call, whatever it comes to, and returns the receipt."""
        w3 = self.engine.w3
        if at is not None:
            self.engine.set_next_timestamp(at)
        transaction = call.build_transaction(
            {
                "from": by.address,
                "value": value,
                "gas": gas,
                "nonce": w3.eth.get_transaction_count(by.address),
                "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 10**9,
            }
        )
        signed = by.sign_transaction(transaction)
        return w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(signed.raw_transaction))

    def error(self, call, by, value: int = 0, at: int | None = None) -> str | None:
        """Name of the custom error the call reverts with at that time, None if it goes through; nothing is sent."""
        if at is not None:
            self.engine.set_next_timestamp(at)
        try:
            call.call({"from": by.address, "value": value}, block_identifier="pending")
        except ContractLogicError as error:
            return event_stake_codec().revert(revert_data(error)).name
        return None

    def run(self, stake: Contract, host=None, seats: int = 4, price: int = PRICE, start: int | None = None) -> int:
        """Opens a run for the host, a million seconds ahead; returns its id."""
        start = start or self.engine.now() + 1_000_000
        value = stake.functions.calculateRequiredStake(price, seats).call()
        host = host or self.host.address
        call = stake.functions.createEventRunFor(host, "cooking", price, seats, start)
        receipt = self.send(call, self.platform, value)
        return stake.events.EventRunCreated().process_log(receipt.logs[0])["args"]["eventRunId"]

    def book(self, stake: Contract, run: int, seats: int = 1, attendee=None) -> int:
        attendee = attendee or self.attendee.address
        value = stake.functions.calculateBookingCost(run, seats).call()[2]
        receipt = self.send(stake.functions.bookEventFor(attendee, run, seats), self.platform, value)
        return stake.events.BookingCreated().process_log(receipt.logs[0])["args"]["bookingId"]

    def start_of(self, stake: Contract, run: int) -> int:
        return stake.functions.getEventRun(run).call()[7]

    def balance(self, address: str) -> int:
        return self.engine.w3.eth.get_balance(address)


@pytest.fixture(scope="session")
def _deployed(simulated, request, stakesim_trace):
    """An engine, all contracts, and a stake contract on it: the one of `--stakesim-contract`, if it is given."""
    artifacts, given = compile_contracts(), request.config.getoption("--stakesim-contract")
    artifacts["Witness"] = load_contract(CONTRACTS / "test" / "Witness.sol")
    if given:
        artifacts["EventStake"] = load_contract(given)
    engine = open_engine(simulated, trace=stakesim_trace)
    yield engine, artifacts, Chain(engine, artifacts).stake()
    engine.close()


@pytest.fixture
def chain(_deployed):
    engine, artifacts, stake = _deployed
    snapshot = engine.snapshot()
    yield Chain(engine, artifacts, [stake])
    engine.revert(snapshot)
