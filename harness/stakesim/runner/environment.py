"""What scenarios are run in: an engine, the contract on it, a driver, and what reads the contract.

An `Environment` is opened once and prepares a `Session` for one scenario after another; each finds chain and database
as the one before it did. Nothing in a backend knows that its chain is simulated.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from eth_account.signers.local import LocalAccount

from stakesim.backend import Backend, BackendError, BackendSession, ScenarioSetup, User
from stakesim.errors import StakesimError, place_of
from stakesim.evm.abi import ContractAbi
from stakesim.evm.chain_spec import GENESIS_TIMESTAMP
from stakesim.evm.client import ChainClient, open_client
from stakesim.evm.compiler import Artifact, compile_contracts
from stakesim.evm.deployment import CONSTRUCTORS, constructor_types, deploy, init_code
from stakesim.evm.engine import Engine, Snapshot
from stakesim.evm.engines import open_engine
from stakesim.evm.errors import EngineError
from stakesim.evm.required_abi import check_supported, missing_extension, stake_abi
from stakesim.project import ProjectError, current_project
from stakesim.runner.drivers import CONTRACT, Driver
from stakesim.runner.drivers.backend import USE_CASES, BackendDriver
from stakesim.runner.drivers.contract import ContractDriver
from stakesim.runner.drivers.onchain import OnChain
from stakesim.runner.network import Network
from stakesim.runner.observe import StateReader
from stakesim.runner.parties import EXPERIENCE_ID, Parties
from stakesim.scenario.actions import PLATFORM, Actor, Terms
from stakesim.scenario.scenario import Scenario

_log = logging.getLogger(__name__)
EPOCH = GENESIS_TIMESTAMP + 86_400
"""Second 0 of every scenario; what is deployed for it lies before."""
HOSTILE_DEPOSIT = 10**20
"""Wei that a hostile contract has to pay with where the platform can't pay for it."""
_RECEIVERS = {
    "refuses": "RefusingReceiver",
    "burns_gas": "BurningReceiver",
    "floods": "FloodingReceiver",
    "reenters": "ReenteringReceiver",
}


@dataclass
class BlockClock:
    """The time of the block that the next transaction lands in, in seconds since 1970."""

    now: int = EPOCH

    def __call__(self) -> int:
        return self.now


@dataclass
class PriceFeed:
    """The scenario's price feed: INR for one ETH, and since when that is true, in seconds since 1970."""

    inr_per_eth: Decimal = Decimal(0)
    as_of: int = EPOCH

    def __call__(self) -> tuple[Decimal, int]:
        return self.inr_per_eth, self.as_of


@dataclass(frozen=True)
class StakeContract:
    """What is deployed as the stake contract.

    Attributes:
        full_interface: It has all of `IEventStake`; else only what is deployed on Sepolia.
        takes_terms: Its constructor takes the terms.
        own_errors: It fails with the errors that the rules name; else with words of its own.
    """

    artifact: Artifact
    abi: ContractAbi
    full_interface: bool
    takes_terms: bool
    own_errors: bool


@dataclass(frozen=True)
class Session:
    """Everything one scenario is run with."""

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


