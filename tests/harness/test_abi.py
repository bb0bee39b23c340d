"""The library's ABI encoding and event decoding agree with the backend's, which it shares no code with; and a fault in
the backend's own is found."""

import json
from contextlib import closing

import pytest
from app.services import codec as backend_codec
from app.services.codec import Codec
from app.services.rpc_types import Log as BackendLog
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from stakesim.evm.abi import ContractAbi, Log, _to_python, abi_type, checksummed, signature
from stakesim.evm.abi_words import Decoder, encode_words
from stakesim.evm.compiler import compile_contracts
from stakesim.evm.errors import AbiError
from stakesim.paths import checkout
from stakesim.runner.environment import open_environment
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import load

FULL = compile_contracts()["EventStake"].abi
DEPLOYED = json.loads((checkout() / "contracts" / "abi" / "deployed.json").read_text())
ABIS = pytest.mark.parametrize("abi", [FULL, DEPLOYED], ids=["EventStake", "deployed"])
ADDRESS = "0x" + "5A" * 20


def values(item) -> st.SearchStrategy:
    """Values of one parameter, as eth-abi takes them."""
    kind = item["type"]
    if kind.endswith("[]"):
        return st.lists(values({**item, "type": kind[:-2]}), max_size=4)
    if kind == "tuple":
        return st.tuples(*map(values, item["components"]))
    if kind.startswith("uint"):
        return st.integers(0, 2 ** int(kind[4:]) - 1)
    return {
        "address": st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
        "string": st.text(max_size=40),
        "bool": st.booleans(),
    }[kind]


def arguments(items) -> st.SearchStrategy:
    return st.tuples(*map(values, items))


def of_kind(abi, kind):
    return [item for item in abi if item["type"] == kind]


def plain(value):
    """Lists as tuples: eth-abi gives the one, we take the other."""
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


@pytest.mark.slow
@ABIS
@given(data=st.data())
def test_calls_are_encoded_as_by_the_backend(abi, data):
    function = data.draw(st.sampled_from(of_kind(abi, "function")))
    args = data.draw(arguments(function["inputs"]))
    ours, theirs = ContractAbi(abi), Codec(abi)
    assert ours.encode(function["name"], *args) == theirs.call(ADDRESS, function["name"], *args).data


@pytest.mark.slow
@ABIS
@given(data=st.data())
def test_return_values_are_decoded_as_by_the_backend(abi, data):
    function = data.draw(st.sampled_from(of_kind(abi, "function")))
    returned = encode([abi_type(o) for o in function["outputs"]], data.draw(arguments(function["outputs"])))
    ours, theirs = ContractAbi(abi), Codec(abi)
    assert plain(ours.decode(function["name"], returned)) == plain(theirs.result(function["name"], returned))


@pytest.mark.slow
@ABIS
@given(data=st.data())
def test_events_are_decoded_as_by_the_backend(abi, data):
    event = data.draw(st.sampled_from(of_kind(abi, "event")))
    indexed = [i for i in event["inputs"] if i["indexed"]]
    other = [i for i in event["inputs"] if not i["indexed"]]
    topics = [encode([i["type"]], [data.draw(values(i))]) for i in indexed]
    topics.insert(0, keccak(text=signature(event)))
    raw = encode([abi_type(i) for i in other], data.draw(arguments(other)))
    ours = ContractAbi(abi).events([Log(ADDRESS, topics, raw)], ADDRESS)
    log = BackendLog(ADDRESS, tuple(topics), raw, 1, "0x" + "0b" * 32, "0x" + "0a" * 32)
    theirs = Codec(abi).events([log], ADDRESS)
    assert [(e.name, e.args) for e in ours] == [(e.name, e.args) for e in theirs]
    assert len(ours) == 1
    assert ContractAbi(abi).events([Log("0x" + "11" * 20, topics, raw)], ADDRESS) == []


