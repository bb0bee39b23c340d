"""What execution clients say when they refuse a transaction: `refusals.csv`, a table of client, words and meaning.

A refusal is the node's answer about this one transaction. What is not in the table is unknown, and stays so:
`refusal_kind` guesses nothing. `is_trouble` knows the words of a node that can't answer at present.

The words of a message that reports a revert are the contract's. They never count as the node's.
"""

from __future__ import annotations

import csv
import re
from enum import Enum
from functools import cache
from pathlib import Path
from typing import NamedTuple


class RefusalKind(Enum):
    """Why a node refused a transaction."""

    KNOWN = "the node has it already"
    NONCE_TOO_LOW = "its nonce is used"
    NONCE_TOO_HIGH = "an earlier nonce is missing"
    UNDERPRICED = "it does not pay enough to replace another, or to be kept"
    FEE_TOO_LOW = "its fees are below the base fee, or the node's minimum"
    NO_FUNDS = "the account can't pay gas and value"
    POOL_FULL = "the mempool has no room for it"
    ACCOUNT_LIMIT = "the account has as many transactions in the mempool as the node allows"
    FEE_CAP = "it may cost more than the node's cap on fees allows"
    TYPE_NOT_SUPPORTED = "its type is not supported"
    INTRINSIC_GAS = "its gas limit is below what any such transaction takes"
    GAS_LIMIT = "its gas limit is above that of a block or a transaction"
    WRONG_CHAIN = "it is signed for another network"
    TOO_LARGE = "it has more bytes than the node takes"
    INVALID = "it is malformed, or its sender must not send it"

    @property
    def is_permanent(self) -> bool:
        """Whether the same bytes are refused again until somebody acts: waiting does not help."""
        return self in _PERMANENT

    @property
    def is_local(self) -> bool:
        """Whether the node's own settings or memory are the reason, so that another node may accept the same bytes."""
        return self in _LOCAL


_PERMANENT = frozenset(
    {
        RefusalKind.FEE_CAP,
        RefusalKind.TYPE_NOT_SUPPORTED,
        RefusalKind.INTRINSIC_GAS,
        RefusalKind.GAS_LIMIT,
        RefusalKind.WRONG_CHAIN,
        RefusalKind.TOO_LARGE,
        RefusalKind.INVALID,
    }
)
_LOCAL = frozenset(
    {
        RefusalKind.FEE_CAP,
        RefusalKind.TYPE_NOT_SUPPORTED,
        RefusalKind.POOL_FULL,
        RefusalKind.ACCOUNT_LIMIT,
        RefusalKind.TOO_LARGE,
    }
)


class Refusal(NamedTuple):
    """One refusal of one client.

    Attributes:
        client: Name of the client or provider.
        kind: What it means.
        words: Regular expression of the whole message, without regard to case.
        example: A message in full.
        source: Where the client's words are from: repository and path.
    """

    client: str
    kind: RefusalKind
    words: str
    example: str
    source: str


@cache
def known_refusals() -> tuple[Refusal, ...]:
    """Returns the table; read once, when a node refuses something first."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(Refusal(**{**row, "kind": RefusalKind[row["kind"]]}) for row in rows)  # type: ignore[arg-type]


TABLE = Path(__file__).with_name("refusals.csv")

_PREFIX = r"(?:(?:ALREADY_EXISTS|FEE_TOO_LOW|STALE|INVALID|INTERNAL_ERROR|rpc error|err|failed with \d+ gas): )?"
"""Erigon begins a message with the result of the import, geth an estimate's error with the gas that it tried."""
_SUFFIX = r"(?: \(supplied gas \d+\))?[. ]*"


@cache
def _patterns() -> list[tuple[RefusalKind, re.Pattern[str]]]:
    flags = re.IGNORECASE | re.DOTALL
    return [(known.kind, re.compile(f"{_PREFIX}(?:{known.words}){_SUFFIX}", flags)) for known in known_refusals()]


_TROUBLE = re.compile(
    "rate.?limit|too many request|limit reached|limit exceeded|compute units|throttl|quota|credits?\\b"
    "|(request|capacity|rps).{0,20}(limit|exceed)"
    "|temporar|(un|not )available|try again|timed? ?out|deadline exceeded|context canceled|aborted"
    "|internal (server |json-rpc |eth )?error|internal blocking task|syncing|in sync\\b|initial sync|is full"
    "|(header|block|state|resource|receipts?) (range )?not found|unknown block|missing trie node|trie error"
    "|world state|pruned|historical state|ancient|database|leveldb|no such file|too many open files"
    "|upstream|backend|gateway|proxy|connection|can't execute this request|cannot fulfill"
    "|(un|not )authorized|unauthenticated|forbidden|access denied|api key|project id|payment|billing|upgrade your"
    "|method.{0,60}(not|n't|un)|(not|n't|un).{0,20}supported|not enabled|disabled|shutting down|server is busy",
    re.IGNORECASE,
)
_RANGE = re.compile(
    "(block|blocks|log|logs|range|results?|response|query|filter|fromblock|toblock).{0,60}"
    "(limit|exceed|too (large|many|wide|big|long)|maximum|more than|up to|at most|timeout|restricted)"
    "|(limit|exceed|too (large|many|wide|big|long)|maximum|up to|at most).{0,60}"
    "(block|blocks|log|logs|range|results?|response)",
    re.IGNORECASE,
)


def refusal_kind(words: str) -> RefusalKind | None:
    """Returns what a node's message about a transaction means; None if the table does not have it."""
    return next((kind for kind, pattern in _patterns() if pattern.fullmatch(words)), None)


def is_revert(words: str) -> bool:
    """Returns whether a message reports a contract's revert, so that further words are the contract's."""
    return "revert" in words.lower()


def is_trouble(words: str) -> bool:
    """Returns whether a message says that the node can't answer at present, or not this request.

    It says nothing about the transaction: the node may have accepted it, and another node may answer.
    """
    return not is_revert(words) and refusal_kind(words) is None and bool(_TROUBLE.search(words))


def is_range_refusal(words: str) -> bool:
    """Returns whether a message says that `eth_getLogs` was asked for too many blocks or too many logs."""
    return bool(_RANGE.search(words))