class Environment:
    """One engine, one contract and one driver, for one scenario after another.

    Attributes:
        foreign: The contract is not the packaged `EventStake`, which has gas budgets.
        weaknesses: Names of the weaknesses found so far.
        network: Between the backend and its node; None for the contract alone.
        scenarios: How many were run in it.
    """

    def __init__(self, engine: Engine, driver: str, backend: Backend | None, contract: Artifact | None = None) -> None:
        """Takes over engine and backend, and closes both.

        Args:
            contract: What is deployed as the stake contract; None: the packaged `EventStake`.

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
        self.weaknesses: set[str] = set()
        self.scenarios = 0
        self._artifacts = compile_contracts()
        self._controlled = ContractAbi(self._artifacts["ControlledAccount"].abi)
        self._base = engine.snapshot()
        self._deployed: tuple[Terms, str, str, Snapshot] | None = None
        self.use(contract)

    def close(self) -> None:
        """Closes backend and engine. A backend that can't be closed is logged, and costs nobody what was found."""
        if self.backend is not None:
            _close(self.backend)
        self.engine.close()

    def use(self, contract: Artifact | None) -> None:
        """What is deployed as the stake contract from the next scenario on; None: the packaged `EventStake`.

        Raises:
            EngineError: It lacks a part of the interface, or its constructor takes something else.
        """
        artifact = contract or self._artifacts["EventStake"]
        check_supported(artifact.abi, artifact.name)
        takes = constructor_types(artifact)
        if takes not in CONSTRUCTORS:
            raise EngineError(
                f"{artifact.name} can't be deployed, as its constructor takes ({', '.join(takes)}): give one that "
                "takes nothing, the owner's address, or that and the terms of contracts/IEventStake.sol."
            )
        errors = {item["name"] for item in artifact.abi if item["type"] == "error"}
        self.contract = StakeContract(
            artifact=artifact,
            abi=ContractAbi(artifact.abi),
            full_interface=not missing_extension(artifact.abi),
            takes_terms=takes == CONSTRUCTORS[2],
            own_errors={"NotAuthorized", "TooEarly", "WrongValue"} <= errors,
        )
        self._deployed = None

    def prepare(self, scenario: Scenario) -> Session:
        """Puts everything as the scenario begins: contract, actors, the backend's empty database, price feed.

        Raises:
            EngineError: The scenario has more actors than the engine has accounts, or a deployment failed.
        """
        address, batch_reader = self._deploy(scenario.terms)
        clock, price_feed = BlockClock(), PriceFeed()
        parties = self._parties(scenario, address)
        onchain = OnChain(
            self.chain, parties, address, self.contract.abi, self._controlled, self._artifacts["EtherForcer"]
        )
        driver: Driver
        if self.backend is None or self.network is None:
            driver = ContractDriver(onchain)
        else:
            setup = ScenarioSetup(
                w3=self.engine.w3,
                contract_address=address,
                abi=self.contract.artifact.abi,
                platform=self.engine.accounts[0],
                users=[User(name, parties.addresses.get(name)) for name in scenario.actors],
                experience_id=EXPERIENCE_ID,
                price_feed=price_feed,
                clock=clock,
            )
            driver = BackendDriver(_started(self.backend, setup, self.driver), onchain, self.network)
        full = self.contract.full_interface
        reader = StateReader(self.chain, batch_reader, address, stake_abi(), parties.addresses, full)
        self.chain.take_receipts()  # what was sent to prepare it is no part of the scenario
        return Session(
            engine=self.engine,
            chain=self.chain,
            contract=self.contract,
            contract_address=address,
            parties=parties,
            driver=driver,
            reader=reader,
            clock=clock,
            price_feed=price_feed,
            network=self.network,
        )

    def _deploy(self, terms: Terms) -> tuple[str, str]:
        """Addresses of the contract with these terms and of the batch reader, on a fresh chain; while the terms stay
        the same, the chain is only reverted."""
        if self._deployed is not None and self._deployed[0] == terms:
            _, address, batch_reader, snapshot = self._deployed
            self.engine.revert(snapshot)
            return address, batch_reader
        self.engine.revert(self._base)
        platform, artifact = self.engine.accounts[0], self.contract.artifact
        batch_reader = self._create(self._artifacts["BatchReader"], platform)
        args = (platform.address, tuple(value for _, value in terms))
        address = self._create(artifact, platform, *args[: len(constructor_types(artifact))])
        self._deployed = (terms, address, batch_reader, self.engine.snapshot())
        return address, batch_reader

    def _create(self, artifact: Artifact, by: LocalAccount, *args: Any, value: int = 0) -> str:
        return deploy(self.chain, by, init_code(artifact, args), name=artifact.name, value=value)

    def _parties(self, scenario: Scenario, stake: str) -> Parties:
        """Accounts and hostile contracts of the actors."""
        if len(scenario.actors) >= len(self.engine.accounts):
            raise EngineError(
                f"{scenario.name} has {len(scenario.actors)} actors, the engine only {len(self.engine.accounts) - 1} "
                "funded accounts for them: use fewer actors"
            )
        platform, *others = self.engine.accounts
        accounts, addresses = {PLATFORM: platform}, {PLATFORM: str(platform.address)}
        for (name, actor), account in zip(scenario.actors.items(), others, strict=False):
            accounts[name] = account if actor.wallet == "own" else platform
            if actor.wallet == "own":
                addresses[name] = self._receiver(actor, account, stake) if actor.is_contract else account.address
        return Parties(scenario.actors, accounts, addresses)

    def _receiver(self, actor: Actor, controller: LocalAccount, stake: str) -> str:
        """A hostile contract account, with wei to pay with where nobody can pay for it."""
        address = self._create(
            self._artifacts[_RECEIVERS[actor.receiver]], controller, *_reentry(actor, controller, stake)
        )
        if not self.contract.full_interface:
            self._create(self._artifacts["EtherForcer"], self.engine.accounts[-1], address, value=HOSTILE_DEPOSIT)
        return address