@pytest.mark.slow
@ABIS
@given(data=st.data())
def test_reverts_are_explained_as_by_the_backend(abi, data):
    string = {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]}
    panic = {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]}
    error = data.draw(st.sampled_from([*of_kind(abi, "error"), string, panic]))
    raw = keccak(text=signature(error))[:4]
    raw += encode([abi_type(i) for i in error["inputs"]], data.draw(arguments(error["inputs"])))
    raw = raw[: data.draw(st.sampled_from([len(raw), 0, 3, 4, len(raw) - 1]))]
    ours, theirs = ContractAbi(abi).revert_reason(raw), Codec(abi).revert(raw)
    # the backend stores what it decodes, and its columns can't hold NUL
    args = tuple(arg.replace("\0", "\ufffd") if isinstance(arg, str) else arg for arg in ours.args)
    assert (ours.name, args) == (theirs.name, theirs.args)


@pytest.mark.parametrize(
    ("word", "text"),
    [("Too late", "Too late"), ("\x1b[2J\x01", r"'\x1b[2J\x01'"), ("a\nb", r"'a\nb'"), ("zu spät", "zu spät")],
)
def test_words_of_a_contract_bring_no_control_characters(word, text):
    """They are shown in terminals, which obey escape sequences, and in XML, which has no way to write most of them."""
    named = {"type": "error", "name": "Refused", "inputs": [{"name": "why", "type": "string"}]}
    abi, data = ContractAbi([named]), encode(["string"], [word])
    for signature_, expected in ("Error(string)", text), ("Refused(string)", f"Refused (why {text})"):
        reason = abi.revert_reason(keccak(text=signature_)[:4] + data)
        assert (reason.args, reason.text) == ((word,), expected)


def test_string_that_is_not_utf_8_is_decoded():
    """Spec section 7: what comes from the chain is somebody else's input."""
    run = (1, ADDRESS, b"\xff\xfe", 1, 1, 0, 1, 1, 1, False, 1)
    kinds = "(uint256,address,bytes,uint256,uint256,uint256,uint256,uint256,uint8,bool,uint256)"
    assert ContractAbi(FULL).decode("getEventRun", encode([kinds], [run]))[0][2] == "\ufffd\ufffd"


def test_indexed_value_longer_than_a_word_is_its_hash():
    """Solidity's documentation, "Indexed event parameters"; logs of a contract written elsewhere may have them."""
    name = {"name": "theName", "type": "string", "indexed": True}
    pair = {"name": "pair", "type": "tuple", "indexed": True, "components": [{"name": "a", "type": "uint256"}]}
    event = {"type": "event", "name": "Named", "inputs": [name, pair]}
    topics = [keccak(text="Named(string,(uint256))"), keccak(text="x"), keccak(bytes(32))]
    (found,) = ContractAbi([event]).events([Log(ADDRESS, topics, b"")], ADDRESS)
    assert found.args == {"the_name": topics[1], "pair": topics[2]}


def test_undescribed_calls_and_data_are_abi_errors():
    abi = ContractAbi(DEPLOYED)
    with pytest.raises(AbiError, match="has no function cancelBooking"):
        abi.encode("cancelBooking", 1)
    with pytest.raises(AbiError, match="bookEvent can't be called with"):
        abi.encode("bookEvent", -1, 2)
    with pytest.raises(AbiError, match="getEventRun returned 64 bytes that its ABI does not describe"):
        abi.decode("getEventRun", bytes(64))


def test_flat_values_are_not_decoded_as_a_struct():
    """What the deployed contract does not return, and an earlier reader expected."""
    flat = ["uint256", "address", "string", *["uint256"] * 5, "uint8", "bool", "uint256"]
    returned = encode(flat, [1, ADDRESS, "x", 1, 1, 0, 1, 1, 1, False, 1])
    with pytest.raises(AbiError):
        ContractAbi(FULL).decode("getEventRun", returned)


@pytest.mark.slow
def test_fault_in_the_backends_encoding_is_found(monkeypatch, engine_name):
    """It cuts strings to 31 bytes. A library that encodes and decodes with the backend's code sees nothing of it."""
    real = backend_codec.encode

    def cut(types, args):
        return real(types, [arg[:31] if isinstance(arg, str) and not arg.startswith("0x") else arg for arg in args])

    scenario = load(checkout() / "scenarios" / "everybody-comes.yaml")
    with closing(open_environment(engine_name, driver="services")) as environment:
        assert run_scenario(environment, scenario).findings == []
        monkeypatch.setattr(backend_codec, "encode", cut)
        messages = [finding.message for finding in run_scenario(environment, scenario).findings]
    assert any("is of experience" in message for message in messages), messages


