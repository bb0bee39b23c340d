"""What one scenario is run with."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from stakesim.evm.abi import ContractAbi
from stakesim.evm.chain_spec import GENESIS_TIMESTAMP
from stakesim.evm.client import ChainClient
from stakesim.evm.compiler import Artifact
from stakesim.evm.engine import Engine
from stakesim.runner.drivers import Driver
from stakesim.runner.network import Network
from stakesim.runner.observe import StateReader
from stakesim.runner.parties import Parties

EPOCH = GENESIS_TIMESTAMP + 86_400
"""Second 0 of every scenario, in seconds since 1970; what is deployed for it lies before."""


@dataclass
class BlockClock:
    """The time of the block that the next transaction lands in, in seconds since 1970."""

    now: int = EPOCH

    def __call__(self) -> int:
        """That time."""
        return self.now


@dataclass
class PriceFeed:
    """The scenario's price feed: INR for one ETH, and since when that is so, in seconds since 1970."""

    inr_per_eth: Decimal = Decimal(0)
    as_of: int = EPOCH

    def __call__(self) -> tuple[Decimal, int]:
        """Rate and time."""
        return self.inr_per_eth, self.as_of


@dataclass(frozen=True)
class StakeContract:
    """What is deployed as the stake contract.

    Attributes:
        artifact: Compiled.
        abi: Of the artifact.
        full_interface: It has all of `IEventStake`; else only what is deployed on Sepolia.
        takes_terms: Its constructor takes the terms.
        has_specified_errors: It fails with the errors that the rules name; else with words of its own.
    """

    artifact: Artifact
    abi: ContractAbi
    full_interface: bool
    takes_terms: bool
    has_specified_errors: bool


@dataclass(frozen=True)
class Session:
    """Everything that one scenario is run with.

    Attributes:
        engine: The chain's time and snapshots.
        chain: Calls, transactions and receipts on the chain.
        contract: What is deployed as the stake contract.
        contract_address: Of the stake contract.
        parties: The scenario's actors as accounts.
        driver: Carries actions out.
        reader: Reads contract and wallets.
        clock: Time of the next block.
        price_feed: The feed that the backend asks.
        network: Between the backend and its node; None for the contract alone.
    """

    engine: Engine
    chain: ChainClient
    contract: StakeContract
    contract_address: str
    parties: Parties
    driver: Driver
    reader: StateReader
    clock: BlockClock
    price_feed: PriceFeed
    network: Network | None
