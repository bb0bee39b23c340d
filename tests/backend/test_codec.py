"""Calls, results, events and reverts, encoded and decoded by an ABI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from app.core.errors import InvalidRequest, UnsupportedByContract
from app.services import codec as codec_module
from app.services.codec import DECODING_ERRORS, Codec, Event, revert_data
from app.services.rpc_types import Log
from eth_abi.abi import decode, encode
from eth_abi.exceptions import EncodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import example, given
from hypothesis import strategies as st
from web3.exceptions import ContractLogicError

US, THEM, LOWER = "0x00000000000000000000000000000000000000Aa", "0x" + "11" * 20, "0x" + "ab" * 20
CHECKSUMMED = "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB"
WORD = b"\x07" * 32


def field(name: str, kind: str, indexed: bool = False, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "indexed": indexed, **more}


PAIR = [field("count", "uint256"), field("owner", "address")]
CODEC = Codec(
    [
        {"type": "constructor", "inputs": []},
        {
            "type": "function",
            "name": "put",
            "inputs": [field("pairs", "tuple[]", components=PAIR), field("to", "address")],
            "outputs": [field("", "address"), field("", "uint256")],
        },
        {"type": "function", "name": "nothing", "inputs": [], "outputs": []},
        {"type": "error", "name": "TooMany", "inputs": [field("asked", "uint256"), field("by", "address")]},
        {"type": "error", "name": "Closed", "inputs": []},
        {
            "type": "event",
            "name": "TokenPut",
            "inputs": [
                field("tokenId", "uint256", True),
                field("newOwner", "address", True),
                field("tagOfIt", "bytes32", True),
                field("amountPaid", "uint256"),
                field("paidTo", "address"),
            ],
        },
        {"type": "event", "name": "Reset", "inputs": []},
    ]
)


def selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


def log(signature: str, topics: list[bytes], data: bytes = b"", address: str = US) -> Log:
    return Log(address, (keccak(text=signature), *topics), data, 1, "0x" + "0b" * 32, "0x" + "0a" * 32)


def address_topic(address: str) -> bytes:
    return bytes.fromhex(address[2:]).rjust(32, b"\0")


PUT = "TokenPut(uint256,address,bytes32,uint256,address)"
TOPICS = [(5).to_bytes(32, "big"), address_topic(LOWER), WORD]
DATA = encode(["uint256", "address"], [2**255, LOWER])


def test_a_call_has_the_functions_selector_and_its_arguments() -> None:
    call = CODEC.call(US, "put", [(1, LOWER)], LOWER, value=9)  # type: ignore[arg-type]
    data = selector("put((uint256,address)[],address)") + encode(
        ["(uint256,address)[]", "address"], [[(1, LOWER)], LOWER]
    )
    assert (call.to, call.name, call.data, call.value) == (US, "put", data, 9)
    assert CODEC.call(US, "nothing").data == selector("nothing()")  # type: ignore[arg-type]
    assert CODEC.call(US, "nothing").value == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("args", [([], "nobody"), ([(-1, LOWER)], LOWER), ([(2**256, LOWER)], LOWER)])
def test_arguments_that_do_not_fit_are_refused(args: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidRequest, match=r"^put can't be called with these arguments: \w+"):
        CODEC.call(US, "put", *args)  # type: ignore[arg-type]


def test_a_result_of_another_type_means_another_contract() -> None:
    assert CODEC.result("put", encode(["address", "uint256"], [LOWER, 3])) == (CHECKSUMMED, 3)
    for data in (b"", b"\1" * 31):
        with pytest.raises(UnsupportedByContract, match=r"^The contract has no put, or another one\.$"):
            CODEC.result("put", data)


def test_only_known_events_of_the_contract_are_decoded_in_order() -> None:
    token_put_args = {
        "token_id": 5,
        "new_owner": CHECKSUMMED,
        "tag_of_it": WORD,
        "amount_paid": 2**255,
        "paid_to": CHECKSUMMED,
    }
    logs = [
        log("Reset()", []),
        log("Unknown()", []),
        log(PUT, TOPICS, DATA, THEM),
        log("Reset()", [])._replace(topics=()),
        log(PUT, TOPICS[:2], DATA),
        log(PUT, TOPICS, DATA),
    ]
    assert CODEC.events(logs, US) == [Event("Reset", {}), Event("TokenPut", token_put_args)]


@pytest.mark.parametrize(
    ("data", "name", "args", "reason"),
    [
        (selector("Closed()"), "Closed", (), "Closed"),
        (
            selector("TooMany(uint256,address)") + encode(["uint256", "address"], [7, LOWER]),
            "TooMany",
            (7, CHECKSUMMED),
            f"TooMany (asked 7, by {CHECKSUMMED})",
        ),
        (selector("Error(string)") + encode(["string"], ["so it is"]), "Error", ("so it is",), "so it is"),
        (
            selector("Panic(uint256)") + encode(["uint256"], [0x11]),
            "Panic",
            (0x11,),
            "panic 0x11, arithmetic overflow or underflow",
        ),
        (selector("Panic(uint256)") + encode(["uint256"], [0x99]), "Panic", (0x99,), "panic 0x99, of an unknown kind"),
        (b"", "Unknown", ("0x",), "no reason given"),
        (b"\1\2\3\4\5", "Unknown", ("0x0102030405",), "unknown error 0x0102030405"),
        (
            selector("Panic(uint256)") + b"\1",
            "Unknown",
            ("0x" + selector("Panic(uint256)").hex() + "01",),
            "unknown error 0x" + selector("Panic(uint256)").hex() + "01",
        ),
    ],
)
def test_a_revert_has_name_arguments_and_reason(data: bytes, name: str, args: tuple[Any, ...], reason: str) -> None:
    assert tuple(CODEC.revert(data)) == (name, args, reason)


def test_a_revert_string_that_is_not_utf_8_is_decoded_with_replacements() -> None:
    data = selector("Error(string)") + encode(["bytes"], [b"\xff\xfe"])
    assert CODEC.revert(data) == ("Error", ("\ufffd\ufffd",), "\ufffd\ufffd")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0x01, "an assertion failed"),
        (0x11, "arithmetic overflow or underflow"),
        (0x12, "division by zero"),
        (0x21, "no such value of an enum"),
        (0x22, "badly encoded storage"),
        (0x31, "pop of an empty array"),
        (0x32, "array index out of bounds"),
        (0x41, "out of memory"),
        (0x51, "call of an uninitialised function"),
        (0x99, "of an unknown kind"),
    ],
)
def test_each_panic_of_solidity_has_a_reason(code: int, reason: str) -> None:
    data = selector("Panic(uint256)") + code.to_bytes(32, "big")
    assert CODEC.revert(data) == ("Panic", (code,), f"panic 0x{code:02x}, {reason}")


@pytest.mark.parametrize(
    ("error_data", "revert"),
    [
        ({"data": "0x0a"}, b"\x0a"),
        ({"result": "0x0a"}, b"\x0a"),
        ({"data": {"result": "Reverted 0x0a"}}, b"\x0a"),
        ({"0xabc": {"return": {"data": "0x0a"}}, "message": "no"}, b"\x0a"),
        ({"message": "no"}, b""),
        ("  0x0a ", b"\x0a"),
        ("0a", b""),
        (None, b""),
    ],
)
def test_nested_revert_data_is_found(error_data: Any, revert: bytes) -> None:
    assert revert_data(ContractLogicError("execution reverted", data=error_data)) == revert


def outcome(run: Callable[[], Any]) -> Any:
    """What a call returns, or `None` if it refuses."""
    try:
        return run()
    except (InvalidRequest, UnsupportedByContract, EncodingError, OverflowError, *DECODING_ERRORS):
        return None


def one_function(types: Sequence[str]) -> Codec:
    fields = [field("", kind) for kind in types]
    return Codec([{"type": "function", "name": "f", "inputs": fields, "outputs": fields}])


TYPES = st.sampled_from(["uint256", "address", "bool", "uint8", "bytes32", "string"])
WRONG_CHECKSUM = "0x" + CHECKSUMMED[2:].swapcase()
ADDRESSES = [LOWER, CHECKSUMMED, WRONG_CHECKSUM, "0x" + CHECKSUMMED[2:].upper(), LOWER[2:], "0x1", ""]
VALUES = st.integers(-1, 2**256) | st.booleans() | st.sampled_from(ADDRESSES) | st.binary(max_size=33) | st.none()
WORDS = st.binary(min_size=32, max_size=32) | st.binary(min_size=20, max_size=20).map(lambda b: b.rjust(32, b"\0"))


@given(st.lists(st.tuples(TYPES, VALUES), max_size=4))
@example([("address", WRONG_CHECKSUM)])
@example([("uint256", True)])
@example([("uint256", -1)])
@example([("uint256", 2**256)])
def test_values_are_encoded_and_refused_as_by_eth_abi(items: list[tuple[str, Any]]) -> None:
    types, values = [kind for kind, _ in items], [value for _, value in items]
    call = outcome(lambda: one_function(types).call(US, "f", *values))  # type: ignore[arg-type]
    assert (call and call.data[4:]) == outcome(lambda: encode(types, values))


@given(st.lists(st.tuples(TYPES.filter(lambda kind: kind != "string"), WORDS), max_size=4), st.integers(-1, 1))
@example([("address", WORD)], 0)
@example([("bool", WORD)], 0)
def test_words_are_decoded_and_refused_as_by_eth_abi(items: list[tuple[str, bytes]], more: int) -> None:
    types, data = [kind for kind, _ in items], b"".join(word for _, word in items)
    data = data[:more] if more < 0 else data + bytes(more)
    expected = outcome(lambda: decode(types, data))
    if expected is not None:
        pairs = zip(types, expected, strict=True)
        expected = tuple(to_checksum_address(value) if kind == "address" else value for kind, value in pairs)
    assert outcome(lambda: one_function(types).result("f", data)) == expected


def test_numbers_and_addresses_are_written_and_read_without_eth_abi(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of all data, word by word: a view takes a fifteenth of the time that it takes with web3's contracts."""

    def never(*_: Any) -> Any:
        raise AssertionError("eth_abi is not needed for this")

    monkeypatch.setattr(codec_module, "encode", never)
    monkeypatch.setattr(codec_module, "_decode", never)
    types, values = ["uint256", "address", "uint256"], (1, CHECKSUMMED, 2**256 - 1)
    codec = one_function(types)
    for address in (LOWER, CHECKSUMMED):
        data = codec.call(US, "f", 1, address, 2**256 - 1).data  # type: ignore[arg-type]
        assert codec.result("f", data[4:]) == values
    assert one_function([]).result("f", one_function([]).call(US, "f").data[4:]) == ()  # type: ignore[arg-type]
    inputs = [field(f"n{number}", kind, number < 2) for number, kind in enumerate(types)]
    events = Codec([{"type": "event", "name": "Moved", "inputs": inputs}])
    words = [codec.call(US, "f", *values).data[4:][at : at + 32] for at in (0, 32, 64)]  # type: ignore[arg-type]
    moved = log("Moved(uint256,address,uint256)", words[:2], words[2])
    assert events.events([moved], US) == [Event("Moved", dict(zip(("n0", "n1", "n2"), values, strict=True)))]  # type: ignore[arg-type]
