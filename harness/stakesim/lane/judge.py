"""Judges many contracts that should differ from one that is sound: is there a sequence of calls that shows it?

The corpus of a search of the sound contract is played first, the sequences that have told others from it before all
others. Then the search goes on from there, on the contract at hand. The first difference ends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from stakesim.evm.abi import signature
from stakesim.evm.compiler import Artifact
from stakesim.evm.errors import EngineError
from stakesim.lane.deployments import deployments
from stakesim.lane.knowledge import Entry, Knowledge
from stakesim.lane.moves import PREPARATIONS, Move
from stakesim.lane.play import ENDLESS, Difference, Player, World
from stakesim.lane.search import LaneSearch

HANG = "HANG"
"""Kind of a difference: a call that must succeed, or a view, uses up all gas."""
ABI = "ABI"
"""Kind of a difference: a function is missing."""
DEPLOYED = "deployed"
"""Kind of a difference: with terms at or beyond an edge it is deployed and should not be, or the other way round."""
UNREACHABLE = "world"
"""Kind of a difference: the contract can't be brought into a world."""
_HALTS = ("OutOfGas", "MemoryOOG", "MemoryLimitOOG")


class LaneKill(NamedTuple):
    """How a contract differs from the sound one.

    Attributes:
        kind: Kind of the difference.
        shown_by: The function that shows it.
        text: A sentence with the amounts.
    """

    kind: str
    shown_by: str
    text: str


class LaneJudge:
    """Judges contracts by what a search of the sound contract knows.

    What it says of a contract does not depend on those that it has judged before; only which sequence shows it.
    """

    def __init__(self, sound: Artifact, known: Knowledge, sequences: int) -> None:
        """Takes over a corpus.

        Args:
            sound: The sound contract.
            known: What a search of it knows.
            sequences: How many new sequences are played on a contract that no kept one tells from it.
        """
        self._known, self._sequences = known, sequences
        self._functions, self._deployments = _functions(sound), deployments(sound)
        places = {world.name: place for place, world in enumerate(known.worlds)}
        self._kept = sorted(known.corpus, key=lambda entry: places[entry.world])  # so few worlds are opened at first
        self._few = self._kept[:: max(1, len(self._kept) // _FEW)]

    def judge(self, contract: Artifact, *, quickly: bool = False) -> LaneKill | None:
        """Returns the first difference between a contract and the rules; None if none is found.

        Args:
            contract: The contract.
            quickly: Whether to play only a part of what is kept, from all worlds, and no new sequences.

        Raises:
            EngineError: The contract can't be deployed.
        """
        if missing := self._functions - _functions(contract):
            return LaneKill(ABI, min(missing), f"it has no function {min(missing)}")
        play = _Players(contract, self._known)
        player = play.player(self._known.worlds[0])
        if isinstance(player, LaneKill):
            if player.kind == UNREACHABLE:
                raise EngineError(player.text)
            return player
        for case, outcome in deployments(contract).items():
            if outcome != self._deployments[case]:
                return LaneKill(
                    DEPLOYED, "constructor", f"deployed by {case[0]} with {case[1]}, it does not do the same"
                )
        if quickly:
            return next((found for entry in self._few if (found := play.first_difference(entry))), None)
        for place, entry in enumerate(self._kept):
            if found := play.first_difference(entry):
                self._kept.insert(0, self._kept.pop(place))
                return found
        return play.search(self._sequences)


def learn(sound: Artifact, search: LaneSearch) -> Knowledge:
    """What a search of a sound contract knows, and whether its events come in the order of the rules."""
    known = replace(search.knowledge, ordered=True)
    play = _Players(sound, known)
    in_order = all(play.first_difference(entry) is None for entry in known.corpus[:_SHOWS_ORDER])
    return replace(known, ordered=in_order)


_FEW = 100
"""About how many kept sequences are played quickly."""
_SHOWS_ORDER = 400
"""Kept sequences that show whether events come in order."""


def _functions(contract: Artifact) -> set[str]:
    return {signature(item) for item in contract.abi if item["type"] == "function"}


class _Players:
    """Players of one contract, opened when a sequence needs their world."""

    def __init__(self, contract: Artifact, known: Knowledge) -> None:
        self._contract, self._known = contract, known
        self._worlds = {world.name: world for world in known.worlds}
        self._opened: dict[str, Player] = {}

    def player(self, world: World) -> Player | LaneKill:
        """The player in a world; or a difference, if the contract can't be brought there as the sound one can."""
        if world.name not in self._opened:
            try:
                player = Player(self._contract, world, self._known.traits)
            except EngineError as error:
                return LaneKill(UNREACHABLE, world.name, str(error))
            if wrong := player.wrong_from_start or player.wrong_views:
                return _kill(wrong[0])
            if player.spoiled_by:
                return self._spoiled(world, player.spoiled_by)
            player.ordered = self._known.ordered
            self._opened[world.name] = player
        return self._opened[world.name]

    def _spoiled(self, world: World, moves: Sequence[Move]) -> LaneKill:
        player = Player(self._contract, World(world.name, world.terms, world.time), self._known.traits)
        found = next(_differences(player, moves), None)
        return _kill(found) if found else LaneKill(UNREACHABLE, world.name, "it can't be brought there")

    def first_difference(self, entry: Entry) -> LaneKill | None:
        """Plays a kept sequence until the first difference."""
        player = self.player(self._worlds[entry.world])
        if isinstance(player, LaneKill):
            return player
        player.restart()
        found = next(_differences(player, entry.moves), None)
        return _kill(found) if found else None

    def search(self, sequences: int) -> LaneKill | None:
        """Goes on from what is known, in all worlds, until the first difference."""
        for world in self._known.worlds:
            if isinstance(player := self.player(world), LaneKill):
                return player
        players, known = self._opened, self._known
        search = LaneSearch(self._contract, known.seed, known.worlds, known.traits, shrinking=False, players=players)
        search.go_on_from(known)
        search.run(sequences=sequences, watch=lambda: not search.findings)
        return next((_kill(finding.difference) for finding in search.findings.values()), None)


def _differences(player: Player, moves: Sequence[Move]) -> Iterator[Difference]:
    """Plays a sequence from the player's present state, and then compares the whole state."""
    last = ""
    for position, move in enumerate(moves):
        yield from player.play(move, position).differences
        if move.function not in PREPARATIONS:
            last = move.function
    yield from player.check_state(len(moves) - 1, after=last)


def _kill(difference: Difference) -> LaneKill:
    hangs = difference.kind == ENDLESS or (difference.kind == "refused" and difference.detail in _HALTS)
    return LaneKill(HANG if hangs else difference.kind, difference.function, difference.text)
