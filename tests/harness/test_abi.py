"""The library's ABI encoding and event decoding agree with the backend's, which it shares no code with; and a fault in
the backend's own is found."""

import json
from contextlib import closing

import pytest
from app.services import codec as backend_codec
from app.services.codec import Codec
from app.services.rpc_types import Log as BackendLog
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from stakesim.evm.abi import ContractAbi, Log, abi_type, signature
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


@ABIS
@given(data=st.data())
def test_calls_are_encoded_as_by_the_backend(abi, data):
    function = data.draw(st.sampled_from(of_kind(abi, "function")))
    args = data.draw(arguments(function["inputs"]))
    ours, theirs = ContractAbi(abi), Codec(abi)
    assert ours.encode(function["name"], *args) == theirs.call(ADDRESS, function["name"], *args).data


@ABIS
@given(data=st.data())
def test_return_values_are_decoded_as_by_the_backend(abi, data):
    function = data.draw(st.sampled_from(of_kind(abi, "function")))
    returned = encode([abi_type(o) for o in function["outputs"]], data.draw(arguments(function["outputs"])))
    ours, theirs = ContractAbi(abi), Codec(abi)
    assert plain(ours.decode(function["name"], returned)) == plain(theirs.result(function["name"], returned))


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
