"""The session of one scenario: its contract, accounts, driver, clock and price feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from stakesim.evm.abi import ContractAbi, Log
from stakesim.evm.chain_spec import EPOCH as EPOCH
from stakesim.evm.client import ChainClient
from stakesim.evm.compiler import Artifact
from stakesim.evm.engine import Engine
from stakesim.model.contract_traits import ContractTraits
from stakesim.runner.drivers import Driver
from stakesim.runner.network import Network
from stakesim.runner.observe import ROLE_VIEWS, StateReader
from stakesim.runner.parties import Parties
from stakesim.runner.ways_out import WaysOut

_MOVE = Decimal("1.01")
_ADMINISTRATION = ("setOperator", "pause", "unpause", "transferOwnership", "acceptOwnership")


@dataclass
class BlockClock:
    """Returns the time of the next block, in seconds since 1970."""

    now: int = EPOCH

    def __call__(self) -> int:
        """Returns `now`."""
        return self.now


@dataclass
class PriceFeed:
    """Returns the rate in INR per ETH, and the time since which it applies, in seconds since 1970.

    Attributes:
        inr_per_eth: The rate of the next reading.
        as_of: Since when it applies.
        moves: Whether each reading gives a rate that is 1% above the one before.
    """

    inr_per_eth: Decimal = Decimal(0)
    as_of: int = EPOCH
    moves: bool = False

    def __call__(self) -> tuple[Decimal, int]:
        """Returns rate and time."""
        reading = self.inr_per_eth, self.as_of
        if self.moves and self.inr_per_eth.is_finite():
            self.inr_per_eth *= _MOVE
        return reading


@dataclass(frozen=True)
class StakeContract:
    """The stake contract that is deployed.

    Attributes:
        artifact: The compiled contract.
        abi: Encodes and decodes by the artifact's ABI.
        full_interface: It has all of `IEventStake`; else only the interface deployed on Sepolia.
        takes_terms: Its constructor takes the terms.
        has_specified_errors: It reverts with the errors that the rules name; else with errors of its own.
        traits: What it decides for itself.
    """

    artifact: Artifact
    abi: ContractAbi
    full_interface: bool
    takes_terms: bool
    has_specified_errors: bool
    traits: ContractTraits

    @property
    def has_roles(self) -> bool:
        """Whether owner, operators and pause are those of `EventStake`; another contract may have other ones."""
        return self.full_interface and all(name in self.abi for name in (*ROLE_VIEWS, *_ADMINISTRATION))


@dataclass(frozen=True)
class Session:
    """The session of one scenario.

    Attributes:
        engine: Sets the chain's time and takes snapshots.
        chain: Calls, transactions and receipts on the chain.
        contract: The stake contract.
        contract_address: Its checksummed address.
        parties: The scenario's actors as accounts.
        deployment_logs: What the contract logged when it was deployed.
        driver: Carries out actions.
        reader: Reads contract and wallets.
        ways_out: Functions by which people may get what the contract owes them.
        clock: Time of the next block.
        price_feed: The backend's price feed.
        network: Disturbs requests of the backend to its node; None for the contract alone.
    """

    engine: Engine
    chain: ChainClient
    contract: StakeContract
    contract_address: str
    deployment_logs: Sequence[Log]
    parties: Parties
    driver: Driver
    reader: StateReader
    ways_out: WaysOut
    clock: BlockClock
    price_feed: PriceFeed
    network: Network | None
