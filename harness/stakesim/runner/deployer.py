"""Deploys the contracts of a scenario: the stake contract, `BatchReader.sol`, and the hostile contracts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from eth_account.signers.local import LocalAccount

from stakesim.evm.abi import ContractAbi, Log
from stakesim.evm.client import ChainClient
from stakesim.evm.compiler import Artifact, compile_contracts
from stakesim.evm.deployment import CONSTRUCTORS, constructor_types, deploy, init_code
from stakesim.evm.engine import Engine, Snapshot
from stakesim.evm.errors import EngineError
from stakesim.evm.required_abi import check_supported, codec_of, has_specified_errors, missing_extension, stake_abi
from stakesim.model.contract_traits import ContractTraits
from stakesim.runner.contract_traits import UNLIMITED, Subject, explore
from stakesim.runner.drivers.onchain import ReceiverAbis
from stakesim.runner.parties import Parties
from stakesim.runner.session import StakeContract
from stakesim.scenario.actions import PLATFORM, Actor, Terms
from stakesim.scenario.scenario import Scenario

HOSTILE_DEPOSIT = 10**20
"""Wei that a hostile contract gets for its payments, if the platform can't pay for it."""
_RECEIVERS = {
    "refuses": "RefusingReceiver",
    "burns_gas": "BurningReceiver",
    "floods": "FloodingReceiver",
    "reenters": "ReenteringReceiver",
    "scripted": "ScriptedReceiver",
}
"""Hostile contracts by the actor's `receiver`."""


class Deployment(NamedTuple):
    """The stake contract, deployed with certain terms.

    Attributes:
        terms: The contract's terms.
        address: The contract's address.
        batch_reader: Address of `BatchReader.sol`.
        logs: What the contract logged when it was deployed.
        snapshot: The chain with these two contracts.
    """

    terms: Terms
    address: str
    batch_reader: str
    logs: Sequence[Log]
    snapshot: Snapshot


