"""What a search learns of a contract: the sequences that it keeps, and the signals that it has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from stakesim.lane.moves import Move
from stakesim.lane.play import World
from stakesim.lane.signals import StorageSignals
from stakesim.model.contract_traits import ContractTraits


@dataclass
class Entry:
    """A kept sequence.

    Attributes:
        world: Name of the world that it is played in.
        moves: The moves.
        deep: Whether it brought the contract's storage into a state that was not seen before.
        tries: How often it was gone on from.
    """

    world: str
    moves: tuple[Move, ...]
    deep: bool = False
    tries: int = 0


@dataclass(frozen=True)
class Knowledge:
    """What a search knows, for a search of another contract that goes on from there.

    Attributes:
        seed: The seed of all draws.
        worlds: Worlds that the contract can be brought into.
        traits: What the contract decides for itself.
        corpus: Kept sequences.
        hits: How often each signal was seen.
        storage: What was seen in the contract's storage.
        ordered: Whether its events come in the order of the rules.
    """

    seed: int
    worlds: tuple[World, ...]
    traits: ContractTraits
    corpus: tuple[Entry, ...]
    hits: Counter[Hashable]
    storage: StorageSignals
    ordered: bool = False
