"""The ABI that every stake contract must have, and the sentences about contracts that differ."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
from app.services.codec import ARTIFACT
from stakesim.evm import required_abi
from stakesim.evm.compiler import CONTRACTS, Artifact, compile_contracts
from stakesim.evm.contract_file import load_contract
from stakesim.evm.errors import EngineError
from stakesim.gate.pipeline import interface_problems
from stakesim.runner.environment import open_environment

TEST = CONTRACTS / "test"
STAND_IN = TEST / "MinimalEventStake.sol"
SIGNATURES = {
    "createEventRun": ("string,uint256,uint256,uint256", "uint256", "payable"),
    "bookEvent": ("uint256,uint256", "uint256", "payable"),
    "completeEvent": ("uint256,uint256[]", "", "nonpayable"),
    "cancelEvent": ("uint256", "", "nonpayable"),
    "calculateRequiredStake": ("uint256,uint256", "uint256", "view"),
    "calculateBookingCost": ("uint256,uint256", "uint256,uint256,uint256", "view"),
    "getEventRun": (
        "uint256",
        "(uint256,address,string,uint256,uint256,uint256,uint256,uint256,uint8,bool,uint256)",
        "view",
    ),
    "getBooking": ("uint256", "(uint256,uint256,address,uint256,uint256,uint256,uint8,uint256)", "view"),
    "getEventBookings": ("uint256", "uint256[]", "view"),
    "getUserBookings": ("address", "uint256[]", "view"),
    "getHostEvents": ("address", "uint256[]", "view"),
    "owner": ("", "address", "view"),
    "withdrawPlatformFees": ("", "", "nonpayable"),
}
"""Inputs, outputs and mutability, as the rules of the system have them."""
EVENTS = {
    "EventRunCreated": "uint256*,address*,string,uint256,uint256,uint256",
    "BookingCreated": "uint256*,uint256*,address*,uint256,uint256,uint256",
    "BookingCompleted": "uint256*,address*,uint256",
    "BookingNoShow": "uint256*,address*,uint256",
    "EventCompleted": "uint256*,uint256,uint256",
    "EventCancelled": "uint256*,uint256",
}
"""Types, those that are indexed with a star."""


def types(fields) -> str:
    """Of an ABI's inputs or outputs; of a tuple those of its fields."""
    return ",".join(
        (f"({types(field['components'])})" if field["type"] == "tuple" else field["type"])
        + ("*" if field.get("indexed") else "")
        for field in fields
    )


def spelled(abi) -> tuple[dict, dict]:
    """Functions and events of an ABI; reading nothing counts as reading."""
    functions = {
        item["name"]: (
            types(item["inputs"]),
            types(item["outputs"]),
            item["stateMutability"].replace("pure", "view"),
        )
        for item in abi
        if item["type"] == "function"
    }
    return functions, {item["name"]: types(item["inputs"]) for item in abi if item["type"] == "event"}


def test_committed_abi_is_the_specified_one():
    abi = json.loads((CONTRACTS / "abi" / "deployed.json").read_text())
    assert spelled(abi) == (SIGNATURES, EVENTS)
    assert len(abi) == len(SIGNATURES) + len(EVENTS)
    assert [item["type"] for item in abi if item["type"] == "event" and item["anonymous"]] == []


def abi_of(name: str):
    if name == "production":
        return json.loads(ARTIFACT.read_text())["abi"]
    file = TEST / f"{name}.sol"
    return (load_contract(file) if file.exists() else compile_contracts()[name]).abi


@pytest.mark.parametrize("name", ["EventStake", "production", "MinimalEventStake", "SoundEventStake"])
def test_every_contract_has_the_required_abi(name):
    abi = abi_of(name)
    assert required_abi.missing(abi) == []
    assert list(required_abi.differences(abi)) == []
    functions, events = spelled(abi)
    assert {name: functions[name] for name in SIGNATURES} == SIGNATURES
    assert {name: events[name] for name in EVENTS} == EVENTS


def test_interface_has_the_required_abi_except_owner():
    """`owner` is in OpenZeppelin's Ownable."""
    abi = abi_of("IEventStake")
    assert required_abi.missing(abi) == ["The function owner is missing: owner()"]
    assert list(required_abi.differences(abi)) == []


def test_extension_is_recognized_by_name_and_arguments():
    assert required_abi.missing_extension(abi_of("EventStake")) == set()
    lacks = required_abi.missing_extension(abi_of("MinimalEventStake"))
    assert {"createEventRunFor", "cancelBooking", "expireEvent", "withdraw", "creditOf", "totalLiabilities"} <= lacks
    assert lacks.isdisjoint(SIGNATURES)
    other = {
        "type": "function",
        "name": "withdraw",
        "inputs": [{"name": "amount", "type": "uint256"}],
        "outputs": [],
        "stateMutability": "nonpayable",
    }
    abi = [*abi_of("MinimalEventStake"), other]
    assert required_abi.missing_extension(abi) == lacks
    assert required_abi.own_transactions(abi)["withdraw(uint256)"] == other
    own = required_abi.own_transactions(abi_of("MinimalEventStake")).keys()
    assert own == {"setStakePercentage", "setPlatformFeePercentage"}