class Deployer:
    """Deploys contracts on an engine.

    Attributes:
        contract: The stake contract.
        artifacts: Compiled contracts of the library, by name.
        receiver_abis: ABIs of contracts that receive ether.
    """

    def __init__(self, engine: Engine, chain: ChainClient, contract: Artifact | None) -> None:
        """Takes a snapshot of the empty chain.

        Args:
            engine: The chain to deploy on.
            chain: Sends transactions to the engine.
            contract: See `set_contract`.

        Raises:
            EngineError: The contract can't be driven.
        """
        self._engine, self._chain = engine, chain
        self.artifacts = compile_contracts()
        self.receiver_abis = ReceiverAbis(
            ContractAbi(self.artifacts["ControlledAccount"].abi), ContractAbi(self.artifacts["ScriptedReceiver"].abi)
        )
        self._empty_chain = engine.snapshot()
        self._traits: ContractTraits | None = None
        self.contract: StakeContract
        self.set_contract(contract)

    def explore(self, given_terms: Terms | None = None) -> None:
        """Finds out what the contract decides for itself. Contracts that are set later are judged by the same traits.

        Args:
            given_terms: The terms that a contract must have whose constructor takes none; None: those that it has.

        Raises:
            EngineError: The contract can't be deployed, or its terms are out of bounds.
        """
        deployment = self.deploy_stake_contract(Terms())
        subject = Subject(
            self._engine, self._chain, self.contract.artifact, deployment.address, self.receiver_abis.controlled
        )
        self._traits = explore(subject, takes_terms=self.contract.takes_terms, given=given_terms)
        self.set_contract(self.contract.artifact)

    def set_contract(self, contract: Artifact | None) -> None:
        """Sets the stake contract for later deployments.

        Args:
            contract: The contract; None: the packaged `EventStake`.

        Raises:
            EngineError: It lacks a part of the interface, or its constructor takes other arguments.
        """
        artifact = contract or self.artifacts["EventStake"]
        check_supported(artifact.abi, artifact.name)
        types = constructor_types(artifact)
        if types not in CONSTRUCTORS:
            raise EngineError(
                f"{artifact.name} can't be deployed, as its constructor takes ({', '.join(types)}): give one that "
                "takes nothing, the owner's address, or that and the terms of contracts/IEventStake.sol."
            )
        full_interface, takes_terms = not missing_extension(artifact.abi), types == CONSTRUCTORS[2]
        usual = ContractTraits() if full_interface and takes_terms else ContractTraits(Terms())
        if not full_interface:
            usual = replace(usual, max_seats=UNLIMITED)
        traits = self._traits or usual
        self.contract = StakeContract(
            artifact=artifact,
            abi=codec_of(artifact.abi),
            full_interface=full_interface,
            takes_terms=takes_terms,
            traits=traits,
            has_specified_errors=has_specified_errors(artifact.abi) and not traits.reverts_with_strings,
        )
        self._deployment: Deployment | None = None

    def deploy_stake_contract(self, terms: Terms) -> Deployment:
        """Deploys the stake contract on the empty chain.

        If the terms are those of the last deployment, the chain is reverted to its snapshot instead.
        """
        if self._deployment is not None and self._deployment.terms == terms:
            self._engine.revert(self._deployment.snapshot)
            return self._deployment
        self._engine.revert(self._empty_chain)
        platform, artifact = self._engine.accounts[0], self.contract.artifact
        batch_reader = self._create(self.artifacts["BatchReader"], platform)
        args = (platform.address, tuple(value for _, value in terms))
        self._chain.take_receipts()
        address = self._create(artifact, platform, *args[: len(constructor_types(artifact))])
        logs = [log for receipt in self._chain.take_receipts() for log in receipt.logs]
        self._deployment = Deployment(terms, address, batch_reader, logs, self._engine.snapshot())
        return self._deployment

    def create_parties(self, scenario: Scenario, stake: str) -> Parties:
        """Gives each actor an account of the engine, and deploys the hostile contracts among them.

        Args:
            scenario: The scenario with the actors.
            stake: Address of the stake contract.

        Raises:
            EngineError: There are more actors than accounts.
        """
        if len(scenario.actors) >= len(self._engine.accounts):
            raise EngineError(
                f"{scenario.name} has {len(scenario.actors)} actors, the engine only {len(self._engine.accounts) - 1} "
                "funded accounts for them: use fewer actors"
            )
        platform, *others = self._engine.accounts
        accounts, addresses = {PLATFORM: platform}, {PLATFORM: str(platform.address)}
        for (name, actor), account in zip(scenario.actors.items(), others, strict=False):
            accounts[name] = account if actor.wallet == "own" else platform
            if actor.wallet == "own":
                addresses[name] = (
                    self._hostile_contract(actor, account, stake) if actor.is_contract else account.address
                )
        return Parties(scenario.actors, accounts, addresses)

    def _hostile_contract(self, actor: Actor, controller: LocalAccount, stake: str) -> str:
        """Deploys a hostile contract. It gets `HOSTILE_DEPOSIT` if it may have to pay itself."""
        artifact = self.artifacts[_RECEIVERS[actor.receiver]]
        address = self._create(artifact, controller, *_reentry(actor, controller, stake))
        if actor.receiver == "scripted" or not self.contract.full_interface:
            self._create(self.artifacts["EtherForcer"], self._engine.accounts[-1], address, value=HOSTILE_DEPOSIT)
        return address

    def _create(self, artifact: Artifact, by: LocalAccount, *args: Any, value: int = 0) -> str:
        return deploy(self._chain, by, init_code(artifact, args), name=artifact.name, value=value)


def _reentry(actor: Actor, controller: LocalAccount, stake: str) -> tuple[Any, ...]:
    """Constructor arguments of a receiver that calls the contract while it is paid; none for any other."""
    if actor.reenter is None:
        return (stake,) if actor.receiver == "scripted" else ()
    arguments: dict[str, list[Any]] = {
        "withdraw": [],
        "withdrawTo": [controller.address],
        "completeEvent": [actor.reenter.id, []],
    }
    args = arguments.get(actor.reenter.call, [actor.reenter.id])
    return stake, stake_abi().encode(actor.reenter.call, *args)
