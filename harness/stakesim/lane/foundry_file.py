"""The file that a test for Foundry is: what the test itself needs around it, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from textwrap import indent, wrap

from stakesim.evm.abi import abi_type
from stakesim.evm.compiler import CONTRACTS, Artifact
from stakesim.lane.moves import FUNDS, PUPPETS, SIGNERS, deployer_of
from stakesim.lane.play import Difference, World
from stakesim.lane.solidity import Writer, number
from stakesim.scenario.base_action import PLATFORM

_WIDTH = 116
_INDENT = " " * 4
_LONGEST_PERIOD, _LEAST_TIMES = 4, 3
_PART = re.compile(r"""(?:"[^"]*"|[^",])+(?:,\s|,|$)""")
"""What a statement can be broken after: a comma that is in no string."""


def test_file(
    contract: Artifact,
    import_path: str,
    world: World,
    writer: Writer,
    prelude: Sequence[str],
    story: Sequence[str],
    difference: Difference,
) -> str:
    """Puts the file together.

    Args:
        contract: The contract.
        import_path: Where the test finds its source.
        world: The world that the story is told in.
        writer: What wrote the statements.
        prelude: Statements of what has happened before.
        story: Statements of the test.
        difference: What it is about.
    """
    played = "\n".join((*prelude, *story))
    puppets = [name for name in PUPPETS if re.search(rf"\b{name}\b", played)]
    always = {PLATFORM, deployer_of(contract)}
    parties = [name for name in SIGNERS if name in always or re.search(rf"\b{name.upper()}\b", played)]
    set_up = _function("setUp", [*_deployed(contract, world, writer, parties, puppets), *prelude])
    test = _function(re.sub(r"\W+", "_", f"test_{difference.function}_{difference.kind}"), story)
    code = f"{set_up}\n\n{test}"
    functions = "\n\n".join((code, *_helpers(code, writer, with_puppets=bool(puppets))))
    constants = "\n".join(_constants(contract, world, parties, puppets))
    events = "".join(f"{line}\n" for line in _events(contract, code))
    body = indent(f"{constants}\n{events}\n{functions}", _INDENT)
    imports = ", ".join(sorted({contract.name} | writer.scopes))
    parts = [
        f'{_HEAD}import {{{imports}}} from "{import_path}";',
        f"{_comment(difference.text)}\ncontract FindingTest {{\n{body}\n}}",
        _cheatcodes(body),
        *(_receiver() if puppets else ()),
    ]
    return "\n\n".join(parts) + "\n"


def _events(contract: Artifact, code: str) -> Iterator[str]:
    """Declares the events that must be logged."""
    for item in contract.abi:
        if item["type"] == "event" and f"emit {item['name']}(" in code:
            parameters = (
                f"{abi_type(each)}{' indexed' * each['indexed']} {each['name']}".strip() for each in item["inputs"]
            )
            yield f"event {item['name']}({', '.join(parameters)});"


def _cheatcodes(code: str) -> str:
    used = [line for line in _CHEATCODES if f"vm.{line.split()[1].partition('(')[0]}(" in code]
    log = [_LOG] if "Vm.Log" in code else []
    body = indent("\n".join([*log, *used]), _INDENT)
    return f"/// @notice What of forge's cheatcodes is used.\ninterface Vm {{\n{body}\n}}"


def _constants(contract: Artifact, world: World, parties: Sequence[str], puppets: Sequence[str]) -> Iterator[str]:
    yield 'Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));'
    yield f"uint256 private constant BEGIN = {world.time:_};{_date(world.time)}"
    yield f"uint256 private constant FUNDS = {number(FUNDS)};"
    for name in parties:
        yield f"address private constant {name.upper()} = address(0xA0000{SIGNERS.index(name)});"
    for name in puppets:
        yield f"address private constant {name.upper()}S_SIGNER = address(0xC0000{PUPPETS.index(name)});"
    yield ""
    yield f"{contract.name} private stake;"
    for name in puppets:
        yield f"ScriptedReceiver private {name};"
    if puppets:
        yield "mapping(address receiver => address) private _signerOf;"
        yield "address private _signer; // signs what a receiver calls next, if it is not the usual signer"


def _date(time: int) -> str:
    """A time as a comment; none beyond the years that people write."""
    return f" // {datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC" if time < 2**37 else ""


def _deployed(
    contract: Artifact, world: World, writer: Writer, parties: Sequence[str], puppets: Sequence[str]
) -> Iterator[str]:
    inputs = [each for item in contract.abi if item["type"] == "constructor" for each in item["inputs"]]
    arguments = writer.values(inputs, (PLATFORM, world.terms.as_struct())[: len(inputs)])
    yield "vm.warp(BEGIN);"
    for name in parties:
        yield f"vm.deal({name.upper()}, FUNDS);"
    yield f"vm.prank({deployer_of(contract).upper()});"
    yield f"stake = new {contract.name}({', '.join(arguments)});"
    for name in puppets:
        yield f"vm.prank({name.upper()}S_SIGNER);"
        yield f"{name} = new ScriptedReceiver(address(stake));"
        yield f"vm.deal(address({name}), FUNDS);"
        yield f"_signerOf[address({name})] = {name.upper()}S_SIGNER;"
    if world.moves:
        yield from ("", f"// What has happened before: {world.name}")


def _function(name: str, statements: Sequence[str]) -> str:
    lines = [line for statement in _folded(statements) for line in _wrapped(statement)]
    while lines and not lines[0]:
        lines.pop(0)
    body = indent("\n".join(lines), _INDENT)
    return f"function {name}() public {{\n{body}\n}}"


def _folded(statements: Sequence[str]) -> Iterator[str]:
    """The statements, with a loop for those that are repeated. A group of them begins with an empty one."""
    starts = [0, *(at for at, line in enumerate(statements) if not line and at), len(statements)]
    groups = [tuple(statements[start:end]) for start, end in pairwise(starts)]
    while groups:
        period, times = max(
            ((period, _repeated(groups, period)) for period in range(1, _LONGEST_PERIOD + 1)),
            key=lambda found: (found[0] * found[1] if found[1] >= _LEAST_TIMES else 0, -found[0]),
        )
        if times < _LEAST_TIMES:
            yield from groups.pop(0)
            continue
        yield from ("", f"for (uint256 i; i < {times}; ++i) {{")
        body = [line for group in groups[:period] for line in group]
        yield from (f"{_INDENT}{line}" if line else "" for line in body[1:])
        yield "}"
        del groups[: period * times]


def _repeated(groups: Sequence[tuple[str, ...]], period: int) -> int:
    """How often the first groups follow each other."""
    times = 1
    while groups[:period] == groups[times * period : (times + 1) * period]:
        times += 1
    return times


def _wrapped(statement: str) -> list[str]:
    """A statement in lines that are not too long, where that can be."""
    lines, width = [""], _WIDTH - 2 * len(_INDENT)
    for part in _PART.findall(statement):
        if len(lines[-1]) + len(part.rstrip()) > width:
            lines.append(_INDENT)
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _comment(text: str) -> str:
    plain = text.encode("ascii", "backslashreplace").decode().replace("\n", "\\n")
    return "\n".join(wrap(plain, _WIDTH, initial_indent="// ", subsequent_indent="// "))


def _helpers(code: str, writer: Writer, *, with_puppets: bool) -> Iterator[str]:
    """The functions that the test calls, and those that these call."""
    helpers = dict(_HELPERS)
    if re.search(r"\b_gas\b", code):
        helpers["_call"] = _CALL_WITH_GAS
    helpers["_send"] = _SEND_BY_CONTRACTS if with_puppets else _SEND
    needed: dict[str, str] = {}
    while more := {name: text for name, text in helpers.items() if name not in needed and f"{name}(" in code}:
        needed |= more
        code = "\n".join(more.values())
    yield from needed.values()
    for length in sorted(writer.lengths):
        yield _IDS.replace("LENGTH", str(length))


def _receiver() -> tuple[str, str]:
    """The source of the contract that does with ether what it was last told to, and of its base."""
    base = (CONTRACTS / "support" / "ControlledAccount.sol").read_text()
    receivers = (CONTRACTS / "adversaries" / "Receivers.sol").read_text()
    return _source(base, "ControlledAccount"), _source(receivers, "ScriptedReceiver")


def _source(file: str, name: str) -> str:
    found = re.search(rf"(?:^///[^\n]*\n)*^(?:abstract )?contract {name}\b.*?^}}\n", file, re.MULTILINE | re.DOTALL)
    assert found, f"there is no {name}"
    return found[0].rstrip()


_HEAD = """\
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

