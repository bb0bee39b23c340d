"""Who takes part in a scenario, as accounts on chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from stakesim.scenario.actions import Actor


@dataclass(frozen=True)
class Parties:
    """The scenario's actors. A party is an account on chain; actors without a wallet share the platform's.

    Attributes:
        actors: By name.
        accounts: Keys by actor; for a hostile contract, the key of its controller.
        addresses: Checksummed, by party; those that calls name, as parties without a key, are added when they do.
    """

    actors: Mapping[str, Actor]
    accounts: Mapping[str, LocalAccount]
    addresses: dict[str, str]

    def names(self) -> dict[str, str]:
        """Parties by address."""
        return {address: name for name, address in self.addresses.items()}

    def is_contract(self, name: str) -> bool:
        """Whether the actor is a hostile contract; False for the platform."""
        actor = self.actors.get(name)
        return actor is not None and actor.is_contract
