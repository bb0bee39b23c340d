"""The environment of scenarios: an engine, a contract and a driver.

An `Environment` is opened once, and prepares a `Session` for one scenario after another. Each scenario starts with the
same chain and an empty database. Nothing tells a backend that its chain is simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from web3 import Web3

from stakesim.backend import Backend, ScenarioSetup, User
from stakesim.evm.client import open_client
from stakesim.evm.compiler import Artifact
from stakesim.evm.engine import Engine
from stakesim.evm.engines import fastest_engine, open_engine
from stakesim.evm.errors import EngineError
from stakesim.evm.required_abi import stake_abi
from stakesim.lane.counters import find_counters
from stakesim.lane.moves import FUNDS as LANE_FUNDS
from stakesim.model.rules import MAX_ID
from stakesim.model.state import EXPERIENCE_ID
from stakesim.runner.backend_lifecycle import close_backend, open_backend, start_session
from stakesim.runner.deployer import Deployer
from stakesim.runner.drivers import CONTRACT, Driver
from stakesim.runner.drivers.backend import BackendDriver
from stakesim.runner.drivers.contract import ContractDriver
from stakesim.runner.drivers.onchain import OnChain
from stakesim.runner.known_faults import Name
from stakesim.runner.network import Network
from stakesim.runner.observe import StateReader
from stakesim.runner.parties import Parties
from stakesim.runner.reorganisation import Reorganisation
from stakesim.runner.session import BlockClock, PriceFeed, Session, StakeContract
from stakesim.runner.ways_out import WaysOut
from stakesim.scenario.actions import SetIds, Terms
from stakesim.scenario.scenario import Scenario
from stakesim.workers.time_limit import expirations


class Environment:
    """One engine, one contract and one driver, for one scenario after another.

    Attributes:
        engine: The chain.
        driver: Name of the driver.
        backend: The backend under test; None for the contract alone.
        chain: Calls, transactions and receipts on the engine.
        foreign: It was opened for another contract than the packaged `EventStake`: no gas budgets apply, and the
            diagnosis looks for weaknesses of the contract.
        known_weaknesses: Names of the weaknesses and faults found so far.
        network: Disturbs requests of the backend to its node; None for the contract alone.
        scenarios_run: Number of scenarios that the campaign has run in it.
    """

    def __init__(
        self,
        engine: Engine,
        driver: str,
        backend: Backend | None,
        contract: Artifact | None = None,
        terms: Terms | None = None,
    ) -> None:
        """Takes over engine and backend: `close` closes both.

        Args:
            engine: The chain.
            driver: "contract", or one of the backend's.
            backend: The backend under test; None for the contract alone.
            contract: The stake contract to deploy; None: the packaged `EventStake`.
            terms: The terms that the contract must have, if its constructor takes none; None: those that it has.

        Raises:
            EngineError: The engine can't set the time and take snapshots, or the contract can't be driven.
        """
        if not {"time", "snapshot"} <= engine.capabilities:
            raise EngineError(
                "scenarios need a node that can set the time and take snapshots, which a live one can't: "
                "use --engine py-evm, revm, anvil, or rpc: with the URL of a simulated node"
            )
        self.engine, self.driver, self.backend = engine, driver, backend
        self.chain = open_client(engine, direct=driver == CONTRACT)
        self.network = None if backend is None or driver == CONTRACT else Network(engine.w3)
        self.foreign = contract is not None
        self.known_weaknesses: set[Name] = set()
        self.scenarios_run = 0
        self._expirations = expirations()
        self._deployer = Deployer(engine, self.chain, contract)
        if self.foreign:
            self._deployer.explore(terms)

    def close(self) -> None:
        """Closes backend and engine. If the backend can't be closed, the error is logged."""
        if self.backend is not None:
            close_backend(self.backend)
        self.engine.close()

    @property
    def hangs(self) -> bool:
        """Whether something in it never ended, and may still be going on: no other scenario can be run in it."""
        return expirations() != self._expirations

    @property
    def contract(self) -> StakeContract:
        """The stake contract that is deployed."""
        return self._deployer.contract

    def set_contract(self, contract: Artifact | None) -> None:
        """Deploys another stake contract from the next scenario on; see `Deployer.set_contract`.

        Keeps `foreign`, and judges it by the same traits.

        Raises:
            EngineError: The contract can't be driven.
        """
        self._deployer.set_contract(contract)

    def deployed_code(self, terms: Terms) -> bytes:
        """Deploys the contract, and returns the code that it then has.

        Raises:
            EngineError: The deployment failed.
        """
        address = self._deployer.deploy_stake_contract(terms).address
        return bytes(self.engine.w3.eth.get_code(Web3.to_checksum_address(address)))

    def prepare(self, scenario: Scenario) -> Session:
        """Deploys the contract, gives the actors their accounts, and starts the backend with an empty database.

        Raises:
            EngineError: The scenario has more actors than the engine has accounts, or a deployment failed.
            BackendError: The backend can't start the scenario.
        """
        deployment = self._deployer.deploy_stake_contract(scenario.terms)
        address, clock, price_feed = deployment.address, BlockClock(), PriceFeed()
        parties = self._deployer.create_parties(scenario, address)
        self._fund(scenario, parties)
        driver = self._driver(scenario, address, parties, clock, price_feed)
        reader = StateReader(
            self.chain,
            deployment.batch_reader,
            address,
            stake_abi(),
            parties.addresses,
            full_interface=self.contract.full_interface,
            has_roles=self.contract.has_roles,
        )
        ways_out = WaysOut(
            self.engine, self.chain, self.contract.artifact.abi, address, self._deployer.receiver_abis.controlled
        )
        self.chain.take_receipts()  # discards those of the deployments, which are no part of the scenario
        return Session(
            engine=self.engine,
            chain=self.chain,
            contract=self.contract,
            contract_address=address,
            deployment_logs=deployment.logs,
            parties=parties,
            driver=driver,
            reader=reader,
            ways_out=ways_out,
            clock=clock,
            price_feed=price_feed,
            network=self.network,
        )

    def _fund(self, scenario: Scenario, parties: Parties) -> None:
        """Gives everybody as much as they have in the contract lane, in a story that was found there."""
        if "lane" in (scenario.origin or {}) and "balance" in self.engine.capabilities:
            for address in parties.addresses.values():
                self.engine.set_balance(address, LANE_FUNDS)

    def _set_ids(self, address: str, action: SetIds) -> None:
        """Sets the contract's counters in its storage.

        Raises:
            EngineError: The node can't change storage, or the contract's counters are not found.
        """
        if "storage" not in self.engine.capabilities:
            raise EngineError("this node can't change a contract's storage: use --engine py-evm, revm or anvil")
        places = find_counters(self.contract.artifact)
        for (slot, bit), last in zip(places, (action.runs, action.bookings), strict=True):
            if last is not None:
                word = int.from_bytes(self.engine.w3.eth.get_storage_at(Web3.to_checksum_address(address), slot), "big")
                self.engine.set_storage(address, slot, word & ~(MAX_ID << bit) | last << bit)

    def _driver(
        self, scenario: Scenario, address: str, parties: Parties, clock: BlockClock, price_feed: PriceFeed
    ) -> Driver:
        onchain = OnChain(
            self.chain,
            parties,
            address,
            self.contract.abi,
            self._deployer.receiver_abis,
            self._deployer.artifacts["EtherForcer"],
            partial(self._set_ids, address),
        )
        if self.backend is None or self.network is None:
            return ContractDriver(onchain)
        reorganisation = Reorganisation(self.engine, self.network)
        setup = ScenarioSetup(
            w3=self.engine.w3,
            contract_address=address,
            abi=self.contract.artifact.abi,
            platform=self.engine.accounts[0],
            users=[User(name, parties.addresses.get(name)) for name in scenario.actors],
            experience_id=EXPERIENCE_ID,
            price_feed=price_feed,
            clock=clock,
            reorganise=reorganisation,
        )
        session = start_session(self.backend, setup, self.driver)
        return BackendDriver(session, onchain, self.network, reorganisation)


