"""Filters: the node remembers what a client has seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from stakesim.evm.in_process import rpc_encoding
from stakesim.evm.in_process.node import Methods
from stakesim.evm.in_process.node_core import NodeCore
from stakesim.evm.in_process.rpc_encoding import JsonObject, JsonValue, LogFilter
from stakesim.evm.in_process.rpc_error import INVALID_INPUT, RpcError
from stakesim.evm.in_process.rpc_params import Number, integer


@dataclass
class _Filter:
    """A filter of a client.

    Attributes:
        kind: What it reports.
        next_block: Number of the first block that it has not reported.
        log_filter: Which logs it reports.
        seen: Hashes of waiting transactions that it has reported.
    """

    kind: Literal["logs", "blocks", "transactions"]
    next_block: int
    log_filter: LogFilter = field(default_factory=LogFilter)
    seen: set[bytes] = field(default_factory=set)


class Filters:
    """The filters of a node's clients."""

    def __init__(self, core: NodeCore) -> None:
        self._core = core
        self._filters: dict[int, _Filter] = {}
        self._ids = count(1)

    def add(self, kind: Literal["logs", "blocks", "transactions"], log_filter: LogFilter | None = None) -> str:
        """Adds a filter for what comes from now on, and returns its id in hex."""
        number = next(self._ids)
        seen = {tx.hash for tx in self._core.mempool.waiting}
        self._filters[number] = _Filter(kind, self._core.chain.head.number + 1, log_filter or LogFilter(), seen)
        return hex(number)

    def remove(self, filter_id: Number) -> bool:
        """Removes a filter; returns False if there is none."""
        return self._filters.pop(integer(filter_id), None) is not None

    def changes(self, filter_id: Number) -> JsonValue:
        """Returns what came since the last call, at heights that the chain had not reached by then."""
        chosen, chain = self._find(filter_id), self._core.chain
        blocks = chain.blocks[chosen.next_block :]
        chosen.next_block = chain.head.number + 1
        if chosen.kind == "blocks":
            return [block.hash and rpc_encoding.data(block.hash) for block in blocks]
        if chosen.kind == "logs":
            wanted = chosen.log_filter
            first, last = _limit(wanted.get("fromBlock"), 0), _limit(wanted.get("toBlock"), chain.head.number)
            return [
                log for block in blocks if first <= block.number <= last for log in rpc_encoding.logs(block, wanted)
            ]
        waiting = self._core.mempool.waiting
        hashes = [tx.hash for tx in (*(tx for block in blocks for tx in block.transactions), *waiting)]
        new = [each for each in hashes if each not in chosen.seen]
        chosen.seen = {tx.hash for tx in waiting}
        return [rpc_encoding.data(each) for each in new]

    def logs(self, filter_id: Number) -> list[JsonObject]:
        """Returns all logs that a filter matches."""
        return self._core.logs(self._find(filter_id).log_filter)

    def _find(self, filter_id: Number) -> _Filter:
        try:
            return self._filters[integer(filter_id)]
        except (KeyError, ValueError):
            raise RpcError(INVALID_INPUT, f"filter not found: {filter_id}") from None


def _limit(block: str | None, named: int) -> int:
    """Returns the number of a block that a filter names, or `named` for a name, as a filter tells only what is new."""
    return named if block is None or not block.startswith("0x") else integer(block)


def methods(core: NodeCore) -> Methods:
    """Methods about filters."""
    filters = Filters(core)
    return {
        "eth_newFilter": lambda log_filter: filters.add("logs", log_filter),
        "eth_newBlockFilter": lambda: filters.add("blocks"),
        "eth_newPendingTransactionFilter": lambda: filters.add("transactions"),
        "eth_getFilterChanges": filters.changes,
        "eth_getFilterLogs": filters.logs,
        "eth_uninstallFilter": filters.remove,
    }
