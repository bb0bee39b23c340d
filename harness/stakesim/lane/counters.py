"""Finds the counters of runs and bookings in a contract's storage, so that worlds with large ids cost nothing.

A counter is looked for by what it does: it is the only 32 bits of the storage that grow by one with each run of another
host, or each booking of another attendee in another run. A contract may take all ids up to its last one for given, as
where that is the length of a list: there, other ids would make runs and bookings that can't be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from stakesim.evm.chain_spec import GENESIS_TIMESTAMP
from stakesim.evm.compiler import Artifact
from stakesim.evm.errors import EngineError
from stakesim.lane.moves import SIGNERS
from stakesim.model.rules import MAX_ID
from stakesim.scenario.actions import PLATFORM, Terms

if TYPE_CHECKING:
    from stakesim.lane.arena import Arena

_ROUNDS = 3
_PRICE = 10_000
"""Wei of a seat."""
_UNKNOWN = 1_000
"""An id that is never given while counters are looked for."""


class Counters(NamedTuple):
    """Where a contract counts: slot and lowest bit of the 32 bits that hold the last id of each kind."""

    run: tuple[int, int]
    booking: tuple[int, int]


def find_counters(contract: Artifact) -> Counters:
    """Finds a contract's counters.

    Args:
        contract: The contract.

    Raises:
        EngineError: They are not found, can't be set, or revm is not installed.
    """
    key = contract.bytecode
    if key not in _found:
        try:
            from stakesim.lane.arena import Arena
        except ModuleNotFoundError:
            raise EngineError("ids can't be set without revm: install the extra stakesim[revm]") from None
        _found[key] = _find(Arena(contract, Terms(), GENESIS_TIMESTAMP), GENESIS_TIMESTAMP)
    return _found[key]


_found: dict[str, Counters] = {}


def _find(arena: Arena, now: int) -> Counters:
    hosts = SIGNERS[1 : 2 + _ROUNDS]
    run = _growing(arena, [partial(_create, arena, now, host) for host in hosts])
    booking = _growing(arena, [partial(_book, arena, host, number) for number, host in enumerate(hosts, start=1)])
    if run is None or booking is None:
        raise EngineError("the contract's counters of runs and bookings are not found in its storage")
    counters = Counters(run, booking)
    before = _answers_about_unknown(arena)
    for place in counters:
        arena.set_counter(place, 2 * _UNKNOWN)
    if _answers_about_unknown(arena) != before:
        raise EngineError(
            "ids can't be set: the contract takes all ids up to its last one for given, as places of a list"
        )
    return counters


def _answers_about_unknown(arena: Arena) -> list[Any]:
    """What views and calls say about a run and a booking whose ids were never given."""
    one, seats, nobody = (_UNKNOWN,), (_UNKNOWN, 1), (_UNKNOWN, ())
    views = [("getEventRun", one), ("getBooking", one), ("getEventBookings", one), ("calculateBookingCost", seats)]
    calls = [("bookEvent", seats), ("completeEvent", nobody), ("cancelEvent", one), ("cancelBooking", one)]
    codec = arena.codec
    done = [arena.call(PLATFORM, codec.call(*call), 0, None) for call in calls if codec.has_function(call[0])]
    answers = arena.read([codec.call(*view) for view in views])[1]
    return [*answers, *((each.ok, each.output) for each in done)]


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


def _create(arena: Arena, now: int, host: str) -> None:
    args = (f"of {host}", _PRICE, 2, now + 10**8)
    stake = _asked(arena, "calculateRequiredStake", (_PRICE, 2))
    _must(arena.call(host, arena.codec.call("createEventRun", args), stake, None).ok)


def _book(arena: Arena, attendee: str, run: int) -> None:
    value = _asked(arena, "calculateBookingCost", (run, 1))
    _must(arena.call(attendee, arena.codec.call("bookEvent", (run, 1)), value, None).ok)


def _asked(arena: Arena, view: str, args: tuple[int, ...]) -> int:
    """The last value that a view returns."""
    (answer,) = arena.read([arena.codec.call(view, args)])[1]
    return int.from_bytes(answer.data[-32:], "big")


def _must(ok: bool) -> None:
    if not ok:
        raise EngineError("the contract's counters can't be looked for, as it opens no ordinary run")