# ------------------------------------------------------------------------- word by word, with eth-abi as the judge

WORDS = st.sampled_from(["uint256", "uint8", "uint96", "address", "bool", "bytes32"])
STATIC = st.recursive(WORDS, lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple), max_leaves=4)
SHAPES = st.recursive(
    STATIC | st.just("string") | STATIC.map(lambda element: [element]),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple),
    max_leaves=6,
)


def type_of(shape) -> str:
    """The ABI type of a shape, with `bytes` for `string` as the codec decodes it."""
    match shape:
        case tuple():
            return f"({','.join(map(type_of, shape))})"
        case [element]:
            return type_of(element) + "[]"
    return "bytes" if shape == "string" else shape


def of_shape(shape) -> st.SearchStrategy:
    match shape:
        case tuple():
            return st.tuples(*map(of_shape, shape))
        case [element]:
            return st.lists(of_shape(element), max_size=3)
        case "string":
            return st.binary(max_size=70)
        case "bytes32":
            return st.binary(min_size=32, max_size=32)
    return values({"type": shape})


def judged(shapes, data):
    """What eth-abi makes of data; None if it refuses them."""
    try:
        decoded = decode([type_of(shape) for shape in shapes], data)
    except (DecodingError, OverflowError):
        return None
    return tuple(_to_python(shape, value) for shape, value in zip(shapes, decoded, strict=True))


@pytest.mark.slow
@given(data=st.data(), shapes=st.lists(SHAPES, min_size=1, max_size=4))
def test_what_an_encoder_writes_is_decoded_word_by_word(data, shapes):
    encoded = encode([type_of(shape) for shape in shapes], data.draw(st.tuples(*map(of_shape, shapes))))
    found = Decoder(shapes, checksummed).decode(encoded)
    assert found is not None
    assert found == judged(shapes, encoded)


@pytest.mark.slow
@given(data=st.data(), shapes=st.lists(SHAPES, min_size=1, max_size=4))
def test_changed_data_are_decoded_alike_or_left_to_eth_abi(data, shapes):
    """Cut off, longer, or with another byte or word: what is decoded is what eth-abi decodes."""
    encoded = encode([type_of(shape) for shape in shapes], data.draw(st.tuples(*map(of_shape, shapes))))
    at = data.draw(st.integers(0, len(encoded) - 1))
    word = at // 32 * 32
    changed = data.draw(
        st.sampled_from(
            [
                encoded[:at],
                encoded + b"\0" * 32,
                encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :],
                encoded[:word] + data.draw(st.integers(0, 2**256 - 1)).to_bytes(32, "big") + encoded[word + 32 :],
                encoded[:word] + data.draw(st.integers(0, 200)).to_bytes(32, "big") + encoded[word + 32 :],
            ]
        )
    )
    found = Decoder(shapes, checksummed).decode(changed)
    assert found is None or found == judged(shapes, changed)


@pytest.mark.parametrize("shape", ["int256", "bytes", "function", [["uint256"]], ["string"]])
def test_other_types_are_left_to_eth_abi(shape):
    assert Decoder([shape], checksummed).decode(bytes(64)) is None


def test_arrays_of_a_fixed_length_have_no_length_in_their_data():
    outputs = [{"name": "", "type": "uint256[2]"}]
    abi = ContractAbi([{"type": "function", "name": "pair", "inputs": [], "outputs": outputs}])
    assert abi.decode("pair", encode(["uint256[2]"], [[0, 0]])) == ((0, 0),)
    assert abi.decode("pair", encode(["uint256[2]"], [[32, 0]])) == ((32, 0),)


@given(data=st.data(), types=st.lists(st.sampled_from(["uint256", "address"]), max_size=4))
def test_numbers_and_addresses_are_encoded_as_by_eth_abi(data, types):
    given_values = data.draw(st.tuples(*(values({"type": kind}) for kind in types)))
    assert encode_words(types, given_values) == encode(types, given_values)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("uint256", -1), ("uint256", 2**256), ("uint256", True), ("uint256", 1.0), ("uint8", 1), ("address", "0x12")],
)
def test_what_is_no_plain_number_or_address_is_left_to_eth_abi(kind, value):
    assert encode_words([kind], [value]) is None
