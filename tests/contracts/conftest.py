"""Fixtures of the contract's tests: a chain, accounts named by their role, and helpers that send transactions."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from app.services.codec import event_stake_codec, revert_data
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from stakesim.evm.compiler import CONTRACTS, Artifact, compile_contracts
from stakesim.evm.contract_file import load_contract
from stakesim.evm.engine import Engine
from stakesim.evm.engines import open_engine
from stakesim.scenario.actions import Terms
from web3.contract import Contract
from web3.exceptions import ContractLogicError

DEFAULT_TERMS = Terms().as_struct()
STAKE_BPS, FEE_BPS, FORFEIT_TO_HOST_BPS, CUTOFF, GRACE = DEFAULT_TERMS
"""The default terms: three shares in basis points, then two durations in seconds."""

DAY = 86_400
"""Seconds."""

PRICE = 10**17
"""Price of a seat in wei: 0.1 ETH."""

HOST_STAKE = 4 * PRICE * 20 // 100
"""The host's stake for the usual run of four seats, in wei."""

BOOKING_COST = PRICE * 120 // 100
"""Payment and stake for one seat, in wei."""

ZERO_ADDRESS = "0x" + "00" * 20

ROLES = ("host", "attendee", "owner", "operator", "former operator", "former owner", "stranger", "contract")
"""Who may call a function. A host and an attendee are those of the run that `Callers` has."""

PLATFORM_ROLES = frozenset({"owner", "operator"})


@dataclass
class Chain:
    """An engine with the compiled contracts, and helpers to deploy, to send transactions and to read."""

    engine: Engine
    artifacts: dict[str, Artifact]
    predeployed: list[Contract] = field(default_factory=list)
    """Stake contracts with the default terms that `deploy_event_stake` may hand out, to save a deployment."""

    def __post_init__(self):
        self.platform, self.host, self.attendee, self.stranger = self.engine.accounts[:4]

    def deploy(self, name: str, *args: Any, sender: LocalAccount | None = None, value: int = 0) -> Contract:
        artifact = self.artifacts[name]
        factory = self.engine.w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        receipt = self.transact(factory.constructor(*args), sender or self.platform, value)
        return self.engine.w3.eth.contract(receipt.contractAddress, abi=artifact.abi)

    def deploy_event_stake(
        self,
        stake_bps: int = STAKE_BPS,
        fee_bps: int = FEE_BPS,
        forfeit_to_host_bps: int = FORFEIT_TO_HOST_BPS,
        cutoff: int = CUTOFF,
        grace: int = GRACE,
    ) -> Contract:
        terms = (stake_bps, fee_bps, forfeit_to_host_bps, cutoff, grace)
        if terms == DEFAULT_TERMS and self.predeployed:
            return self.predeployed.pop()
        return self.deploy("EventStake", self.platform.address, terms)

    def send(self, call, sender: LocalAccount, value: int = 0, *, at: int | None = None, gas: int = 16_777_216):
        """Mines the call and returns its receipt, whether it succeeded or reverted.

        Args:
            call: A bound contract function or constructor.
            sender: The account that signs.
            value: Wei sent along.
            at: Timestamp of the block; by default the engine's next.
            gas: Gas limit; by default the cap of EIP-7825.
        """
        w3 = self.engine.w3
        if at is not None:
            self.engine.set_next_timestamp(at)
        transaction = call.build_transaction(
            {
                "from": sender.address,
                "value": value,
                "gas": gas,
                "nonce": w3.eth.get_transaction_count(sender.address),
                "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 10**9,
            }
        )
        signed = sender.sign_transaction(transaction)
        return w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(signed.raw_transaction))

    def transact(self, call, sender: LocalAccount, value: int = 0, *, at: int | None = None):
        """Mines the call as `send` does, asserts that it succeeded, and returns its receipt."""
        receipt = self.send(call, sender, value, at=at)
        assert receipt.status == 1, f"{call} reverted"
        return receipt

    def revert_error(self, call, sender: LocalAccount, value: int = 0, *, at: int | None = None) -> str | None:
        """Simulates the call and returns the name of the custom error that it reverts with; None if it succeeds."""
        if at is not None:
            self.engine.set_next_timestamp(at)
        try:
            call.call({"from": sender.address, "value": value}, block_identifier="pending")
        except ContractLogicError as error:
            return event_stake_codec().revert(revert_data(error)).name
        return None

    def create_run(
        self,
        contract: Contract,
        *,
        host: str | None = None,
        seats: int = 4,
        price: int = PRICE,
        start: int | None = None,
    ) -> int:
        """The platform creates a run for the host's address; it starts in a million seconds. Returns the run's id."""
        start = start or self.engine.now() + 1_000_000
        value = contract.functions.calculateRequiredStake(price, seats).call()
        call = contract.functions.createEventRunFor(host or self.host.address, "cooking", price, seats, start)
        receipt = self.transact(call, self.platform, value)
        return contract.events.EventRunCreated().process_log(receipt.logs[0])["args"]["eventRunId"]

    def book(self, contract: Contract, run_id: int, *, seats: int = 1, attendee: str | None = None) -> int:
        """The platform books seats for the attendee's address. Returns the booking's id."""
        value = contract.functions.calculateBookingCost(run_id, seats).call()[2]
        call = contract.functions.bookEventFor(attendee or self.attendee.address, run_id, seats)
        receipt = self.transact(call, self.platform, value)
        return contract.events.BookingCreated().process_log(receipt.logs[0])["args"]["bookingId"]

    def settle(self, contract: Contract, run_id: int, settlement: str, attended: list[int]):
        """Settles the run as soon as the settlement is allowed, and returns the receipt.

        Args:
            contract: The stake contract.
            run_id: The run.
            settlement: "complete" and "cancel" are sent by the platform, at the start; "expire" by a stranger, a day
                after the grace period.
            attended: Ids of the bookings whose attendees attended; only "complete" uses them.
        """
        start = self.start_of(contract, run_id)
        call, sender, at = {
            "complete": (contract.functions.completeEvent(run_id, attended), self.platform, start),
            "cancel": (contract.functions.cancelEvent(run_id), self.platform, start),
            "expire": (contract.functions.expireEvent(run_id), self.stranger, start + GRACE + DAY),
        }[settlement]
        return self.transact(call, sender, at=at)

    def start_of(self, contract: Contract, run_id: int) -> int:
        """The run's start, as a Unix timestamp in seconds."""
        return contract.functions.getEventRun(run_id).call()[7]

    def balance(self, address: str) -> int:
        """The account's balance in wei."""
        return self.engine.w3.eth.get_balance(address)

    def delegate(self, target: str) -> str:
        """Lets a new account delegate to the contract at `target` (EIP-7702), and returns the account's address."""
        w3, account = self.engine.w3, Account.from_key(keccak(hexstr=target))
        authorization = {"chainId": w3.eth.chain_id, "address": target, "nonce": 0}
        transaction = {
            "type": 4,
            "chainId": w3.eth.chain_id,
            "nonce": w3.eth.get_transaction_count(self.platform.address),
            "to": self.platform.address,
            "value": 0,
            "data": b"",
            "gas": 100_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
            "authorizationList": [account.sign_authorization(authorization)],
        }
        signed = self.platform.sign_transaction(transaction)
        receipt = w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(signed.raw_transaction))
        assert receipt.status == 1
        assert w3.eth.get_code(account.address) == bytes.fromhex("ef0100" + target[2:])
        return account.address


