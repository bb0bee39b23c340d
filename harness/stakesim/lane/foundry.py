"""Exports what the lane found as a test for Foundry: one Solidity file that needs nothing but the contract.

The sequence is played once more, on the contract and by the rules. What is exported is each move that both make, at its
time and with its value as numbers; then the last move, and what the rules say about what the difference is in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

from stakesim.evm.abi import AbiItem, abi_type, signature
from stakesim.evm.required_abi import functions_of
from stakesim.lane.counters import find_counters
from stakesim.lane.foundry_file import test_file
from stakesim.lane.moves import (
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
from stakesim.lane.play import STALE, VIEWED, Difference, MoveResult, Player, World
from stakesim.lane.shrink import first_difference
from stakesim.lane.solidity import Writer, duration, number
from stakesim.lane.while_paid import Looks, looks_of
from stakesim.model.rules import CALLS_OF_NOTHING, CONTRACT, execute, force_ether
from stakesim.model.state import ContractCall, Effects, RefusedError
from stakesim.model.views import ExpectedView, expected_views

_MOST_VIEWS = 3
_TRANSACTION_GAS, _ZERO_BYTE_GAS, _BYTE_GAS = 21_000, 4, 16
_BUILT_IN_ERRORS: list[AbiItem] = [
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
]
_HOW = {
    "accepts": "Accepts",
    "refuses": "Refuses",
    "burns_gas": "BurnsGas",
    "floods": "Floods",
    "spends_little": "SpendsLittle",
    "spends_much": "SpendsMuch",
    "needs_stipend": "NeedsStipend",
}


def foundry_test(player: Player, import_path: str, world: World, moves: Sequence[Move], difference: Difference) -> str:
    """Writes a test that fails on this contract, and passes on one that keeps the rules.

    Args:
        player: Of the contract, in the world without the world's own moves.
        import_path: Where the test finds the contract's source, as in an `import`.
        world: The world, whose own moves come first.
        moves: The sequence. The difference shows at its last move.
        difference: What it shows.

    Returns:
        The Solidity file.
    """
    export = _Export(player, world, moves, difference)
    told = difference._replace(text=export.told(difference.text))
    return test_file(player.contract, import_path, world, export.writer, export.prelude, export.story, told)


class _Export:
    """Plays a finding once more, and writes down what is played and what must come of it."""

    def __init__(self, player: Player, world: World, moves: Sequence[Move], difference: Difference) -> None:
        self._player, self._contract, self._difference = player, player.contract, difference
        self.writer = Writer(world.time)
        self._effects, self._told_time = Effects(), world.time
        self._looks: Looks = {}
        self._state = self._player.state.copy()  # by the rules alone
        self._functions = functions_of(player.contract.abi)
        moves = self._with_least_gas((*world.moves, *moves))
        start = len(world.moves) if len(moves) > len(world.moves) else 0
        self.prelude = [line for position in range(start) for line in self._played(moves[position], position)]
        self.story = [
            line for position in range(start, len(moves) - 1) for line in self._played(moves[position], position)
        ]
        if moves:
            self.story += self._last(moves[-1], len(moves) - 1)
        self.story += self._compared()

    def _with_least_gas(self, moves: tuple[Move, ...]) -> tuple[Move, ...]:
        """The moves with the least gas in place of a certain one if it shows the same: it is the same in every EVM."""
        if all(move.gas in (None, LEAST) for move in moves):
            return moves
        least = tuple(move if move.gas is None else move._replace(gas=LEAST) for move in moves)
        found = first_difference(self._player, least, self._difference.cause)
        self._player.restart()
        return moves if found is None else least

    def told(self, text: str) -> str:
        """A sentence with names for addresses."""
        for party, address in self._player.arena.addresses.items():
            if address:
                text = re.sub(rf"\b({address}|0x{address:040x})\b", party, text, flags=re.IGNORECASE)
        return text

    # Moves

    def _played(self, move: Move, position: int) -> Iterator[str]:
        """A move before the last. One that fails changes nothing, and is left out."""
        state = self._state
        result = self._player.play(move, position)
        state.now = time_of(state, move.when)
        if move.function in PREPARATIONS:
            yield from self._prepared(move)
        elif result.executed and result.executed.ok and not result.undone:
            call = call_of(state, move)
            yield from self._lines_before(move, call)
            if not self._player.judges(call.function):
                yield self._attempt(call)
                return
            try:
                self._execute(call, result)
            except RefusedError:  # possible only by what a receiver did before, and must not have been able to do
                yield self._attempt(call)
            else:
                yield f"_succeeds({self._arguments(call)});"

    def _last(self, move: Move, position: int) -> Iterator[str]:
        """The last move, with its outcome by the rules."""
        state, kind = self._state, self._difference.kind
        if kind == STALE:
            name = self._difference.subject
            self._looks = {name: looks_of(self._player.state, call_of(state, move))[name]}
        result = self._player.play(move, position)
        state.now = time_of(state, move.when)
        if move.function in PREPARATIONS:
            yield from self._prepared(move)
            return
        call = call_of(state, move)
        yield from self._lines_before(move, call)
        if not self._player.judges(call.function):
            yield self._attempt(call)
            return
        for name, look in self._looks.items():
            yield f"vm.prank({name.upper()}S_SIGNER);"
            view = self._data(ExpectedView(*look, None))
            yield f'{name}.script(ScriptedReceiver.How.Accepts, 0, "", {view});'
        try:
            self._effects = self._execute(call, result)
        except RefusedError as refused:
            yield self._failure("_fails", self._arguments(call), refused.error, refused.arguments)
            return
        told = "bytes memory returned" if kind == "returned" else ""
        if move.gas not in (None, LEAST):
            yield f"(bool done, {told}) = _succeedsOrLacksGas({self._arguments(call)});".replace(", )", ",)")
            yield "if (!done) return;"
        else:
            yield f"{told and f'{told} = '}_succeeds({self._arguments(call)});"
        if told:
            returned = self._effects.returned
            data = '""' if returned is None else f"abi.encode({number(returned)})"
            yield f'vm.assertEq(returned, {data}, "{call.function} returns what it must not");'

    def _execute(self, call: ContractCall, result: MoveResult) -> Effects:
        """Carries a call out by the rules. Receivers called meanwhile what they could, but for what must fail."""
        effects = execute(self._state.copy(), call, self._reentries(result))
        wrong = {text.partition(" called ")[0] for text in effects.wrong_reentries}
        return execute(self._state, call, self._reentries(result) | {name: repeat(False) for name in wrong})

    def _reentries(self, result: MoveResult) -> dict[str, Iterator[bool | None]]:
        """Which calls of receivers succeeded.

        One that was not paid, and should have been, is taken to have called in vain: what it does takes so little gas
        that it would not run out of it.
        """
        assert result.executed is not None
        observed = self._player.arena.reentries(result.executed.logs)
        ready = [name for name, script in self._state.receivers.items() if script.how == "accepts"]
        return observed | {name: chain(observed.get(name, ()), repeat(False)) for name in ready}

    def _lines_before(self, move: Move, call: ContractCall) -> Iterator[str]:
        yield from ("", self._time(move))
        if move.by in PUPPETS and move.origin is not None:
            yield f"_signer = {self.writer.party(move.origin)};"
        if move.gas == LEAST:
            yield "_gas = LEAST;"
        elif move.gas is not None:
            data = self._player.arena.codec.call(call.function, call.args)
            spent = _TRANSACTION_GAS + sum(_BYTE_GAS if byte else _ZERO_BYTE_GAS for byte in data)
            yield f"_gas = {max(0, move.gas - spent):_};"

    def _prepared(self, move: Move) -> Iterator[str]:
        state, party = self._state, self.writer.party(move.by)
        yield from ("", self._time(move))
        if move.function == FORCE_ETHER:
            force_ether(state, move.by, move.args[0])
            yield f"_forceEther({party}, {number(move.args[0])});"
        elif move.function == SCRIPT:
            script = state.receivers[move.by] = script_of(state, move)
            nested = script.call
            arguments = '0, ""' if nested is None else f"{number(nested.value)}, {self._data(nested)}"
            yield f"vm.prank({move.by.upper()}S_SIGNER);"
            yield f'{move.by}.script(ScriptedReceiver.How.{_HOW[script.how]}, {arguments}, "");'
        elif move.function == SET_IDS:
            state.last_run_id, state.last_booking_id = move.args
            for name, (slot, bit), last in zip(
                ("run", "booking"), find_counters(self._contract), move.args, strict=True
            ):
                yield f"_setCounter({number(slot)}, {bit}, {number(last)}); // the last id of a {name}"

    def _time(self, move: Move) -> str:
        """Goes to the time of a move."""
        now, passed = self._state.now, self._state.now - self._told_time
        self._told_time = now
        if move.when.moment == "after":
            return f"_wait({duration(passed)});"
        return f"vm.warp({self.writer.time(now)});"

    def _attempt(self, call: ContractCall) -> str:
        """A call that this contract makes, as of a function that only it has. On a sound one it may fail."""
        return f"_tries({self._arguments(call)});"

    def _arguments(self, call: ContractCall) -> str:
        return f"{self.writer.party(call.sender)}, {number(call.value)}, {self._data(call)}"

    def _data(self, call: ContractCall | ExpectedView) -> str:
        if call.function in CALLS_OF_NOTHING:
            return f'hex"{CALLS_OF_NOTHING[call.function].hex()}"'
        item = self._functions[call.function]
        values = self.writer.values(item["inputs"], call.args)
        if isinstance(call, ContractCall) and not self._player.judges(call.function):
            return f"abi.encodeWithSignature({', '.join([_quoted(signature(item)), *values])})"
        return f"abi.encodeCall(stake.{call.function}, ({', '.join(values)}))"

    def _failure(self, how: str, call: str, error: str, arguments: Sequence[Any]) -> str:
        """A call that fails with an error; with whatever, if the contract does not have the error."""
        known = (*_BUILT_IN_ERRORS, *(item for item in self._contract.abi if item["type"] == "error"))
        item = next((item for item in known if item["name"] == error), None)
        if error == "NotPayable":
            data = '""'
        elif item is None:
            return f"{how}({call});"
        else:
            values = self.writer.values(item["inputs"], arguments)
            data = f"abi.encodeWithSignature({', '.join([_quoted(signature(item)), *values])})"
        return f"{how}With({call}, {data});"

    # What must come of them

    def _compared(self) -> Iterator[str]:
        """What the rules say about what the difference is in."""
        kind = self._difference.kind
        if kind == "events":
            yield from self._compared_events()
        elif kind == "reentered":
            for name in PUPPETS:
                if re.search(rf"\b{name} called ", self._difference.text):
                    yield f"_wasNotReenteredBy({self.writer.party(name)});"
        elif kind == STALE:
            for name, look in self._looks.items():
                yield f"_sawTheEnd({self.writer.party(name)}, {self._data(ExpectedView(*look, None))});"
        elif kind == "view":
            yield from self._compared_views()
        wrong = self._wrong_wallets()
        if kind == "wei" or wrong:
            yield from ("", "// What everybody has by the rules:")
            flow = self._state.wallet_flow
            for party in (name for name in PARTIES if name in flow or name in wrong):
                wei = flow.get(party, 0)
                due = "FUNDS" + (f" {'+' if wei > 0 else '-'} {number(abs(wei))}" if wei else "")
                yield f'vm.assertEq({self.writer.party(party)}.balance, {due}, "wei of {party}");'
            held = number(self._state.contract_balance)
            yield f'vm.assertEq(address(stake).balance, {held}, "wei of the contract");'

    def _wrong_wallets(self) -> list[str]:
        """Who has not what the rules say."""
        state, (balances, _) = self._state, self._player.arena.read(())
        due = [*(FUNDS + state.wallet_flow.get(party, 0) for party in PARTIES), state.contract_balance]
        return [party for party, has, must in zip((*PARTIES, CONTRACT), balances, due, strict=True) if has != must]

    def _compared_events(self) -> Iterator[str]:
        yield "Vm.Log[] memory logged = vm.getRecordedLogs();"
        yield from ("", "// What the rules say must be logged, in any order:")
        types = {item["name"]: item["inputs"] for item in self._contract.abi if item["type"] == "event"}
        for name, *values in self._effects.events:
            if name in types:
                inputs = [{"type": abi_type(each)} for each in types[name]]
                yield f"emit {name}({', '.join(self.writer.values(inputs, values))});"
        yield "_compare(logged, vm.getRecordedLogs());"

    def _compared_views(self) -> Iterator[str]:
        """The views that are wrong, a few of them."""
        name, codec = self._difference.function, self._player.arena.codec
        views = [view for view in expected_views(self._state, VIEWED, roles=True) if view.function == name]
        answers = self._player.arena.read([codec.call(view.function, view.args) for view in views])[1]
        wrong = [view for view, answer in zip(views, answers, strict=True) if answer != codec.answer(view)]
        yield from ("", "// What the contract must say:")
        for view in (wrong or views)[:_MOST_VIEWS]:
            if view.error is not None:
                yield self._failure("_viewFails", self._data(view), *view.error)
            else:
                results = self.writer.values(self._functions[name]["outputs"], view.results or ())
                yield f"_viewReturns({self._data(view)}, abi.encode({', '.join(results)}));"


def _quoted(text: str) -> str:
    return f'"{text}"'