# Differences


def stand_in(**edits) -> Artifact:
    """Returns the stand-in with another ABI. Each edit changes the item of its name."""
    artifact = load_contract(STAND_IN)
    abi = deepcopy(artifact.abi)
    for name, edit in edits.items():
        [item] = [item for item in abi if item.get("name") == name]
        edit(item)
    return Artifact(artifact.name, artifact.source, abi, artifact.bytecode, artifact.deployed_bytecode)


def flat(item) -> None:
    item["outputs"] = item["outputs"][0]["components"]


def shorter(item) -> None:
    item["outputs"][0]["components"].pop()


RUN = "(uint256, address, string, uint256, uint256, uint256, uint256, uint256, uint8, bool, uint256)"
BOOKING = "(uint256, uint256, address, uint256, uint256, uint256, uint8, uint256)"


@pytest.mark.parametrize(
    ("name", "edit", "text", "compatible"),
    [
        ("getEventRun", flat, f"getEventRun returns {RUN} where one struct {RUN} must be", False),
        ("getBooking", flat, f"getBooking returns {BOOKING} where one struct {BOOKING} must be", False),
        (
            "getBooking",
            shorter,
            f"getBooking returns one struct {BOOKING.replace('uint8, uint256', 'uint8')} where one struct {BOOKING} "
            "must be",
            False,
        ),
        (
            "bookEvent",
            lambda item: item["inputs"].pop(),
            "bookEvent takes (uint256) where (uint256, uint256) must be",
            False,
        ),
        ("bookEvent", lambda item: item["outputs"].clear(), "bookEvent returns nothing where (uint256) must be", False),
        (
            "bookEvent",
            lambda item: item.update(stateMutability="nonpayable"),
            "bookEvent is nonpayable where payable must be",
            False,
        ),
        (
            "owner",
            lambda item: item.update(stateMutability="nonpayable"),
            "owner is nonpayable where view must be",
            False,
        ),
        (
            "cancelEvent",
            lambda item: item.update(stateMutability="payable"),
            "cancelEvent is payable where nonpayable must be",
            True,
        ),
        (
            "BookingNoShow",
            lambda item: item["inputs"][1].update(indexed=False),
            "The event BookingNoShow has (uint256 indexed, address, uint256) where (uint256 indexed, address indexed, "
            "uint256) must be",
            True,
        ),
    ],
)
def test_each_difference_is_one_sentence(name, edit, text, compatible):
    contract = stand_in(**{name: edit})
    assert list(required_abi.differences(contract.abi)) == [(text, compatible)]
    assert interface_problems(contract) == [f"{text}."]


@pytest.mark.parametrize("mutability", ["view", "pure"])
def test_parameter_names_and_pure_or_view_make_no_difference(mutability):
    def rename(item):
        item["stateMutability"] = mutability
        item["outputs"][0] |= {"name": "run", "internalType": "struct Other.Run"}
        for field in item["outputs"][0]["components"]:
            field |= {"name": "x", "internalType": "enum Other.Status"}

    assert interface_problems(stand_in(getEventRun=rename, getBooking=rename)) == []


@pytest.mark.parametrize("name", ["withdrawPlatformFees", "owner", "EventCompleted"])
def test_missing_item_is_one_sentence(name):
    artifact = stand_in()
    artifact.abi[:] = [item for item in artifact.abi if item.get("name") != name]
    [text] = interface_problems(artifact)
    assert text.endswith(
        f" {name} is missing: {name}({'uint256 indexed, uint256, uint256' if name[0] == 'E' else ''})."
    )


@pytest.mark.slow
def test_unsupported_contract_is_refused(engine_name):
    """The error lists all differences; compatible ones are accepted."""
    with pytest.raises(EngineError) as caught:
        open_environment(engine_name, stand_in(getEventRun=flat, getBooking=flat))
    assert str(caught.value) == (
        f"MinimalEventStake can't be tested: getEventRun returns {RUN} where one struct {RUN} must be; getBooking "
        f"returns {BOOKING} where one struct {BOOKING} must be."
    )
    artifact = stand_in()
    artifact.abi[:] = [item for item in artifact.abi if item.get("name") != "owner"]
    with pytest.raises(EngineError, match="MinimalEventStake can't be tested, as it lacks owner: give a contract"):
        open_environment(engine_name, artifact)
    open_environment(engine_name, stand_in(cancelEvent=lambda item: item.update(stateMutability="payable"))).close()
