"""Reads a contract's logs from nodes that allow only so many blocks, or so many logs, in one answer."""

from __future__ import annotations

import requests
from web3 import Web3

from app.services import rpc
from app.services.rpc_http import AnswerTooLarge
from app.services.rpc_refusals import is_range_refusal, is_trouble
from app.services.rpc_types import Log, NodeError

MAX_BLOCKS = 10_000
"""Blocks that are asked for at once at most."""
GROW_AFTER = 16
"""Answers in a row after which twice as many blocks are tried."""


class LogReader:
    """Reads the logs of one contract; remembers how many blocks its node allows at once.

    Args:
        w3: Connection to the node.
        address: Address of the contract.
    """

    def __init__(self, w3: Web3, address: str) -> None:
        self._w3, self._address = w3, address
        self._blocks, self._answers = MAX_BLOCKS, 0

    def read(self, first_block: int, last_block: int) -> list[Log]:
        """Returns the logs from the first to the last block. The node's latest block must not be before the last one.

        The range is halved as long as the node refuses it. An empty answer counts only from a node that has the last
        block: its head is asked for before, and `FailoverProvider` asks no endpoint that lacks the block.

        Raises:
            NodeError: The node refuses even one block, or is in trouble.
            requests.RequestException: No node answers.
        """
        head = rpc.block_number(self._w3)
        if head < last_block:
            raise NodeError(f"it is at block {head}, before block {last_block}")
        found: list[Log] = []
        while first_block <= last_block:
            last = min(first_block + self._blocks - 1, last_block)
            logs = self._read_once(first_block, last)
            if logs is not None:
                found += [log for log in logs if not log.removed]
                first_block = last + 1
        return found

    def _read_once(self, first_block: int, last_block: int) -> tuple[Log, ...] | None:
        """Returns the logs; None if fewer blocks are to be asked for."""
        count = last_block - first_block + 1
        try:
            logs = rpc.logs(self._w3, self._address, first_block, last_block)
        except (NodeError, AnswerTooLarge, requests.Timeout) as error:
            self._blocks, self._answers = max(count // 2, 1), 0  # a node in trouble may have it from the range
            is_refusal = isinstance(error, AnswerTooLarge) or (
                isinstance(error, NodeError) and (is_range_refusal(error.words) or not is_trouble(error.words))
            )
            if count == 1 or not is_refusal:
                raise
            return None
        if count == self._blocks:
            self._answers += 1
        if self._answers == GROW_AFTER:
            self._blocks, self._answers = min(2 * self._blocks, MAX_BLOCKS), 0
        return logs
