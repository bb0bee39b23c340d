"""Exports what the lane found: as a scenario, and as a test for pytest.

A move becomes the action that people would write where there is one (`create_run`, `book`, ...), and a `call` of the
function with its arguments where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

from stakesim.evm.chain_spec import EPOCH
from stakesim.lane.moves import (
    ACTORS,
    FORCE_ETHER,
    LEAST,
    MOST,
    PARTIES,
    SCRIPT,
    SET_IDS,
    Move,
    absolute_args,
    call_of,
    due,
    script_of,
    time_of,
)
from stakesim.lane.play import STALE, Difference, Player, World
from stakesim.lane.while_paid import looks_of
from stakesim.model.rules import MAX_PRICE
from stakesim.model.state import State
from stakesim.prices.price_models import Constant
from stakesim.scenario.actions import (
    ACTOR_FIELDS,
    Action,
    Book,
    CallFunction,
    CallWhilePaid,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    LookWhilePaid,
    ScriptReceiver,
    SetIds,
    Wait,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.administration import AcceptOwnership, Pause, SetOperator, TransferOwnership, Unpause
from stakesim.scenario.scenario import Scenario
from stakesim.schema.fields import MOST_SEATS
from stakesim.units import DAY, WEI_PER_ETH

_RATE = 200_000
_RATE_OF_WEI = 10**18
"""INR per ETH: an ordinary rate; and for prices that are no whole paise at that one, 1 INR a wei."""
_LATEST = 36_500 * DAY
"""Start beyond which a run is no longer an ordinary one."""
_ORDINARY = "a"
"""The experience of runs that the scenario's own stands for."""


def to_scenario(
    player: Player, world: World, moves: Sequence[Move], difference: Difference, *, name: str, seed: int = 0
) -> Scenario:
    """Makes a scenario of a sequence of moves in a world.

    Args:
        player: Plays on the contract in a world with the same terms and time, in which nothing has happened. What ids
            and times are is seen by playing.
        world: The world, whose own moves come first.
        moves: The sequence.
        difference: What it shows.
        name: The scenario's name.
        seed: The seed of the search.
    """
    prices = [move.args[-3] for move in (*world.moves, *moves) if move.function.startswith("createEventRun")]
    rate = _RATE if all(price * _RATE * 100 % WEI_PER_ETH == 0 for price in prices) else _RATE_OF_WEI
    writer = _Writer(player, rate)
    *before, last = enumerate((*world.moves, *moves))
    for position, move in before:
        writer.add(move, position)
    if difference.kind == STALE:
        writer.let_look(difference.subject, last[1])
    writer.add(last[1], last[0])
    actions = writer.actions
    named = {getattr(action, field, None) for action in actions for field in ACTOR_FIELDS}
    named |= {arg for action in actions for arg in _arguments(action) if isinstance(arg, str)}
    return Scenario(
        name=name,
        story=difference.text,
        terms=world.terms,
        price=Constant(inr_per_eth=Decimal(rate)),
        seed=seed,
        strict=False,
        actors={party: actor for party, actor in ACTORS.items() if party in named},
        actions=tuple(actions),
        origin={"lane": " ".join(difference.cause).strip(), "seed": seed},
    )


def _arguments(action: Action) -> tuple[Any, ...]:
    if isinstance(action, ScriptReceiver):
        told = action.calls or action.looks_at
        return told.args if told else ()
    return action.args if isinstance(action, CallFunction) else ()


