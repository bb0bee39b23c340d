"""What a move or a sequence showed: the signals that steer the search.

pyrevm has no hook for single instructions, so the search is steered by behaviour instead of edges of the bytecode:

- a move's function, the role of its caller, its outcome, the events that it logged, and the model's state before it:
  the status of run and booking, the time against the run's edges, and the pause;
- the outcome of the move before it, and what receivers call while they are paid;
- the gas that it took, in classes: another path through the code takes other gas;
- bytes of the contract's storage that take small values only: counters, flags and states, wherever it keeps them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from struct import unpack
from typing import NamedTuple

from eth_hash.auto import keccak

from stakesim.lane.arena import Arena, Executed
from stakesim.lane.codec import word
from stakesim.lane.moves import PARTIES, PUPPETS, Move
from stakesim.model.rules import PAYING
from stakesim.model.state import Booking, Run, State

_GAS_STEP = 5_000
"""Gas of a class. A slot that is written for the first time takes 22,100, one that is changed 2,900 or 5,000."""
_SMALL = 32
"""A byte of storage that took a larger value than this is of an amount, an address or a time, and no signal."""
_FEW = 3
"""A byte to which one function brought more new values than this in a row is a counter."""
_SLOTS = 14
_FIELDS = 5
_IDS = 3


def _bucket(count: int) -> int:
    """A class of a number: 0, 1, 2, 3 to 7, 8 to 127, more."""
    return count if count < 3 else 3 if count < 8 else 4 if count < 128 else 5


class MoveContext:
    """What is known before a move, for its signals."""

    def __init__(self, state: State, move: Move) -> None:
        """Looks at the state before the move is played."""
        run, booking = _target(state, move)
        party = booking.attendee if booking else run.host if run else ""
        self._owner, self._operator, self._party = state.owner, state.operators, party
        self._run_label = run.label if run else ""
        self._before = (
            run.status if run else -1,
            _bucket(len(state.active_bookings_of(run))) if run else -1,
            booking.status if booking else -1,
            state.paused,
        )
        self._start = run.start if run else 0

    def signals(self, state: State, move: Move, done: Executed, error: str | None, previous: str) -> Iterator[Hashable]:
        """The signals of a move that was played.

        Args:
            state: The model after it.
            move: The move.
            done: What it did on the contract.
            error: The error that it must fail with.
            previous: Function and outcome of the move before it.
        """
        role = (move.by == self._owner, move.by in self._operator, move.by == self._party)
        events = tuple(sorted({topics[0][:10] for _, topics, _ in done.logs if topics}))
        outcome = (move.function, error, done.ok)
        yield (*outcome, role, events, _bucket(len(done.logs)), *self._before, self._phase(state))
        yield (*outcome, previous)
        yield (*outcome, done.gas // _GAS_STEP, move.by in PUPPETS)
        if move.function in PAYING:
            for script in state.receivers.values():
                if script.call is not None:
                    yield (*outcome, "entered again by", script.call.function)
        if move.value_off or move.gas:
            yield (*outcome, move.value_off > 0, move.value_off < 0, move.gas is not None)

    def _phase(self, state: State) -> int:
        """Where the time is against the edges of the run."""
        if not self._run_label:
            return -1
        start, terms = self._start, state.terms
        edges = (start - terms.cancellation_cutoff, start, start + terms.completion_grace)
        return sum(state.now >= edge for edge in edges)


def _target(state: State, move: Move) -> tuple[Run | None, Booking | None]:
    """The run and booking that a move is about."""
    ids = [arg for arg in move.args if isinstance(arg, int) and not isinstance(arg, bool)]
    if not ids or move.function.startswith("create"):
        return None, None
    if move.function == "cancelBooking":
        label = state.booking_labels.get(ids[0])
        booking = state.bookings[label] if label is not None else None
        return (state.runs[booking.run] if booking else None), booking
    label = state.run_labels.get(ids[0])
    return (state.runs[label] if label is not None else None), None


class StorageSignals:
    """Watches the words of a contract's storage that a small contract is likely to use."""

    def __init__(self, arena: Arena) -> None:
        """Computes which slots to watch: fixed ones, and those of mappings by the first ids and by the parties."""
        keys = [*range(1, _IDS + 1)]
        self._unused = list(range(_SLOTS))
        for base in range(_SLOTS):
            for key in keys:
                first = int.from_bytes(keccak(word(key) + word(base)), "big")
                self._unused += [(first + field) % 2**256 for field in range(_FIELDS)]
            for party in PARTIES:
                self._unused.append(int.from_bytes(keccak(word(arena.addresses[party]) + word(base)), "big"))
        self._used: list[int] = []  # slots that had another value than 0 at the end of some sequence
        self._words: dict[int, set[int]] = defaultdict(set)
        self._bytes: dict[tuple[int, int], set[int]] = defaultdict(set)
        self._streaks: dict[tuple[int, int], tuple[str, int]] = {}  # what brought the last new values, and how many
        self._large: set[tuple[int, int]] = set()

    def after_move(self, arena: Arena, function: str, last_id: int) -> list[StorageByte]:
        """Bytes of the slots in use with a small value that was not seen there before.

        Lists of ids are left out, and what only counts calls of one function, as more of them lead to the next value.

        Args:
            arena: The contract.
            function: The function that was called.
            last_id: The largest id that was given.
        """
        found = []
        for slot, value in zip(self._used, arena.slots(self._used), strict=True):
            if value in self._words[slot]:
                continue
            if (fresh := self._fresh(slot, value)) and not _is_list_of_ids(value, last_id):
                found += [each for each in fresh if not self._counts(each, function.removesuffix("For"))]
        return found

    def _counts(self, fresh: StorageByte, function: str) -> bool:
        """Whether the last new values of a byte all came by one function."""
        last, times = self._streaks.get((fresh.slot, fresh.place), ("", 0))
        times = times + 1 if function == last else 1
        self._streaks[fresh.slot, fresh.place] = function, times
        return times > _FEW

    def after_sequence(self, arena: Arena) -> None:
        """Looks for slots that came into use."""
        for slot, value in zip(self._unused, arena.slots(self._unused), strict=True):
            if value:
                self._used.append(slot)
                self._fresh(slot, value)
        self._unused = [slot for slot in self._unused if slot not in self._words]

    def _fresh(self, slot: int, value: int) -> list[StorageByte]:
        """Enters a new word of a slot, and returns its small bytes that were not seen there before."""
        self._words[slot].add(value)
        fresh = []
        for place, byte in enumerate(value.to_bytes(32, "big")):
            key = (slot, place)
            if byte > _SMALL:
                self._large.add(key)
            elif byte and key not in self._large and byte not in (values := self._bytes[key]):
                values.add(byte)
                fresh.append(StorageByte(slot, place, byte))
        return fresh


def _is_list_of_ids(value: int, last_id: int) -> bool:
    """Whether a word may be several ids of 32 bits each."""
    ids = [each for each in unpack(">8I", value.to_bytes(32, "big")) if each]
    return len(ids) > 1 and max(ids) <= last_id


class StorageByte(NamedTuple):
    """A byte of the contract's storage.

    Attributes:
        slot: The slot.
        place: Which of its 32 bytes, the highest first.
        value: The byte's value.
    """

    slot: int
    place: int
    value: int

    def is_in(self, arena: Arena) -> bool:
        """Whether the storage has it."""
        return arena.slot(self.slot).to_bytes(32, "big")[self.place] == self.value


def outcome_of(move: Move, error: str | None) -> str:
    """Function and outcome of a move."""
    return f"{move.function} {error}"
