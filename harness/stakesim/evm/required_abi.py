"""The interface that a stake contract must have, and in what an ABI differs from it.

`contracts/abi/deployed.json` is that of the contract deployed on Sepolia; `IEventStake` adds to it. Names of arguments
and internal types don't matter, as no call depends on them; types, tuples and indexed flags do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from stakesim.evm.abi import ContractAbi, abi_type
from stakesim.evm.compiler import CONTRACTS, compile_contracts
from stakesim.evm.errors import EngineError

DEPLOYED = CONTRACTS / "abi" / "deployed.json"
Abi = Sequence[Mapping[str, Any]]


class Difference(NamedTuple):
    """said: a sentence without its full stop. playable: whether calls and answers are still those that are needed."""

    said: str
    playable: bool = False


@cache
def deployed_abi() -> Abi:
    """The ABI that every stake contract must have."""
    abi: Abi = json.loads(DEPLOYED.read_text())
    return abi


@cache
def additions() -> Abi:
    """What `IEventStake` adds to it."""
    shared = {_signature(item) for item in deployed_abi()}
    mine = compile_contracts()["IEventStake"].abi
    return [item for item in mine if item["type"] in ("function", "event") and _signature(item) not in shared]


@cache
def stake_abi() -> ContractAbi:
    """Returns the ABI of `EventStake`, which includes the deployed interface."""
    return ContractAbi(compile_contracts()["EventStake"].abi)


def missing_additions(abi: Abi) -> set[str]:
    """Names of the functions that `IEventStake` adds and this ABI does not have; one of the same name that takes other
    arguments is another function."""
    has = {_signature(item) for item in abi if item["type"] == "function"}
    return {item["name"] for item in additions() if item["type"] == "function" and _signature(item) not in has}


def own_functions(abi: Abi) -> list[Mapping[str, Any]]:
    """Functions of this ABI that are neither of the deployed interface nor of `IEventStake`."""
    known = {_signature(item) for item in (*deployed_abi(), *additions())}
    return [item for item in abi if item["type"] == "function" and _signature(item) not in known]


def extra_functions(abi: Abi) -> list[dict[str, Any]]:
    """Those of `own_functions` that change something."""
    return [dict(item) for item in own_functions(abi) if item["stateMutability"] in ("nonpayable", "payable")]


def check_playable(abi: Abi, name: str) -> None:
    """Raises `EngineError` for the ABI of a contract that can't be driven, in one sentence. name: the contract's."""
    has = {item["name"] for item in abi if item["type"] == "function"}
    lacks = {item["name"] for item in deployed_abi() if item["type"] == "function"} - has
    added = missing_additions(abi)
    if "totalLiabilities" not in added:  # then it is to have all of them
        lacks |= added
    if lacks:
        raise EngineError(
            f"{name} can't be played, as it lacks {', '.join(sorted(lacks))}: give a contract with all of "
            "contracts/IEventStake.sol, or with contracts/abi/deployed.json and none of what that adds to it."
        )
    if wrong := [found.said for found in differences(abi) if not found.playable]:
        raise EngineError(f"{name} can't be played: {'; '.join(wrong)}.")


def missing(abi: Abi) -> list[str]:
    """What of the deployed interface is not in this ABI at all: sentences."""
    has = {(item["type"], item.get("name")) for item in abi}
    lacks = [item for item in deployed_abi() if (item["type"], item["name"]) not in has]
    return [f"The {item['type']} {item['name']} is missing: {item['name']}({_types(item['inputs'])})" for item in lacks]


def differences(abi: Abi) -> Iterator[Difference]:
    """What this ABI has otherwise than the deployed interface, and than what `IEventStake` adds and it has as well."""
    named: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for item in abi:
        if item["type"] in ("function", "event"):
            named.setdefault((item["type"], item["name"]), []).append(item)
    for wanted in deployed_abi():
        found = named.get((wanted["type"], wanted["name"]), [])
        if found:
            yield from _differences(wanted, found)
    for wanted in additions():
        found = named.get((wanted["type"], wanted["name"]), [])
        same = [item for item in found if _signature(item) == _signature(wanted)]
        if same or (found and wanted["type"] == "event"):
            yield from _differences(wanted, same or found)


def _differences(wanted: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    name = wanted["name"]
    if wanted["type"] == "event":
        if all(_types(item["inputs"]) != _types(wanted["inputs"]) for item in found):
            has, must = _types(found[0]["inputs"]), _types(wanted["inputs"])
            yield Difference(f"The event {name} has ({has}) where ({must}) must be", playable=True)
        return
    same = next((item for item in found if _signature(item) == _signature(wanted)), None)
    if same is None:
        has, must = _types(found[0]["inputs"]), _types(wanted["inputs"])
        yield Difference(f"{name} takes ({has}) where ({must}) must be")
        return
    has, must = _returned(same["outputs"]), _returned(wanted["outputs"])
    if has != must:
        yield Difference(f"{name} returns {has} where {must} must be")
    has, must = _kind(same), _kind(wanted)
    if has != must:
        yield Difference(f"{name} is {has} where {must} must be", playable=has == "payable")


def _signature(item: Mapping[str, Any]) -> tuple[str, str, str]:
    """Of a function or an event, indexed flags apart: what its selector or topic is made of."""
    types = ",".join(abi_type(one) for one in item.get("inputs", ()))
    return item["type"], item.get("name", ""), types


def _types(inputs: Abi) -> str:
    return ", ".join(abi_type(one).replace(",", ", ") + (" indexed" if one.get("indexed") else "") for one in inputs)


def _returned(outputs: Abi) -> str:
    if not outputs:
        return "nothing"
    if len(outputs) == 1 and outputs[0]["type"] == "tuple":
        return f"one struct ({_types(outputs[0]['components'])})"
    return f"({_types(outputs)})"


def _kind(function: Mapping[str, Any]) -> str:
    """Its mutability; reading nothing is as good as changing nothing."""
    mutability: str = function["stateMutability"]
    return "view" if mutability == "pure" else mutability
