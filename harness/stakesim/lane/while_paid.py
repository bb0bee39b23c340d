"""What receivers see of the contract while it pays them: its state must have changed by then (rule 8 of the contract).

A guard against re-entrance keeps nobody from looking. Whoever relies on a view, such as another contract, is misled if
it is asked in the middle of a payment (read-only re-entrance).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from eth_hash.auto import keccak

from stakesim.lane.arena import Arena, Executed
from stakesim.lane.codec import word
from stakesim.lane.moves import PUPPETS
from stakesim.model.rules import PAYING
from stakesim.model.state import ContractCall, State

Looks: TypeAlias = Mapping[str, tuple[str, tuple[int | str, ...]]]
"""By puppet, what it looks at: the name of a view with one argument, and that."""


def looks_of(state: State, call: ContractCall) -> Looks:
    """What puppets that accept ether look at while a call pays them: the run, booking or credit that it is about.

    They look at nothing if one of them calls the contract then, as what is left of its gas decides what becomes of
    that; nor at a contract that has only the interface deployed on Sepolia, which may be entered again.
    """
    calls = any(each.call for each in state.receivers.values())
    if calls or call.function not in PAYING or not state.full_interface:
        return {}
    scripts = state.receivers
    puppets = [name for name in PUPPETS if name not in scripts or scripts[name].how == "accepts"]
    if call.function.startswith("withdraw"):
        return dict.fromkeys(puppets, ("creditOf", (call.sender,)))
    if call.function == "cancelBooking":
        bookings = [each for each in state.bookings.values() if each.id == call.args[0]]
        runs = [state.runs[each.run] for each in bookings]
    else:
        runs = [run for run in state.runs.values() if run.id == call.args[0]]
        bookings = [each for run in runs for each in state.active_bookings_of(run)][:1]
    views = [("getEventRun", (run.id,)) for run in runs] + [("getBooking", (each.id,)) for each in bookings]
    return {name: views[PUPPETS.index(name) % len(views)] for name in puppets} if views else {}


def stale_views(arena: Arena, done: Executed, looks: Looks) -> Iterator[tuple[str, list[str]]]:
    """Each puppet that saw something else while it was paid than there is after it, and the views that said it.

    What is owed changes once more if a payment is refused, and becomes a credit.

    Args:
        arena: The contract, after the transaction.
        done: The transaction.
        looks: What puppets looked at.
    """
    seen = list(arena.seen(done.logs))
    if not seen:
        return
    calls = [("platformBalance", ()), ("totalLiabilities", ()), *looks.values()]
    balance, liabilities, *views = [each.data for each in arena.read([arena.codec.call(*each) for each in calls])[1]]
    at_the_end = dict(zip(looks, map(keccak, views), strict=True))
    for puppet, view, seen_balance, seen_liabilities in seen:
        stale = [looks[puppet][0]] if view != at_the_end[puppet] else []
        stale += ["platformBalance"] if word(seen_balance) != balance else []
        if word(seen_liabilities) != liabilities and not arena.is_deferred(done.logs):
            stale.append("totalLiabilities")
        if stale:
            yield puppet, stale