"""
_LOG = """\
struct Log {
    bytes32[] topics;
    bytes data;
    address emitter;
}
"""
_CHEATCODES = (
    "function warp(uint256 time) external;",
    "function getBlockTimestamp() external returns (uint256);",
    "function deal(address account, uint256 balance) external;",
    "function prank(address sender) external;",
    "function prank(address sender, address origin) external;",
    "function load(address account, bytes32 slot) external returns (bytes32);",
    "function store(address account, bytes32 slot, bytes32 value) external;",
    "function recordLogs() external;",
    "function getRecordedLogs() external returns (Log[] memory);",
    "function snapshotState() external returns (uint256);",
    "function revertToState(uint256 mark) external returns (bool);",
    "function toString(bytes calldata data) external returns (string memory);",
    "function toString(uint256 value) external returns (string memory);",
    "function assertEq(uint256 left, uint256 right, string calldata reason) external;",
    "function assertEq(bytes calldata left, bytes calldata right, string calldata reason) external;",
)
_HELPERS = {
    "_wait": """\
function _wait(uint256 duration) private {
    vm.warp(vm.getBlockTimestamp() + duration);
}""",
    "_succeeds": """\
function _succeeds(address by, uint256 value, bytes memory data) private returns (bytes memory returned) {
    bool done;
    (done, returned) = _call(by, value, data);
    require(done, string.concat("a call that must succeed fails with ", vm.toString(returned)));
}""",
    "_succeedsOrLacksGas": """\
