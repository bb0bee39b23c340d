"""Finds and sets the counters of runs and bookings in a contract's storage, so that worlds with large ids cost nothing.

A counter is looked for by what it does: it is the only 32 bits of the storage that grow by one with each run of another
host, or each booking of another attendee in another run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from stakesim.evm.errors import EngineError
from stakesim.lane.arena import Arena
from stakesim.lane.moves import SIGNERS
from stakesim.model.rules import MAX_ID, stake_of
from stakesim.model.state import State

_ROUNDS = 3
_PRICE = 10_000


def set_ids(arena: Arena, state: State, *, runs: int | None, bookings: int | None) -> None:
    """Sets the ids of the last run and booking, on the contract and in the model.

    Args:
        arena: Where the contract is.
        state: The model.
        runs: The id of the last run; None: it stays.
        bookings: The id of the last booking; None: it stays.

    Raises:
        EngineError: A counter is not found, or is too narrow for the id.
    """
    places = _places(arena, state)
    for kind, last in (("run", runs), ("booking", bookings)):
        if last is not None:
            place = places[kind]
            if place is None:
                raise EngineError(f"the contract's counter of {kind}s is not found in its storage")
            arena.set_counter(place, last)
    state.last_run_id = state.last_run_id if runs is None else runs
    state.last_booking_id = state.last_booking_id if bookings is None else bookings


def _places(arena: Arena, state: State) -> dict[str, tuple[int, int] | None]:
    """Slot and lowest bit of each counter."""
    mark = arena.snapshot()
    places: dict[str, tuple[int, int] | None] = {}
    hosts = SIGNERS[1 : 2 + _ROUNDS]
    first = state.last_run_id + 1
    places["run"] = _growing(arena, [partial(_create, arena, state, host) for host in hosts])
    bookings = [partial(_book, arena, state, host, first + number) for number, host in enumerate(hosts)]
    places["booking"] = _growing(arena, bookings)
    arena.revert(mark)
    return places


def _growing(arena: Arena, steps: Sequence[Callable[[], None]]) -> tuple[int, int] | None:
    """The place of the only number that grows by one with each step."""
    steps[0]()
    slots = arena.written_slots()
    before = {slot: arena.slot(slot) for slot in slots}
    candidates: set[tuple[int, int]] | None = None
    for step in steps[1:]:
        step()
        now = {slot: arena.slot(slot) for slot in before}
        grown = set(_grown_by_one(before, now))
        candidates = grown if candidates is None else candidates & grown
        before = now
    return candidates.pop() if candidates is not None and len(candidates) == 1 else None


def _grown_by_one(before: dict[int, int], now: dict[int, int]) -> Iterator[tuple[int, int]]:
    for slot, old in before.items():
        for bit in range(0, 256, 8):
            if (old >> bit & 0xFF) + 1 == (now[slot] >> bit & 0xFF) and (old >> bit & MAX_ID) + 1 == (
                now[slot] >> bit & MAX_ID
            ):
                yield slot, bit


def _create(arena: Arena, state: State, host: str) -> None:
    args = (f"of {host}", _PRICE, 2, state.now + 10**8)
    _must(arena.call(host, arena.codec.call("createEventRun", args), stake_of(state, _PRICE * 2), None).ok)


def _book(arena: Arena, state: State, attendee: str, run: int) -> None:
    value = _PRICE + stake_of(state, _PRICE)
    _must(arena.call(attendee, arena.codec.call("bookEvent", (run, 1)), value, None).ok)


def _must(ok: bool) -> None:
    if not ok:
        raise EngineError("the contract's counters can't be looked for, as it opens no ordinary run")
