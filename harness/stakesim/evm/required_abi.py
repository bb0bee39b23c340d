"""The interface that a stake contract must have, and how a contract's ABI differs from it.

The required interface is that of the contract deployed on Sepolia (`contracts/abi/deployed.json`). `IEventStake`
extends it. Types, tuples and indexed flags must agree; names of arguments and internal types may differ, as no call
depends on them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from stakesim.evm.abi import Abi, AbiItem, ContractAbi, abi_type, signature
from stakesim.evm.compiler import CONTRACTS, compile_contracts
from stakesim.evm.errors import EngineError

DEPLOYED_ABI_FILE = CONTRACTS / "abi" / "deployed.json"
_OF_THE_WHOLE = frozenset(
    {"createEventRunFor", "bookEventFor", "cancelBooking", "expireEvent", "setOperator", "totalLiabilities"}
)
"""Functions of the extension that only the whole interface gives a meaning."""
_SPECIFIED_ERRORS = frozenset({"NotAuthorized", "TooEarly", "WrongValue"})


class Difference(NamedTuple):
    """One way in which an ABI differs from the required one.

    Attributes:
        text: A sentence without its full stop.
        compatible: Whether calls and their results are nevertheless the required ones.
    """

    text: str
    compatible: bool = False


@cache
def deployed_abi() -> Abi:
    """Returns the required ABI."""
    abi: Abi = json.loads(DEPLOYED_ABI_FILE.read_text())
    return abi


@cache
def extension_abi() -> Abi:
    """Returns the functions and events that `IEventStake` adds to the required ABI."""
    required = {_key(item) for item in deployed_abi()}
    full = compile_contracts()["IEventStake"].abi
    return [item for item in full if item["type"] in ("function", "event") and _key(item) not in required]


@cache
def stake_abi() -> ContractAbi:
    """Returns the codec for the ABI of `EventStake`: the required interface and its extension."""
    return ContractAbi(compile_contracts()["EventStake"].abi)


def codec_of(abi: Abi) -> ContractAbi:
    """Returns the codec for a contract's ABI: what `EventStake` has goes by its name, whatever overloads there are."""
    return ContractAbi(standard_last(abi))


def standard_last(abi: Abi) -> Abi:
    """Returns the ABI in the order that codecs need, as of overloaded functions the last goes by the name."""
    return sorted(abi, key=is_standard)


def missing_extension(abi: Abi) -> set[str]:
    """Returns the names of the functions of the extension that this ABI lacks.

    A function with the same name and other arguments is another function.
    """
    present = {_key(item) for item in abi if item["type"] == "function"}
    return {item["name"] for item in extension_abi() if item["type"] == "function" and _key(item) not in present}


def has_specified_errors(abi: Abi) -> bool:
    """Returns whether the contract has the errors that the rules name: it is taken to have all if it has three."""
    return {item["name"] for item in abi if item["type"] == "error"} >= _SPECIFIED_ERRORS


def functions_of(abi: Abi) -> dict[str, AbiItem]:
    """Returns all functions by what they are called by.

    That is the name; if `EventStake` or this contract has another function of the name, the signature, as
    "withdraw(uint256)".
    """
    functions = [item for item in abi if item["type"] == "function"]
    names = Counter(item["name"] for item in functions)
    names.update({name for _, name, _ in _standard_keys()})
    return {
        item["name"] if is_standard(item) or names[item["name"]] == 1 else signature(item): item for item in functions
    }


def own_transactions(abi: Abi) -> dict[str, AbiItem]:
    """Returns the functions that can change the contract's state and that its interface does not have.

    The interface is the whole one if the contract has all of it, else the required one alone. See `functions_of`.
    """
    interface = _keys(deployed_abi() if missing_extension(abi) else (*deployed_abi(), *extension_abi()))
    return {
        name: item
        for name, item in functions_of(abi).items()
        if _key(item) not in interface and item["stateMutability"] in ("nonpayable", "payable")
    }


def is_standard(item: AbiItem) -> bool:
    """Returns whether `EventStake` or the required interface has this function, event or error."""
    return _key(item) in _standard_keys()


@cache
def _standard_keys() -> frozenset[tuple[str, str, str]]:
    return _keys((*deployed_abi(), *compile_contracts()["EventStake"].abi))


def _keys(abi: Abi) -> frozenset[tuple[str, str, str]]:
    return frozenset(map(_key, abi))