/// @dev With little gas a call may fail, if it says so.
function _succeedsOrLacksGas(address by, uint256 value, bytes memory data)
    private
    returns (bool done, bytes memory returned)
{
    (done, returned) = _call(by, value, data);
    bool lacksGas = returned.length == 0 || bytes4(returned) == bytes4(keccak256("InsufficientGas()"));
    require(done || lacksGas, string.concat("a call that must succeed fails with ", vm.toString(returned)));
}""",
    "_tries": """\
/// @dev A call that a sound contract may refuse, as of a function that it does not have.
function _tries(address by, uint256 value, bytes memory data) private {
    _call(by, value, data);
}""",
    "_fails": """\
function _fails(address by, uint256 value, bytes memory data) private {
    (bool done,) = _call(by, value, data);
    require(!done, "a call that must fail succeeds");
}""",
    "_failsWith": """\
function _failsWith(address by, uint256 value, bytes memory data, bytes memory expected) private {
    (bool done, bytes memory returned) = _call(by, value, data);
    require(!done, "a call that must fail succeeds");
    vm.assertEq(returned, expected, "a call fails with another error than it must");
}""",
    "_viewReturns": """\
function _viewReturns(bytes memory data, bytes memory expected) private {
    (bool done, bytes memory returned) = address(stake).staticcall(data);
    require(done, string.concat("a view that must succeed fails with ", vm.toString(returned)));
    vm.assertEq(returned, expected, "a view returns what it must not");
}""",
    "_viewFails": """\
function _viewFails(bytes memory data) private {
    (bool done,) = address(stake).staticcall(data);
    require(!done, "a view that must fail succeeds");
}""",
    "_viewFailsWith": """\
function _viewFailsWith(bytes memory data, bytes memory expected) private {
    (bool done, bytes memory returned) = address(stake).staticcall(data);
    require(!done, "a view that must fail succeeds");
    vm.assertEq(returned, expected, "a view fails with another error than it must");
}""",
    "_wasNotReenteredBy": """\
/// @dev None of the calls that the receiver made while it was paid succeeded.
function _wasNotReenteredBy(address receiver) private {
    Vm.Log[] memory logged = vm.getRecordedLogs();
    for (uint256 i; i < logged.length; ++i) {
        if (logged[i].emitter != receiver) continue;
        require(!abi.decode(logged[i].data, (bool)), "a call that a receiver made while it was paid succeeds");
    }
}""",
    "_sawTheEnd": """\
/// @dev What the receiver saw while it was paid is what there is after it. What is owed grows by what is refused.
function _sawTheEnd(address receiver, bytes memory look) private {
    Vm.Log[] memory logged = vm.getRecordedLogs();
    (, bytes memory end) = address(stake).staticcall(look);
    bool refused;
    for (uint256 i; i < logged.length; ++i) {
        if (logged[i].topics[0] == keccak256("PaymentDeferred(address,uint256)")) refused = true;
    }
    for (uint256 i; i < logged.length; ++i) {
        if (logged[i].emitter != receiver) continue;
        (bytes32 hash, uint256 fees, uint256 owed) = abi.decode(logged[i].data, (bytes32, uint256, uint256));
        require(hash == keccak256(end), "a receiver sees the state before it is paid");
        require(fees == stake.platformBalance(), "a receiver sees the fees before it is paid");
        require(refused || owed == stake.totalLiabilities(), "a receiver sees what was owed before it is paid");
    }
}""",
    "_compare": """\
