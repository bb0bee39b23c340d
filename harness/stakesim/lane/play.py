"""Plays sequences of moves on a contract and in the reference model, and says where they differ.

After each move outcome, error, return value and events are compared; at the end of a sequence, and wherever the caller
wants, the whole state: all views at the edges of their arguments, and all wallets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from stakesim.evm.batch_reader import decode, encode_answer
from stakesim.evm.chain_spec import EPOCH
from stakesim.evm.compiler import Artifact
from stakesim.evm.errors import EngineError
from stakesim.evm.in_process.evm import contract_address
from stakesim.evm.required_abi import codec_of, has_specified_errors, missing_extension, own_transactions
from stakesim.lane.arena import Arena, Executed
from stakesim.lane.codec import word
from stakesim.lane.counters import find_counters
from stakesim.lane.moves import (
    ACTORS,
    CONTROLLERS,
    FORCE_ETHER,
    FUNDS,
    LEAST,
    PARTIES,
    PREPARATIONS,
    PUPPETS,
    SCRIPT,
    SET_IDS,
    Move,
    call_of,
    script_of,
    time_of,
)
from stakesim.lane.take_over import pays_a_puppet, take_over_deferrals, take_over_own_function
from stakesim.lane.while_paid import looks_of, stale_views
from stakesim.model.contract_traits import ContractTraits
from stakesim.model.deployed_interface import DEPLOYED, may_refuse
from stakesim.model.rules import ARGUMENTS, CONTRACT, NOBODY, PAYING, execute, force_ether
from stakesim.model.state import ContractCall, Effects, ExpectedEvent, RefusedError, State, initial_state
from stakesim.model.transfers import orders
from stakesim.model.views import ExpectedView, expected_views, says_nothing, twins
from stakesim.scenario.actions import Terms

ENDLESS = "endless"
"""Kind of the difference that views show which use up all gas."""
STALE = "stale"
"""Kind of the difference that a receiver sees which is paid before the state has changed."""
DEPLOYMENT = "the deployment"
"""What comes before a difference that no move brings about."""
_STRANGE_ADDRESS = "0x" + "57" * 20
_WANT_OF_GAS = ("OutOfGas", "InsufficientGas()", "no reason")
_SEQUENCES_PER_EVM = 2_000
_PUPPET = contract_address(CONTROLLERS[PUPPETS[0]].to_bytes(20, "big"), 0)
VIEWED = (*PARTIES, NOBODY, CONTRACT, _STRANGE_ADDRESS, *twins("0x" + _PUPPET.hex()))
"""Addresses that views are asked about."""


class World(NamedTuple):
    """Where sequences begin.

    Attributes:
        name: What is special about it.
        terms: The contract's terms.
        time: Seconds since 1970 at the beginning.
        moves: What has happened before.
    """

    name: str
    terms: Terms = Terms()
    time: int = EPOCH
    moves: tuple[Move, ...] = ()


class Difference(NamedTuple):
    """Contract and model differ.

    Attributes:
        kind: In what they differ.
        function: The move that shows it; for a state, the view or "wallets".
        detail: What both say, in short: the same for the same cause, whatever the amounts.
        text: A sentence with the amounts.
        position: Position of the move in its sequence.
        subject: Of a difference in the state, what differs: somebody's wallet, or a view with its arguments; whatever
            does not exist is one subject. Of what is stale, who sees it.
    """

    kind: str
    function: str
    detail: str
    text: str
    position: int
    subject: str = ""

    @property
    def cause(self) -> tuple[str, str, str]:
        """What makes two differences one finding."""
        return self.kind, self.function, self.detail


class MoveResult(NamedTuple):
    """What one move did on the contract.

    Attributes:
        executed: The transaction; None for a preparation.
        error: The error that it must fail with by the model; None: it must succeed.
        differences: How it differs from the model.
        undone: Whether contract and model are what they were before it, as only one of them had made it.
        returned: The id that it must return.
    """

    executed: Executed | None
    error: str | None
    differences: list[Difference]
    undone: bool = False
    returned: int | None = None


def _phases(events: Sequence[ExpectedEvent]) -> list[str]:
    """Kinds of events in their order. Bookings of a run are in no order that anybody is told."""
    return [kind for kind, _ in groupby("a booking" if name in _OF_BOOKINGS else name for name, *_ in events)]


_OF_BOOKINGS = ("BookingCompleted", "BookingNoShow")


def _subject(view: ExpectedView) -> str:
    """What a view is asked about. Whatever does not exist is one subject, as there is no end of it."""
    says_nothing = view.results == ((),) if view.error is None else view.error[0].startswith("Unknown")
    return f"{view.function} of nothing" if says_nothing else f"{view.function}{view.args}"


class Player:
    """Plays moves in one world, sequence after sequence.

    Attributes:
        world: The world.
        contract: The contract.
        own_functions: Functions that only this contract has, by name or signature, and the types of their arguments.
        spoiled_by: The world's first moves that already show a difference; empty as a rule.
        wrong_from_start: What differs before any move, and is not told again after one; empty as a rule.
        wrong_views: Views that are wrong after the world's own moves, and not told again; empty as a rule.
        state: The model's state.
        played: How many moves were played.
        ordered: Whether events must come in the order of the rules.
    """

    def __init__(self, contract: Artifact, world: World, traits: ContractTraits | None = None) -> None:
        """Builds the world.

        Args:
            contract: The contract.
            world: The world.
            traits: What the contract decides for itself.

        Raises:
            EngineError: The contract can't be deployed, or its counters are not found.
        """
        self.world, self.contract, self._traits = world, contract, traits or ContractTraits()
        self._full_interface = not missing_extension(contract.abi)
        self._judged = ARGUMENTS if self._full_interface else DEPLOYED
        self.played, self.ordered = 0, False
        self._has_errors = has_specified_errors(contract.abi) and not self._traits.reverts_with_strings
        self._abi = codec_of(contract.abi)
        self.own_functions = [
            (name, [p["type"] for p in item["inputs"]])
            for name, item in own_transactions(contract.abi).items()
            if not self.judges(name)
        ]
        self._build()

    def _build(self) -> None:
        self.arena = Arena(self.contract, self.world.terms, self.world.time)
        self.state = initial_state(
            self.world.terms,
            ACTORS,
            self.world.time,
            full_interface=self._full_interface,
            takes_payments=False,
            max_seats=self._traits.max_seats,
            pays_by_credit=self._traits.pays_by_credit,
            fees_by_credit=self._traits.fees_by_credit,
            liberties=self._traits.liberties,
        )
        self.spoiled_by: tuple[Move, ...] = ()
        self.wrong_views: list[Difference] = []
        self._moves: list[Move] = []
        self._encoded_views: dict[ExpectedView, tuple[bytes, bytes]] = {}
        self._sequences = 0
        self._begin()
        self._wrong_from_start: set[str] = set()
        self.wrong_from_start = self.check_state(-1, after=DEPLOYMENT)
        self._wrong_from_start = {each.subject for each in self.wrong_from_start}
        for position, move in enumerate(self.world.moves, start=1):
            last = position == len(self.world.moves)
            found = self.play(move, position).differences
            if last and not found:
                found = self.check_state(position, after=move.function)
                if found and all(each.kind == "view" for each in found):  # what views tell spoils nothing else
                    self.wrong_views = found
                    self._wrong_from_start |= {each.subject for each in found}
                    break
            if found:
                self.spoiled_by = self.world.moves[:position]
                return
        self._begin()

    def judges(self, function: str) -> bool:
        """Whether the rules say what a function does; one of the contract's own may do what it likes but pay."""
        return function in self._judged

    def can_play(self, moves: Sequence[Move]) -> bool:
        """Whether the contract has all functions that are called."""
        return all(self.arena.codec.has_function(move.function) or move.function in PREPARATIONS for move in moves)

    def _begin(self) -> None:
        """Makes the present state the one that sequences begin with."""
        self._start = self.state.copy()
        self.arena.begin()
        self._moves.clear()

    def restart(self) -> None:
        """Begins another sequence. Now and then the EVM is built anew, as its journal grows."""
        self._sequences += 1
        if self._sequences >= _SEQUENCES_PER_EVM:
            self._build()
            return
        self.arena.restart()
        self.state = self._start.copy()
        self._moves.clear()

    def _undo_last(self) -> None:
        """Returns to what was before the last move, by playing the sequence again without it."""
        moves = self._moves[:-1]
        self.restart()
        for position, move in enumerate(moves):
            self.play(move, position)

    def play(self, move: Move, index: int) -> MoveResult:
        """Plays a move on the contract and in the model.

        If only one of them makes it, it is undone in the other, so that the next moves are of use.
        """
        self.played += 1
        self._moves.append(move)
        state, arena = self.state, self.arena
        state.now = time_of(state, move.when)
        arena.set_time(state.now)
        if move.function in PREPARATIONS:
            self._prepare(move)
            return MoveResult(None, None, [])
        call = call_of(state, move)
        data, gas = arena.codec.call(call.function, call.args), move.gas
        looks = looks_of(state, call)
        for puppet in PUPPETS:
            arena.look(puppet, arena.codec.call(*looks[puppet]) if puppet in looks else b"")
        # what is entered again while it pays has only the little gas of a push
        if gas is not None or (move.function in PAYING and any(each.call for each in state.receivers.values())):
            arena.settle()
        if gas == LEAST:
            gas = arena.least_gas(call.sender, data, call.value, move.origin)
        done = arena.call(call.sender, data, call.value, gas, move.origin)
        if call.function not in self._judged:
            if done.ok and not self._full_interface:
                take_over_own_function(state, arena, call.sender, done)
            return MoveResult(done, None, [])
        if not done.ok:
            return self._check_failure(move, index, done, call)
        try:
            effects = self._execute(call, move, done)
        except RefusedError as refused:
            self._undo_last()
            text = f"{self._told(move)} must fail with {refused.error}{refused.arguments}, and succeeds"
            difference = Difference("accepted", move.function, refused.error, text, index)
            return MoveResult(done, refused.error, [difference], undone=True)
        differences = list(self._check_effects(move, index, done, effects))
        for puppet, views in stale_views(arena, done, looks):
            text = (
                f"{puppet} is paid by {self._told(move)} before the state has changed: {', '.join(views)} differ after"
            )
            differences.append(Difference(STALE, move.function, "", text, index, puppet))
        return MoveResult(done, None, differences, returned=effects.returned)

    def _execute(self, call: ContractCall, move: Move, done: Executed) -> Effects:
        """Carries out in the model what the contract did.

        A receiver that enters the contract while it is paid may be paid in between. What it tells of the inner call
        comes first, so other orders are tried: of a contract that must not be entered, until one says who entered; of
        one with only the deployed interface, which may be, until one agrees.
        """
        told = {name: tuple(each) for name, each in self.arena.reentries(done.logs).items()}
        if self._full_interface and not any(map(any, told.values())):
            return execute(self.state, call, {name: iter(each) for name, each in told.items()})
        first: tuple[State, Effects] | None = None
        for order in orders(told):
            state = self.state.copy()
            effects = execute(state, call, {name: iter(each) for name, each in order.items()})
            if self._full_interface:
                fits = bool(effects.wrong_reentries)
            else:
                fits = next(self._check_effects(move, 0, done, effects), None) is None
            if fits:
                break
            first = first or (state, effects)
        else:
            assert first is not None
            state, effects = first
        self.state = state
        if effects.payouts and not self._full_interface:
            take_over_deferrals(state, self.arena, effects)
        return effects

    def _check_failure(self, move: Move, index: int, done: Executed, call: ContractCall) -> MoveResult:
        """Compares a failed move with the model."""
        state = self.state.copy() if self._traits.liberties else self.state
        may = move.gas is not None or may_refuse(state, call)
        try:
            execute(state, call)
        except RefusedError as refused:
            return MoveResult(done, refused.error, list(self._check_refusal(move, index, done, refused)))
        self._undo_last()
        may = may or (bool(self._traits.liberties) and pays_a_puppet(state, call))
        reason = self._reason(done)
        if may:  # a receiver may lack gas, and refuse
            return MoveResult(done, "InsufficientGas", [], undone=True)
        text = f"{self._told(move)} must succeed, and fails with {reason}"
        difference = Difference("refused", move.function, reason.partition("(")[0], text, index)
        return MoveResult(done, None, [difference], undone=True)

    def _check_refusal(self, move: Move, index: int, done: Executed, refused: RefusedError) -> Iterator[Difference]:
        """Compares the errors, of a contract that has those of the rules; for a call of nothing there is none."""
        if refused.error == "NoSuchFunction" or not self._has_errors:
            return
        if move.gas is not None and self._reason(done) in _WANT_OF_GAS:
            return
        codec = self.arena.codec
        expected = b"" if refused.error == "NotPayable" else codec.error(refused.error, refused.arguments)
        if expected is None or (done.output == expected and not done.halt):
            return
        actual = self._reason(done)
        text = f"{self._told(move)} must fail with {refused.error}{refused.arguments}, and fails with {actual}"
        detail = f"{refused.error}, not {actual.partition('(')[0]}"
        yield Difference("error", move.function, detail, text, index)

    def _check_effects(self, move: Move, index: int, done: Executed, effects: Effects) -> Iterator[Difference]:
        for wrong in effects.wrong_reentries:
            yield Difference("reentered", move.function, wrong.partition(" called ")[2], wrong, index)
        returned = b"" if effects.returned is None else word(effects.returned)
        if done.output != returned:
            text = f"{self._told(move)} must return {effects.returned}, and returns 0x{done.output.hex()}"
            yield Difference("returned", move.function, "", text, index)
        yield from self._check_events(move, index, done, effects)

    def _check_events(self, move: Move, index: int, done: Executed, effects: Effects) -> Iterator[Difference]:
        """Compares the events of a contract that has those of the rules, in whatever order unless `ordered`."""
        codec, stake = self.arena.codec, self.arena.stake
        due = [codec.event(event) for event in effects.events if codec.has_event(event[0])]
        all_logged = (codec.logged(topics, data) for address, topics, data in done.logs if address == stake)
        logged = [event for event in all_logged if event is not None]
        expected, actual = Counter(due), Counter(logged)
        if expected == actual:
            if self.ordered and _phases(due) != _phases(logged):
                text = f"{self._told(move)} must log {due} in this order, and logs {logged}"
                yield Difference("events", move.function, "order", text, index)
            return
        missing, extra = list((expected - actual).elements()), list((actual - expected).elements())
        names = sorted({event[0] for event in (*missing, *extra)})
        text = f"{self._told(move)} must log {missing}, and logs {extra}"
        yield Difference("events", move.function, ", ".join(names), text, index)

    def check_state(self, index: int, *, after: str, only: str | None = None) -> list[Difference]:
        """Compares the whole state of contract and wallets with the model's.

        Args:
            index: Position of the last move.
            after: Name of its function.
            only: The view to compare, or "wallets"; None: everything.
        """
        state = self.state
        expected = expected_views(state, VIEWED, roles=True) if only != "wallets" else ()
        views = [view for view in expected if only in (None, view.function)]
        due_wei = [*(FUNDS + state.wallet_flow.get(party, 0) for party in PARTIES), state.contract_balance]
        encoded = [self._encoded(view) for view in views]
        try:
            answer = self.arena.read_encoded([call for call, _ in encoded])
        except EngineError as error:
            return [Difference(ENDLESS, "views", f"after {after}", f"after {after} {error}", index)]
        if answer == b"".join([*map(word, due_wei), *(expected for _, expected in encoded)]):
            return []
        balances, answers = decode(answer, len(due_wei))
        differences = []
        for view, (data, reverted) in zip(views, answers, strict=True):
            if (text := self._wrong_view(view, data, ok=not reverted)) is not None:
                differences.append(Difference("view", view.function, f"after {after}", text, index, _subject(view)))
        for party, wei, due in zip((*PARTIES, CONTRACT), balances, due_wei, strict=True):
            if wei != due:
                text = f"{party} must have {due} wei after {after}, and has {wei} ({wei - due:+}) wei"
                differences.append(Difference("wei", "wallets", f"after {after}", text, index, party))
        return [each for each in differences if each.subject not in self._wrong_from_start]

    def _encoded(self, view: ExpectedView) -> tuple[bytes, bytes]:
        """The call of a view, and the answer that is expected."""
        known = self._encoded_views.get(view)
        if known is None:
            codec = self.arena.codec
            known = codec.call(view.function, view.args), encode_answer(*codec.answer(view))
            self._encoded_views[view] = known
        return known

    def _wrong_view(self, view: ExpectedView, data: bytes, *, ok: bool) -> str | None:
        _, expected = self._encoded(view)
        if encode_answer(data, not ok) == expected:
            return None
        if view.error is not None:
            if not ok and not self._has_errors:
                return None
            if not self._full_interface and view.error[0].startswith("Unknown") and says_nothing(data):
                return None
        due = f"return {view.results}" if view.error is None else f"fail with {view.error}"
        return f"{view.function}{view.args} must {due}, and {'returns' if ok else 'fails with'} 0x{data.hex()}"

    def _reason(self, done: Executed) -> str:
        """Why a transaction failed: an error's name and arguments, or what the EVM says."""
        if done.halt or not done.output:
            return done.halt or "no reason"
        reason = self._abi.revert_reason(done.output)
        return f"{reason.name}({', '.join(map(str, reason.args))})"

    @staticmethod
    def _told(move: Move) -> str:
        return f"{move.function}{move.args} by {move.by}"

    def _prepare(self, move: Move) -> None:
        state, arena = self.state, self.arena
        if move.function == FORCE_ETHER:
            arena.force_ether(move.by, move.args[0])
            force_ether(state, move.by, move.args[0])
        elif move.function == SCRIPT:
            script = script_of(state, move)
            state.receivers[move.by] = script
            nested = script.call
            data = b"" if nested is None else arena.codec.call(nested.function, nested.args)
            arena.script(move.by, script.how, data, 0 if nested is None else nested.value)
        elif move.function == SET_IDS:
            runs, bookings = move.args
            counters = find_counters(self.contract)
            arena.set_counter(counters.run, runs)
            arena.set_counter(counters.booking, bookings)
            state.last_run_id, state.last_booking_id = runs, bookings
