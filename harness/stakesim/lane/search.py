"""The guided search: sequences that show something new are kept, changed and gone on from.

A sequence is drawn anew, goes on from a kept one, or is a changed kept one. Of a few kept ones the
one is chosen that was gone on from least; those that brought the contract's storage into a new state are preferred. A
finding does not end the search: each distinct cause is reported once, shrunk.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

from stakesim.evm.compiler import Artifact
from stakesim.evm.errors import EngineError
from stakesim.evm.required_abi import missing_extension
from stakesim.lane.deployed_interface import deployed_world, not_judged, shifts
from stakesim.lane.draw import draw_move, draw_own
from stakesim.lane.knowledge import Entry, Knowledge
from stakesim.lane.moves import PREPARATIONS, Move, When
from stakesim.lane.mutate import mutate
from stakesim.lane.play import Difference, Player, World
from stakesim.lane.shrink import shrink
from stakesim.lane.signals import MoveContext, StorageByte, StorageSignals, outcome_of
from stakesim.lane.worlds import LAST_IDS, worlds
from stakesim.model.contract_traits import ContractTraits
from stakesim.model.rules import MAX_ID
from stakesim.scenario.actions import Terms
from stakesim.units import DAY
from stakesim.workers.rare_collection import rare_collection

LONGEST = 60
"""Moves of the longest sequence."""
_BASE_COST = 20
"""What a move costs, in bookings of the world that it is played in."""
_SHORTENINGS = 15
_LOOKS = 8
"""Every so many sequences slots are looked for that came into use."""
_AT_FIRST = 50
"""Given sequences that are played before any other: those that showed findings are the first."""
_AT_ONCE = When(seconds=1)
_WHERE_IT_LEADS = 0.9
"""How often a sequence is played in the world that it was kept in."""
_DRAWN = (1, 2, 3, 4, 6, 8, 12, 16)
_DRAWN_DEEP = (1, 1, 2, 2, 3, 4, 8)
"""How many moves are drawn at the end of a sequence; fewer where a step more may be all that is needed."""


@dataclass(frozen=True)
class LaneFinding:
    """A distinct way in which the contract differs from the rules.

    Attributes:
        difference: How they differ at the last move.
        world: The world.
        moves: The shortest sequence that was found.
        seconds: When it was found, since the search began.
        sequences: How many sequences were played until then.
        found_in: Name of the world that it was found in.
        found_as: The sequence as it was found in there.
    """

    difference: Difference
    world: World
    moves: tuple[Move, ...]
    seconds: float
    sequences: int
    found_in: str
    found_as: tuple[Move, ...]


class _Kept(NamedTuple):
    """Kept sequences, of one world or of all.

    Attributes:
        entries: All of them.
        deep: Those that brought the contract's storage into a new state.
    """

    entries: list[Entry]
    deep: list[Entry]


@dataclass
class LaneSearch:
    """A search, while it runs.

    Attributes:
        contract: The contract.
        seed: The seed of all draws.
        worlds: Where sequences begin.
        traits: What the contract decides for itself.
        corpus: Kept sequences.
        findings: By cause.
        sequences: How many sequences were played.
        skipped: Worlds that this contract can't be brought into, and what else is not tried or not judged; and why.
        shrinking: Whether sequences that show a finding are made short.
        players: Players that are open already, by the names of their worlds.
    """

    contract: Artifact
    seed: int
    worlds: Sequence[World] = ()
    traits: ContractTraits = field(default_factory=ContractTraits)
    corpus: list[Entry] = field(default_factory=list)
    findings: dict[tuple[str, str, str], LaneFinding] = field(default_factory=dict)
    sequences: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    shrinking: bool = True
    players: Mapping[str, Player] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)
        self._waiting: list[tuple[str, tuple[Move, ...]]] = []
        self._wrong_worlds: list[tuple[World, Sequence[Difference], Sequence[Move]]] = []
        self._hits: Counter[Hashable] = Counter()
        self._players: dict[str, Player] = {}
        self._storage: StorageSignals | None = None
        self._everywhere = _Kept(self.corpus, [])
        self._kept: dict[str, _Kept] = {}
        self._known_causes: set[tuple[str, str, str]] = set()
        self._began = time.monotonic()
        full_interface = not missing_extension(self.contract.abi)
        for world in self.worlds or worlds(self.traits.terms, self.traits.max_seats):
            if not full_interface:
                deployed = deployed_world(world)
                if deployed is None:
                    self.skipped[world.name] = "the contract lacks a function that leads there"
                    continue
                world = deployed
            try:
                player = self.players.get(world.name) or self.open_player(world)
            except EngineError as error:
                self.skipped[world.name] = str(error)
                continue
            if player.spoiled_by:
                self.skipped[world.name] = "the moves that lead there already show a finding"
                self._wrong_worlds.append((world, (), player.spoiled_by))
                continue
            if player.wrong_views:
                self._wrong_worlds.append((world, player.wrong_views, world.moves))
            if world.name == LAST_IDS and _ids_go_on(player):
                self.skipped[world.name] = "its ids go on beyond 32 bits"
                continue
            self._players[world.name] = player
            self._storage = self._storage or StorageSignals(player.arena)

        self._owners: set[str] = set()
        if not full_interface:
            self._tell_what_is_not_judged()
        self._spent = dict.fromkeys(self._players, 0)

    def _tell_what_is_not_judged(self) -> None:
        """Of a contract that has only the interface deployed on Sepolia."""
        self.skipped |= not_judged(self.contract, self.traits)
        for function, reason in shifts(self.open_player(World("plain", self.traits.terms or Terms()))):
            self._owners.add(function)
            self.skipped[f"{function} by the owner"] = reason

    @property
    def knowledge(self) -> Knowledge:
        """What the search knows by now."""
        assert self._storage is not None
        opened = tuple(player.world for player in self._players.values())
        corpus = tuple(replace(entry) for entry in self.corpus)
        return Knowledge(self.seed, opened, self.traits, corpus, self._hits.copy(), deepcopy(self._storage))

    def go_on_from(self, known: Knowledge) -> None:
        """Takes over what another search knows: from then on only that is new which is new to both."""
        for entry in known.corpus:
            self._keep(replace(entry))
        self._hits, self._storage = known.hits.copy(), deepcopy(known.storage)

    def open_player(self, world: World) -> Player:
        """Opens a player of the contract in a world.

        Raises:
            EngineError: The contract can't be brought into this world.
        """
        return Player(self.contract, world, self.traits)

    def world(self, name: str) -> World:
        """The world with a name, in which kept sequences are played."""
        return self._players[name].world

    def begin_with(self, sequences: Sequence[tuple[str, tuple[Move, ...]]]) -> None:
        """Plays these sequences, each in the world of this name: first some, the others by turns with new ones.

        So a search that begins with thousands finds something new even if it has little time.
        """
        self._waiting = [
            (world, moves)
            for world, moves in sequences
            if world in self._players and self._players[world].can_play(moves)
        ]

    @property
    def waiting(self) -> Sequence[tuple[str, tuple[Move, ...]]]:
        """What is left of the sequences to begin with."""
        return self._waiting

    @property
    def moves(self) -> int:
        """How many moves were played."""
        return sum(player.played for player in self._players.values())

    @property
    def seconds(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self._began

    @property
    def signals(self) -> int:
        """How many distinct signals were seen."""
        return len(self._hits)

    def run(self, *, seconds: float | None = None, sequences: int | None = None, watch: Callable[[], bool]) -> None:
        """Searches until the time is up, or so many sequences were played.

        Args:
            seconds: When to stop, since the search began, but not before the first sequence; None: only by
                `sequences`.
            sequences: How many sequences to play; None: only by `seconds`.
            watch: Called after each sequence; says whether to go on.

        Raises:
            KeyboardInterrupt: Ctrl-C. All that was found until then is in `findings`.
        """
        with rare_collection():
            while sequences is None or self.sequences < sequences:
                self.play_one()
                if not watch() or (seconds is not None and self.seconds >= seconds):
                    return

    def play_one(self) -> None:
        """Plays one sequence; before the first one, tells which worlds show that something is wrong."""
        while self._wrong_worlds:
            begin, differences, leading_there = self._wrong_worlds.pop(0)
            self._report_state(self.open_player(begin._replace(moves=())), differences, leading_there)
        rng = self._rng
        if self._waiting and (self.sequences < _AT_FIRST or self.sequences % 2):
            world, moves = self._waiting.pop(0)
            self._players[world].restart()
            self.sequences += 1
            self._play(self._players[world], moves, 0)
            return
        draw = rng.random()
        world = self._choose_world()
        entry = self._choose(world) if self.corpus and draw < 0.8 else None
        if entry is not None and rng.random() < _WHERE_IT_LEADS:
            world = entry.world
        player = self._players[world]
        before = player.played
        player.restart()
        self.sequences += 1
        given: Sequence[Move] = ()
        if entry is not None:
            entry.tries += 1
            given = entry.moves
            if draw < 0.35:
                given = mutate(rng, given, rng.choice(self.corpus).moves, player.state)
        drawn = _DRAWN_DEEP if entry is not None and entry.deep else _DRAWN
        self._play(player, given[:LONGEST], rng.choice(drawn))
        self._spent[world] += (player.played - before) * (_BASE_COST + len(player.state.bookings))

    def _play(self, player: Player, given: Sequence[Move], drawn: int) -> None:
        """Plays moves and goes on from them, keeps the sequence if it showed something new, and reports differences."""
        moves: list[Move] = []
        storage = self._storage
        assert storage is not None
        keep = deep = 0
        reached: list[StorageByte] = []
        previous = ""
        for position in range(min(len(given) + drawn, LONGEST)):
            move = given[position] if position < len(given) else self._draw(player)
            if move.function in self._owners and move.by == player.state.owner:
                continue
            moves.append(move)
            context = MoveContext(player.state, move)
            result = player.play(move, position)
            if result.executed is not None:
                signals = context.signals(player.state, move, result.executed, result.error, previous)
                if [signal for signal in signals if self._is_new(signal)]:
                    keep = len(moves)
                last_id = max(player.state.last_run_id, player.state.last_booking_id)
                if result.error is None and (fresh := storage.after_move(player.arena, move.function, last_id)):
                    deep, reached = len(moves), fresh
                previous = outcome_of(move, result.error)
            for difference in result.differences:
                self._report(player, difference, moves)
            if result.undone:
                moves.pop()
        if not moves:
            return
        for difference in player.wrong_from_start:
            self._report(player, difference, moves[:1])
        last = next((move for move in reversed(moves) if move.function not in PREPARATIONS), moves[-1])
        differences = player.check_state(len(moves) - 1, after=last.function)
        if differences:
            known = len(self.findings)
            self._report_state(player, differences, moves)
            if len(self.findings) > known:
                return  # what is known already does not keep the search from going on
        if deep or self.sequences % _LOOKS == 1:
            storage.after_sequence(player.arena)
        if deep:
            self._keep(Entry(player.world.name, self._shorten(player, moves[:deep], reached), deep=True))
        if keep > deep:
            self._keep(Entry(player.world.name, tuple(moves[:keep])))

    def _draw(self, player: Player) -> Move:
        if player.own_functions and self._rng.random() < 0.08:
            return draw_own(self._rng, player.state, *self._rng.choice(player.own_functions))
        return draw_move(self._rng, player.state)

    def _shorten(self, player: Player, moves: Sequence[Move], reached: Sequence[StorageByte]) -> tuple[Move, ...]:
        """Leaves out what a kept sequence does not need to bring the storage there, as far as a few tries show.

        Nor does it wait where it need not, so that what has to come next is not too late.
        """
        best = [move._replace(when=_AT_ONCE) for move in moves]
        if not self._reaches(player, best, reached):
            best = list(moves)
        for attempt in range(_SHORTENINGS):
            if len(best) < 3:
                break
            size = max(1, len(best) // 2 >> attempt // 3)
            start = self._rng.randrange(len(best) - size)
            candidate = best[:start] + best[start + size :]
            if self._reaches(player, candidate, reached):
                best = candidate
        return tuple(best)

    @staticmethod
    def _reaches(player: Player, moves: Sequence[Move], reached: Sequence[StorageByte]) -> bool:
        player.restart()
        for position, move in enumerate(moves):
            player.play(move, position)
        return all(byte.is_in(player.arena) for byte in reached)

    def _is_new(self, signal: Hashable) -> bool:
        self._hits[signal] += 1
        return self._hits[signal] == 1

    def _keep(self, entry: Entry) -> None:
        for kept in (self._everywhere, self._kept.setdefault(entry.world, _Kept([], []))):
            kept.entries.append(entry)
            if entry.deep:
                kept.deep.append(entry)

    def _choose_world(self) -> str:
        """Any world, or the one that cost least so far: by moves and bookings, as times differ from run to run."""
        if self._rng.random() < 0.3:
            return self._rng.choice(list(self._players))
        return min(self._players, key=self._spent.__getitem__)

    def _choose(self, world: str) -> Entry:
        """A kept sequence to go on from: the one of a few that was gone on from least.

        Those that brought the contract's storage into a new state are preferred, the latest of them most: what hides
        deep is reached in steps. Half of the time it is one of the given world, so that no world is forgotten.
        """
        rng = self._rng
        kept = self._kept.get(world, self._everywhere) if rng.random() < 0.5 else self._everywhere
        draw = rng.random()
        if kept.deep and draw < 0.6:
            few = kept.deep[-5:] if draw < 0.2 else [rng.choice(kept.deep) for _ in range(4)]
        else:
            few = [rng.choice(kept.entries) for _ in range(4)]
        return min(few, key=lambda entry: entry.tries)

    def _report(self, player: Player, difference: Difference, moves: Sequence[Move]) -> None:
        if difference.cause in self._known_causes:
            return
        self._known_causes.add(difference.cause)  # before it is shrunk, so that a second one is not
        found = LaneFinding(
            difference, player.world, tuple(moves), self.seconds, self.sequences, player.world.name, tuple(moves)
        )
        if moves and self.shrinking:
            try:
                world, short, shown = shrink(self.open_player, player.world, moves, difference)
            except KeyboardInterrupt:  # told as long as it is
                self.findings[difference.cause] = found
                raise
            if shown.cause != difference.cause and shown.cause in self._known_causes:
                return
            self._known_causes.add(shown.cause)
            found = replace(found, difference=shown, world=world, moves=short)
        self.findings[found.difference.cause] = found

    def _report_state(self, player: Player, differences: Sequence[Difference], moves: Sequence[Move]) -> None:
        """Finds the moves after which the state differs, and reports how; each view and wallet once.

        Args:
            player: In the world where the moves begin.
            differences: What differs at their end; empty if a move shows it.
            moves: The moves.
        """
        player.restart()
        at_end, seen = {difference.subject for difference in differences}, set[str]()
        for position, move in enumerate(moves):
            result = player.play(move, position).differences
            found = result or player.check_state(position, after=move.function)
            for difference in found:
                if difference.subject not in seen:
                    self._report(player, difference, moves[: position + 1])
            seen |= {difference.subject for difference in found}
            if result or (at_end and at_end <= seen):
                return
        for difference in differences:  # only seen at the end
            if difference.subject not in seen:
                self._report(player, difference, moves)


def _ids_go_on(player: Player) -> bool:
    """Whether the contract gives ids that have more than 32 bits, unlike `EventStake`."""
    create = Move("createEventRun", "host", ("a", 10**16, 2, 10 * DAY))
    last = b""
    for position in range(MAX_ID - player.state.last_run_id + 1):
        executed = player.play(create, position).executed
        last = executed.output if executed is not None and executed.ok else b""
    player.restart()
    return int.from_bytes(last, "big") == MAX_ID + 1