def open_environment(
    engine: str | Engine | None = None,
    contract: Artifact | None = None,
    driver: str | None = None,
    backend: Backend | Callable[[], Backend] | None = None,
    terms: Terms | None = None,
) -> Environment:
    """Opens an environment; see `Environment`.

    Args:
        engine: An open engine, or the name of one (see `open_engine`); None: see `default_engine`.
        contract: The stake contract to deploy; None: the packaged `EventStake`.
        driver: "contract", or one of the backend's; None: the backend's first, or "contract" where there is none.
        backend: The backend under test, or a function that opens it; None: the one that `[tool.stakesim]` names.
        terms: See `Environment`.

    Raises:
        EngineError: The engine can't be opened, or the contract can't be driven.
        BackendError: The backend can't be opened.
        ProjectError: What `[tool.stakesim]` names can't be loaded, or there is no such driver.
    """
    with ExitStack() as on_failure:
        opened = open_backend(driver, backend)
        if opened is not None:
            on_failure.callback(close_backend, opened)
        name = driver or (CONTRACT if opened is None else opened.drivers[0])
        engine = engine or default_engine(name)
        chain = open_engine(engine) if isinstance(engine, str) else engine
        on_failure.callback(chain.close)
        environment = Environment(chain, name, opened, contract, terms)
        on_failure.pop_all()
        return environment


def default_engine(driver: str) -> str:
    """Name of the engine for a driver: revm for the contract driver, if it is installed; else py-evm."""
    return fastest_engine() if driver == CONTRACT else "py-evm"