class Callers:
    """Accounts in every role of `ROLES`: a contract whose owner has changed, with an operator and a former one.

    Attributes:
        contract: The stake contract.
        run_id: A run, whose host is the role "host".
        booking_id: Its one booking, whose attendee is the role "attendee".
    """

    def __init__(self, chain: Chain, contract: Contract) -> None:
        self._chain, self.contract = chain, contract
        self.run_id = chain.create_run(contract)
        self.booking_id = chain.book(contract, self.run_id)
        owner, operator, former = chain.engine.accounts[4:7]
        functions = contract.functions
        for account, allowed in ((operator, True), (former, True), (former, False)):
            chain.transact(functions.setOperator(account.address, allowed), chain.platform)
        chain.transact(functions.transferOwnership(owner.address), chain.platform)
        chain.transact(functions.acceptOwnership(), owner)
        self._witness = chain.deploy("Witness", contract.address)
        self.accounts = {
            "host": chain.host,
            "attendee": chain.attendee,
            "owner": owner,
            "operator": operator,
            "former operator": former,
            "former owner": chain.platform,
            "stranger": chain.stranger,
        }

    def address(self, role: str) -> str:
        """The address of the account in this role."""
        return self._witness.address if role == "contract" else self.accounts[role].address

    def error(self, role: str, function: str, *args: Any, value: int = 0, at: int | None = None) -> str | None:
        """The error that the account in this role gets; None if the call succeeds."""
        if role != "contract":
            call = self.contract.functions[function](*args)
            return self._chain.revert_error(call, self.accounts[role], value, at=at)
        data = self.contract.encode_abi(function, args)
        call = self._witness.functions.execute(self.contract.address, value, data)
        return self._chain.revert_error(call, self._chain.platform, value, at=at)


@pytest.fixture(scope="session")
def _deployed(engine_name, request, stakesim_trace):
    """An engine, all artifacts, and a deployed stake contract: that of `--stakesim-contract` if the option is given."""
    artifacts, contract_file = compile_contracts(), request.config.getoption("--stakesim-contract")
    for name in ("Witness", "Spender"):
        artifacts[name] = load_contract(CONTRACTS / "test" / f"{name}.sol")
    if contract_file:
        artifacts["EventStake"] = load_contract(contract_file)
    engine = open_engine(engine_name, trace=stakesim_trace)
    yield engine, artifacts, Chain(engine, artifacts).deploy_event_stake()
    engine.close()


@pytest.fixture
def chain(_deployed):
    """A chain that is reverted to its state before the test when the test has ended."""
    engine, artifacts, contract = _deployed
    snapshot = engine.snapshot()
    yield Chain(engine, artifacts, [contract])
    engine.revert(snapshot)


@pytest.fixture(scope="session")
def _callers(_deployed):
    """Callers on a contract of their own, deployed once: pytest opens fixtures of the session before `chain`."""
    engine, artifacts, _ = _deployed
    chain = Chain(engine, artifacts)
    return Callers(chain, chain.deploy_event_stake())


@pytest.fixture
def callers(chain, _callers):
    """Accounts in every role, and a run with one booking."""
    return _callers


@pytest.fixture
def contract(request, chain):
    """An EventStake with the default terms, owned by the platform; in a test with `callers` it is theirs."""
    if "callers" in request.fixturenames:
        return request.getfixturevalue("callers").contract
    return chain.deploy_event_stake()


@pytest.fixture
def platform(chain):
    """The account that owns the contract and pays in for others."""
    return chain.platform


@pytest.fixture
def host(chain):
    """The account that hosts runs unless a test names another."""
    return chain.host


@pytest.fixture
def attendee(chain):
    """The account that bookings are made for unless a test names another."""
    return chain.attendee


@pytest.fixture
def stranger(chain):
    """An account that has no part in any run."""
    return chain.stranger
