"""Whether a contract's ABI is the interface that the service, and the chain's history, know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eth_utils.abi import collapse_if_tuple

from stakesim.evm.compiler import Artifact, compile_contracts
from stakesim.runner.environment import SHARED


def differences(artifact: Artifact) -> list[str]:
    """A sentence for each function or event that is not as the interface has it; of what `EventStake` adds to the one
    on Sepolia, only where the contract has it."""
    return list(_differences(_signatures(compile_contracts()["IEventStake"].abi), _signatures(artifact.abi)))


def _differences(wanted: Mapping[tuple[str, str], str], has: Mapping[tuple[str, str], str]) -> Iterator[str]:
    for (kind, name), signature in sorted(wanted.items()):
        found = has.get((kind, name))
        if found is None:
            if (kind == "function" and name in SHARED) or name in _SHARED_EVENTS:
                yield f"The {kind} {name} is missing: {signature}."
        elif found != signature:
            yield f"The {kind} {name} is {found}, and has to be {signature}."


_SHARED_EVENTS = (
    "EventRunCreated",
    "BookingCreated",
    "BookingCompleted",
    "BookingNoShow",
    "EventCompleted",
    "EventCancelled",
)


def _signatures(abi: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    return {(item["type"], item["name"]): _signature(item) for item in abi if item["type"] in ("function", "event")}


def _signature(item: Mapping[str, Any]) -> str:
    given = ",".join(
        collapse_if_tuple(dict(one)) + (" indexed" if one.get("indexed") else "") for one in item["inputs"]
    )
    if item["type"] == "event":
        return f"{item['name']}({given})"
    returned = ",".join(collapse_if_tuple(dict(one)) for one in item["outputs"])
    kind = "view" if item["stateMutability"] in ("view", "pure") else item["stateMutability"]
    return f"{item['name']}({given}) {kind} returns ({returned})"