/// @dev The contract logged exactly the expected events, in whatever order.
function _compare(Vm.Log[] memory logged, Vm.Log[] memory expected) private {
    for (uint256 i; i < expected.length; ++i) {
        bool found;
        for (uint256 j; j < logged.length && !found; ++j) {
            found = logged[j].emitter == address(stake) && _hash(logged[j]) == _hash(expected[i]);
            if (found) logged[j].emitter = address(0);
        }
        require(found, string.concat("event ", vm.toString(i + 1), " of those that must be logged is missing"));
    }
    for (uint256 j; j < logged.length; ++j) {
        require(logged[j].emitter != address(stake), "an event is logged that must not be");
    }
}""",
    "_hash": """\
function _hash(Vm.Log memory log) private pure returns (bytes32) {
    return keccak256(abi.encode(log.topics, log.data));
}""",
    "_forceEther": """\
function _forceEther(address by, uint256 amount) private {
    vm.deal(by, by.balance - amount);
    vm.deal(address(stake), address(stake).balance + amount);
}""",
    "_setCounter": """\
/// @dev Sets 32 bits of the contract's storage.
function _setCounter(uint256 slot, uint256 lowestBit, uint256 last) private {
    uint256 kept = uint256(vm.load(address(stake), bytes32(slot))) & ~(uint256(type(uint32).max) << lowestBit);
    vm.store(address(stake), bytes32(slot), bytes32(kept | last << lowestBit));
}""",
    "_range": """\
function _range(uint256 first, uint256 last) private pure returns (uint256[] memory ids) {
    ids = new uint256[](last - first + 1);
    for (uint256 i; i < ids.length; ++i) ids[i] = first + i;
}""",
    "_call": """\
function _call(address by, uint256 value, bytes memory data) private returns (bool, bytes memory) {
    vm.recordLogs();
    return _send(by, value, data, GAS);
}""",
    "_leastGas": """\
/// @dev The least gas with which a call succeeds; all gas if it fails with that.
function _leastGas(address by, uint256 value, bytes memory data) private returns (uint256 high) {
    uint256 low;
    high = GAS;
    while (high - low > 1) {
        uint256 gas_ = high == GAS ? GAS - 1 : (low + high) / 2;
        uint256 mark = vm.snapshotState();
        (bool done,) = _send(by, value, data, gas_);
        vm.revertToState(mark);
        if (done) high = gas_;
        else if (high == GAS) return GAS;
        else low = gas_;
    }
}""",
}
_CALL_WITH_GAS = """\
/// @dev Gas of the next call.
uint256 private _gas = GAS;
uint256 private constant LEAST = type(uint256).max;

function _call(address by, uint256 value, bytes memory data) private returns (bool done, bytes memory returned) {
    uint256 gas_ = _gas == LEAST ? _leastGas(by, value, data) : _gas;
    vm.recordLogs();
    (done, returned) = _send(by, value, data, gas_);
    _gas = GAS;
}"""
_SEND = """\
uint256 private constant GAS = 16_777_216;

function _send(address by, uint256 value, bytes memory data, uint256 gas_) private returns (bool, bytes memory) {
    vm.prank(by, by);
    return address(stake).call{value: value, gas: gas_}(data);
}"""
_SEND_BY_CONTRACTS = """\
uint256 private constant GAS = 16_777_216;

function _send(address by, uint256 value, bytes memory data, uint256 gas_)
    private
    returns (bool done, bytes memory returned)
{
    address signer = _signerOf[by];
    if (signer == address(0)) {
        vm.prank(by, by);
        return address(stake).call{value: value, gas: gas_}(data);
    }
    if (_signer != address(0)) (signer, _signer) = (_signer, address(0));
    vm.prank(signer, signer);
    (done, returned) = by.call{gas: gas_}(abi.encodeCall(ScriptedReceiver.act, (address(stake), value, data)));
    if (done) returned = abi.decode(returned, (bytes));
}"""
_IDS = """\
function _ids(uint256[LENGTH] memory few) private pure returns (uint256[] memory ids) {
    ids = new uint256[](LENGTH);
    for (uint256 i; i < LENGTH; ++i) ids[i] = few[i];
}"""