class _Writer:
    """Writes moves as actions, while it plays them."""

    def __init__(self, player: Player, rate: int) -> None:
        self.actions: list[Action] = []
        self._rate = rate
        self._player = player
        self._runs: dict[int, str] = {}  # labels of runs and bookings that an action with a label made
        self._bookings: dict[int, str] = {}
        self._count = 0

    def add(self, move: Move, position: int) -> None:
        state = self._player.state
        state_before = (state.last_run_id, state.last_booking_id)
        now = state.now
        state.now = time_of(state, move.when)
        at = state.now - EPOCH
        action = self._preparation(move, state) or self._ordinary(move, state) or self._call(move, state)
        state.now = now
        self.actions.append(action.model_copy(update={"at": at}))
        executed = self._player.play(move, position).executed
        if executed is not None and executed.gas == 0:  # too little gas for a transaction: no node takes it
            self.actions[-1] = Wait(at=at)
        state = self._player.state
        if isinstance(action, CreateRun) and state.last_run_id > state_before[0]:
            self._runs[state.last_run_id] = action.run
        if isinstance(action, Book) and state.last_booking_id > state_before[1]:
            self._bookings[state.last_booking_id] = action.booking

    def let_look(self, puppet: str, move: Move) -> None:
        """Tells a receiver what to look at while a move pays it, right after the move before it."""
        state = self._player.state
        function, args = looks_of(state, call_of(state, move))[puppet]
        looks_at = LookWhilePaid(function=cast(Any, function), args=cast(Any, args))
        self.actions.append(ScriptReceiver(at=state.now - EPOCH, by=puppet, looks_at=looks_at))

    def _preparation(self, move: Move, state: State) -> Action | None:
        if move.function == FORCE_ETHER:
            return ForceEther(by=move.by, wei=move.args[0])
        if move.function == SET_IDS:
            return SetIds(runs=move.args[0], bookings=move.args[1])
        if move.function != SCRIPT:
            return None
        script = script_of(state, move)
        call = script.call
        nested = None if call is None else CallWhilePaid(function=call.function, args=call.args, value=call.value)
        return ScriptReceiver(by=move.by, how=script.how, calls=nested)

    def _call(self, move: Move, state: State) -> Action:
        args = absolute_args(state, move.function, move.args)
        value = max(0, due(state, move.function, args) + move.value_off)
        gas: Any = "least" if move.gas == LEAST else move.gas
        return CallFunction(function=move.function, args=args, by=move.by, value=value, gas=gas, signed_by=move.origin)

    def _ordinary(self, move: Move, state: State) -> Action | None:
        """The action that people would write; None where there is none."""
        if move.gas is not None or move.origin is not None or not self._player.judges(move.function):
            return None
        if move.function in ("createEventRun", "createEventRunFor", "bookEvent", "bookEventFor"):
            return self._paying(move, state)
        if move.value_off:
            return None
        return self._administration(move) or self._settlement(move)

    def _paying(self, move: Move, state: State) -> Action | None:
        *beneficiary, _, _ = move.args if "book" in move.function else (*move.args[:-4], None, None)
        party, payer = (beneficiary[0], move.by) if beneficiary else (move.by, None)
        if party not in PARTIES or party == payer:
            return None
        more: dict[str, Any] = {"by": party, "paid_by": payer, "direct": True, "value_off": move.value_off}
        self._count += 1
        if "book" in move.function:
            run, seats = move.args[-2:]
            if run not in self._runs or not 0 < seats <= MOST_SEATS:
                return None
            return Book(booking=f"b{self._count}", run=self._runs[run], seats=seats, **more)
        experience, price, seats, _ = move.args[-4:]
        starts = absolute_args(state, move.function, move.args)[-1] - EPOCH
        if experience != _ORDINARY or not 0 < price <= MAX_PRICE or not 0 < seats <= MOST_SEATS or starts < 0:
            return None
        if starts > _LATEST or price * seats > MOST:
            return None
        inr = Decimal(price) if self._rate == WEI_PER_ETH else Decimal(price * self._rate) / WEI_PER_ETH
        return CreateRun(run=f"run{self._count}", price_inr=inr, seats=seats, starts=starts, **more)

    def _settlement(self, move: Move) -> Action | None:
        by, args = move.by, move.args
        match move.function:
            case "cancelBooking" if args[0] in self._bookings:
                return CancelBooking(booking=self._bookings[args[0]], by=by, direct=True)
            case "cancelEvent" if args[0] in self._runs:
                return CancelRun(run=self._runs[args[0]], by=by, direct=True)
            case "expireEvent" if args[0] in self._runs:
                return Expire(run=self._runs[args[0]], by=by, direct=True)
            case "completeEvent" if args[0] in self._runs and all(each in self._bookings for each in args[1]):
                attended = tuple(self._bookings[each] for each in args[1])
                return Complete(run=self._runs[args[0]], by=by, attended=attended, direct=True)
            case "withdraw":
                return Withdraw(by=by, direct=True)
            case "withdrawTo" if args[0] in PARTIES:
                return Withdraw(by=by, to=args[0], direct=True)
            case "withdrawPlatformFees":
                return WithdrawFees(by=by, direct=True)
        return None

    def _administration(self, move: Move) -> Action | None:
        by, args = move.by, move.args
        match move.function:
            case "setOperator" if args[0] in PARTIES:
                return SetOperator(by=by, operator=args[0], allowed=args[1])
            case "transferOwnership" if args[0] in PARTIES:
                return TransferOwnership(by=by, to=args[0])
            case "acceptOwnership":
                return AcceptOwnership(by=by)
            case "pause":
                return Pause(by=by)
            case "unpause":
                return Unpause(by=by)
        return None


def pytest_file(scenarios: Sequence[str]) -> str:
    """Writes a test for pytest that runs scenarios with the fixture of stakesim's plugin.

    Args:
        scenarios: As YAML.
    """
    tests = "\n\n".join(_pytest_function(text) for text in scenarios)
    return f"{_PYTEST_HEAD}\n\n{tests}"


def _pytest_function(text: str) -> str:
    match = re.search(r"^name: (\S+)$", text, re.MULTILINE)
    name = match[1].replace("-", "_") if match else "story"
    return f'def test_{name}(run_scenario):\n    run_scenario(loads(r"""\n{text}"""))\n'


_PYTEST_HEAD = '''"""What a search has found. Run it with

    pytest FILE --stakesim-driver contract --stakesim-contract CONTRACT.sol
"""

from stakesim.scenario.scenario import loads
'''