def _reentry(actor: Actor, controller: LocalAccount, stake: str) -> tuple[Any, ...]:
    """Constructor arguments of a receiver that calls the contract while it is paid."""
    if actor.reenter is None:
        return ()
    known: dict[str, list[Any]] = {
        "withdraw": [],
        "withdrawTo": [controller.address],
        "completeEvent": [actor.reenter.id, []],
    }
    args = known.get(actor.reenter.call, [actor.reenter.id])
    return stake, stake_abi().encode(actor.reenter.call, *args)


def open_environment(
    engine: str | Engine | None = None,
    contract: Artifact | None = None,
    driver: str | None = None,
    backend: Backend | Callable[[], Backend] | None = None,
) -> Environment:
    """An environment on that engine; see `Environment`.

    Args:
        engine: A name as `open_engine` takes it, or an engine that is open; None: revm for the contract driver where
            it is installed, else py-evm.
        contract: What is deployed; None: the packaged `EventStake`.
        driver: "contract", or one of the backend's; None: the backend's first, or "contract" where there is none.
        backend: What is tested; None: the one that the project's `[tool.stakesim]` names.

    Raises:
        EngineError: The engine can't be opened, or the contract can't be driven.
        BackendError: The backend can't be opened.
        ProjectError: What `[tool.stakesim]` names can't be loaded, or there is no such driver.
    """
    opened = _open_backend(driver, backend)
    try:
        name = driver or (CONTRACT if opened is None else opened.drivers[0])
        chosen = engine or default_engine(name)
        chain = open_engine(chosen) if isinstance(chosen, str) else chosen
    except BaseException:
        if opened is not None:
            _close(opened)
        raise
    try:
        return Environment(chain, name, opened, contract)
    except BaseException:
        if opened is not None:
            _close(opened)
        chain.close()
        raise


def default_engine(driver: str) -> str:
    """revm for the contract driver, where it is installed; else py-evm."""
    return "revm" if driver == CONTRACT and importlib.util.find_spec("pyrevm") else "py-evm"


def _open_backend(driver: str | None, backend: Backend | Callable[[], Backend] | None) -> Backend | None:
    if driver == CONTRACT:
        return None
    if backend is None:
        project = current_project()
        if project.backend is None:
            if driver is not None:
                raise ProjectError(
                    f"There is no driver {driver!r}, as the project names no backend: use contract, or add "
                    "`backend` to [tool.stakesim] in pyproject.toml."
                )
            return None
        backend = project.load(project.backend)
    with _as_backend_error("The backend can't be opened"):
        opened: Backend = backend() if callable(backend) else backend
    try:
        drivers = _drivers(opened)
        if driver is not None and driver not in drivers:
            raise ProjectError(f"There is no driver {driver!r}: choose one of {', '.join((*drivers, CONTRACT))}.")
    except BaseException:
        _close(opened)
        raise
    return opened


def _drivers(backend: Any) -> tuple[str, ...]:
    """Names of the ways to call the backend.

    Raises:
        BackendError: The object is no backend.
    """
    lacks = [name for name in ("drivers", "start", "close") if not hasattr(backend, name)]
    if lacks:
        raise BackendError(
            f"What opens the backend gave {backend!r}, which has no {' or '.join(lacks)}: return a "
            "`stakesim.backend.Backend`."
        )
    with _as_backend_error("The backend's `drivers` can't be read"):
        names = backend.drivers
        drivers = () if isinstance(names, str) else tuple(names)
    if not drivers or not all(isinstance(name, str) for name in drivers) or CONTRACT in drivers:
        raise BackendError(
            f"The backend's `drivers` are {names!r}: give a tuple of names, of which none is {CONTRACT!r}, as "
            '("services",).'
        )
    return drivers


def _started(backend: Backend, setup: ScenarioSetup, driver: str) -> BackendSession:
    """The backend's session for a scenario.

    Raises:
        BackendError: It can't start one, or what it gives has no use case.
    """
    with _as_backend_error("The backend can't start a scenario"):
        session = backend.start(setup, driver)
    if not any(callable(getattr(session, name, None)) for name in USE_CASES.values()):
        raise BackendError(
            f"The backend's `start` gave {session!r}, which has no use case, as `create_run` or `book`: return a "
            "`stakesim.backend.BackendSession`."
        )
    return session


@contextmanager
def _as_backend_error(what: str) -> Iterator[None]:
    """Whatever a backend raises there, in one sentence with its place."""
    try:
        yield
    except StakesimError:
        raise
    except (Exception, SystemExit) as error:
        raise BackendError(f"{what}: {type(error).__name__}: {error}{place_of(error)}.") from error


def _close(backend: Any) -> None:
    try:
        if hasattr(backend, "close"):
            backend.close()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code; it is told
        _log.error("the backend can't be closed: %s: %s%s", type(error).__name__, error, place_of(error))