def check_supported(abi: Abi, contract_name: str) -> None:
    """Checks that scenarios can run on a contract.

    It needs all required functions, and either all functions of the extension or none of those that only the whole
    interface gives a meaning: it has no rules for one alone, and would not call it.

    Raises:
        EngineError: A function is missing, or its calls or results have other types. One sentence lists all of them.
    """
    present = {item["name"] for item in abi if item["type"] == "function"}
    missing_names = {item["name"] for item in deployed_abi() if item["type"] == "function"} - present
    missing_from_extension = missing_extension(abi)
    added = sorted(_OF_THE_WHOLE - missing_from_extension)
    if added:
        missing_names |= missing_from_extension
    if missing_names:
        having = f"it has {', '.join(added)} but lacks" if added else "it lacks"
        raise EngineError(
            f"{contract_name} can't be tested, as {having} {', '.join(sorted(missing_names))}: give a contract with "
            "all of contracts/IEventStake.sol, or with contracts/abi/deployed.json and none of what that adds to it."
        )
    if incompatible := [difference.text for difference in differences(abi) if not difference.compatible]:
        raise EngineError(f"{contract_name} can't be tested: {'; '.join(incompatible)}.")


def missing(abi: Abi) -> list[str]:
    """Returns a sentence for each required item of which the ABI has none with the same kind and name."""
    present = {(item["type"], item.get("name")) for item in abi}
    absent = [item for item in deployed_abi() if (item["type"], item["name"]) not in present]
    return [
        f"The {item['type']} {item['name']} is missing: {item['name']}({_types(item['inputs'])})" for item in absent
    ]


def differences(abi: Abi) -> Iterator[Difference]:
    """Yields how items of this ABI differ from the required ones and from those of the extension with the same name."""
    by_name: dict[tuple[str, str], list[AbiItem]] = {}
    for item in abi:
        if item["type"] in ("function", "event"):
            by_name.setdefault((item["type"], item["name"]), []).append(item)
    for required in deployed_abi():
        candidates = by_name.get((required["type"], required["name"]), [])
        if candidates:
            yield from _item_differences(required, candidates)
    for required in extension_abi():
        candidates = by_name.get((required["type"], required["name"]), [])
        same = [item for item in candidates if _key(item) == _key(required)]
        if same or (candidates and required["type"] == "event"):
            yield from _item_differences(required, same or candidates)


def _item_differences(required: AbiItem, candidates: Abi) -> Iterator[Difference]:
    """Compares a required item with the items of the same kind and name."""
    name = required["name"]
    if required["type"] == "event":
        if all(_types(item["inputs"]) != _types(required["inputs"]) for item in candidates):
            actual, expected = _types(candidates[0]["inputs"]), _types(required["inputs"])
            yield Difference(f"The event {name} has ({actual}) where ({expected}) must be", compatible=True)
        return
    same = next((item for item in candidates if _key(item) == _key(required)), None)
    if same is None:
        actual, expected = _types(candidates[0]["inputs"]), _types(required["inputs"])
        yield Difference(f"{name} takes ({actual}) where ({expected}) must be")
        return
    actual, expected = _outputs(same["outputs"]), _outputs(required["outputs"])
    if actual != expected:
        yield Difference(f"{name} returns {actual} where {expected} must be")
    actual, expected = _mutability(same), _mutability(required)
    if actual != expected:
        yield Difference(f"{name} is {actual} where {expected} must be", compatible=actual == "payable")


def _key(item: AbiItem) -> tuple[str, str, str]:
    """Returns what identifies an item, as in its selector or topic: kind, name and types, without indexed flags."""
    types = ",".join(abi_type(parameter) for parameter in item.get("inputs", ()))
    return item["type"], item.get("name", ""), types


def _types(inputs: Abi) -> str:
    return ", ".join(
        abi_type(parameter).replace(",", ", ") + (" indexed" if parameter.get("indexed") else "")
        for parameter in inputs
    )


def _outputs(outputs: Abi) -> str:
    if not outputs:
        return "nothing"
    if len(outputs) == 1 and outputs[0]["type"] == "tuple":
        return f"one struct ({_types(outputs[0]['components'])})"
    return f"({_types(outputs)})"


def _mutability(function: AbiItem) -> str:
    """Returns a function's mutability, with `pure` as `view`: callers see no difference."""
    mutability: str = function["stateMutability"]
    return "view" if mutability == "pure" else mutability
