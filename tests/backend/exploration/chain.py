"""A chain and a node as small as they can be, as immutable values, so that an exploration can keep and compare them.

Only transactions of the platform exist. Those to the contract book seats of one run, and emit the event of a booking.
`test_chain.py` asks an anvil the same questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

PLATFORM: LocalAccount = Account.from_key(keccak(text="platform"))
CONTRACT: LocalAccount = Account.from_key(keccak(text="contract"))
CHAIN_ID = 1
BASE_FEE = 10**9
GENESIS_BLOCKS = 3
FINALIZED_DEPTH = 4
"""Number of the latest blocks that the network may still drop."""
REPLACEMENT_PERCENT = 110
"""A transaction replaces another one with its nonce if both its fees are at least this many percent of the other's."""
RUN_ID, RUN_SEATS, SEAT_PRICE, SEAT_STAKE = 1, 10, 100, 20
"""The one run on the contract, with amounts in wei."""
_BOOKING_CREATED = keccak(text="BookingCreated(uint256,uint256,address,uint256,uint256,uint256)")
_GET_RUN, _GET_BOOKING = keccak(text="getEventRun(uint256)")[:4], keccak(text="getBooking(uint256)")[:4]
_RUN_TYPE = "(uint256,address,string,uint256,uint256,uint256,uint256,uint256,uint8,bool,uint256)"
_BOOKING_TYPE = "(uint256,uint256,address,uint256,uint256,uint256,uint8,uint256)"


@dataclass(frozen=True)
class Transaction:
    """A signed transaction of the platform's account. Fees are in wei per gas."""

    hash: str
    nonce: int
    to: str
    gas: int
    max_fee: int
    tip: int
    data: bytes

    @property
    def is_foreign(self) -> bool:
        """Whether the backend did not sign it."""
        return self.data == b"foreign"

    @property
    def seats(self) -> int:
        """Number of seats that it books."""
        return int.from_bytes(self.data[36:68])


@cache
def transaction(raw: str) -> Transaction:
    """Decodes a signed transaction of type 2."""
    fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    return Transaction(
        "0x" + keccak(HexBytes(raw)).hex(),
        fields["nonce"],
        "0x" + bytes(HexBytes(fields["to"])).hex(),
        fields["gas"],
        fields["maxFeePerGas"],
        fields["maxPriorityFeePerGas"],
        bytes(HexBytes(fields["data"])),
    )


@cache
def foreign_transaction(nonce: int) -> Transaction:
    """A transaction with the platform's key that the backend did not sign."""
    tx_hash = "0x" + keccak(text=f"foreign {nonce}").hex()
    return Transaction(tx_hash, nonce, PLATFORM.address.lower(), 21_000, 10**12, 10**12, b"foreign")


@dataclass(frozen=True)
class Block:
    """A block. `failure` is "reverted" or "out of gas" if its first transaction failed; the others succeed."""

    hash: str
    transactions: tuple[Transaction, ...] = ()
    failure: str | None = None


class Mined(NamedTuple):
    """A transaction of the chain, with its block's height and how it failed, if it did."""

    transaction: Transaction
    height: int
    failure: str | None

    @property
    def is_booking(self) -> bool:
        """Whether it had an effect on the contract."""
        return self.failure is None and self.transaction.to == CONTRACT.address.lower()


class Refusal(Exception):
    """The node refuses a request with these words."""

    def __init__(self, words: str, data: str | None = None) -> None:
        super().__init__(words)
        self.data = data


_GENESIS = tuple(Block("0x" + keccak(text=f"genesis {n}").hex()) for n in range(GENESIS_BLOCKS))


@dataclass(frozen=True)
class Chain:
    """One branch, the mempool, and what was dropped.

    Attributes:
        blocks: The blocks; the index of each is its height.
        mempool: Transactions that are in no block, by nonce.
        reorganisations: How many there were.
        dropped: The branch that the last reorganisation dropped.
    """

    blocks: tuple[Block, ...] = _GENESIS
    mempool: tuple[Transaction, ...] = ()
    reorganisations: int = 0
    dropped: tuple[Block, ...] = ()

    @property
    def height(self) -> int:
        return len(self.blocks) - 1

    @property
    def finalized(self) -> int:
        """Height of the latest block that the network never drops."""
        return max(self.height - FINALIZED_DEPTH, 0)

    def mined(self, height: int | None = None) -> list[Mined]:
        """The transactions up to a height, oldest first."""
        blocks = self.blocks if height is None else self.blocks[: height + 1]
        return [
            Mined(tx, at, block.failure if index == 0 else None)
            for at, block in enumerate(blocks)
            for index, tx in enumerate(block.transactions)
        ]

    def count(self, height: int | None = None) -> int:
        """Nonces used up to a height."""
        return len(self.mined(height))

    # ------------------------------------------------------------------------------------------------ what happens

    def mine(self, failure: str | None = None) -> Chain:
        """A block with every transaction of the mempool that can be mined; the first one may fail."""
        ready, nonce = [], self.count()
        waiting = {tx.nonce: tx for tx in self.mempool}
        while nonce in waiting:
            ready.append(waiting.pop(nonce))
            nonce += 1
        return self._append(tuple(ready), tuple(waiting.values()), failure if ready else None)

    def mine_foreign(self) -> Chain:
        """A block in which a foreign transaction has the next nonce."""
        nonce = self.count()
        return self._append((foreign_transaction(nonce),), tuple(tx for tx in self.mempool if tx.nonce != nonce))

    def drop_mempool(self) -> Chain:
        return replace(self, mempool=())

    def reorganise(self, depth: int, keep: bool) -> Chain:
        """The last blocks are replaced by as many empty ones.

        Args:
            depth: How many blocks.
            keep: Whether the mempool gets their transactions back.
        """
        removed = [tx for block in self.blocks[-depth:] for tx in block.transactions if not tx.is_foreign]
        chain = replace(self, blocks=self.blocks[:-depth], reorganisations=self.reorganisations + 1)
        nonces = {tx.nonce for tx in removed}
        mempool = (*removed, *(tx for tx in self.mempool if tx.nonce not in nonces)) if keep else self.mempool
        for _ in range(depth):
            chain = chain._append((), ())
        mempool = tuple(sorted(mempool, key=lambda tx: tx.nonce))
        return replace(chain, mempool=mempool, dropped=self.blocks)

    def behind(self) -> Chain:
        """The chain as a node sees it that is one block behind."""
        return replace(self, blocks=self.blocks[:-1])

    def before_reorganisation(self) -> Chain:
        """The chain as a node sees it that has not noticed the last reorganisation."""
        return replace(self, blocks=self.dropped or self.blocks)

    def _append(
        self, transactions: tuple[Transaction, ...], mempool: tuple[Transaction, ...], failure: str | None = None
    ) -> Chain:
        content = "".join(tx.hash for tx in transactions)
        block_hash = keccak(text=f"{self.blocks[-1].hash} {content} {failure} {self.reorganisations}").hex()
        block = Block("0x" + block_hash, transactions, failure)
        return replace(self, blocks=(*self.blocks, block), mempool=mempool)

    # ---------------------------------------------------------------------------------------------- what is asked

    def send(self, raw: str) -> tuple[Chain, str]:
        """The chain with the transaction in its mempool, and its hash.

        Raises:
            Refusal: In geth's words.
        """
        sent = transaction(raw)
        if sent.nonce < self.count():
            raise Refusal(f"nonce too low: next nonce {self.count()}, tx nonce {sent.nonce}")
        rival = next((tx for tx in self.mempool if tx.nonce == sent.nonce), None)
        if rival is not None:
            if rival.hash == sent.hash:
                raise Refusal("already known")
            needed = [fee * REPLACEMENT_PERCENT for fee in (rival.max_fee, rival.tip)]
            if any(fee * 100 < least for fee, least in zip((sent.max_fee, sent.tip), needed, strict=True)):
                raise Refusal("replacement transaction underpriced")
        mempool = sorted((*(tx for tx in self.mempool if tx is not rival), sent), key=lambda tx: tx.nonce)
        return replace(self, mempool=tuple(mempool)), sent.hash

    def answer(self, method: str, params: Sequence[Any]) -> Any:
        """The result of a request that changes nothing, as JSON.

        Raises:
            Refusal: The contract reverts, or the node does not know the method.
        """
        match method:
            case "eth_blockNumber":
                return hex(self.height)
            case "eth_getBlockByNumber":
                return self._block(self._height(params[0]), params[1])
            case "eth_getTransactionCount":
                pending = len(self.mempool) if params[1] == "pending" else 0
                return hex(self.count(self._height(params[1])) + pending)
            case "eth_getTransactionReceipt":
                return self._receipt(params[0])
            case "eth_getTransactionByHash":
                return self._transaction(params[0])
            case "eth_getLogs":
                return self._logs(int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16))
            case "eth_call":
                return self._call(bytes(HexBytes(params[0]["data"])), self._height(params[1]))
        raise Refusal(f"the method {method} does not exist")

    def _height(self, block: str) -> int:
        named = {"latest": self.height, "pending": self.height, "finalized": self.finalized, "safe": self.finalized}
        return named[block] if block in named else int(block, 16)

    def _block(self, height: int, full: bool) -> dict[str, Any] | None:
        if height > self.height:
            return None
        block = self.blocks[height]
        return {
            "number": hex(height),
            "hash": block.hash,
            "parentHash": self.blocks[height - 1].hash if height else "0x" + "00" * 32,
            "timestamp": hex(1_700_000_000 + 12 * height),
            "baseFeePerGas": hex(BASE_FEE),
            "transactions": [self._fields(tx, height) if full else tx.hash for tx in block.transactions],
        }

    def _fields(self, tx: Transaction, height: int | None) -> dict[str, Any]:
        return {
            "hash": tx.hash,
            "from": PLATFORM.address.lower(),
            "to": tx.to,
            "nonce": hex(tx.nonce),
            "input": "0x" + tx.data.hex(),
            "blockNumber": None if height is None else hex(height),
            "blockHash": None if height is None else self.blocks[height].hash,
        }

    def _transaction(self, tx_hash: str) -> dict[str, Any] | None:
        known = [(mined.transaction, mined.height) for mined in self.mined()]
        for tx, height in (*known, *((tx, None) for tx in self.mempool)):
            if tx.hash == tx_hash:
                return self._fields(tx, height)
        return None

    def _receipt(self, tx_hash: str) -> dict[str, Any] | None:
        mined = next((mined for mined in self.mined() if mined.transaction.hash == tx_hash), None)
        if mined is None:
            return None
        return {
            "transactionHash": tx_hash,
            "transactionIndex": hex(self.blocks[mined.height].transactions.index(mined.transaction)),
            "blockHash": self.blocks[mined.height].hash,
            "blockNumber": hex(mined.height),
            "from": PLATFORM.address.lower(),
            "to": mined.transaction.to,
            "contractAddress": None,
            "status": "0x0" if mined.failure else "0x1",
            "gasUsed": hex(mined.transaction.gas if mined.failure == "out of gas" else 90_000),
            "effectiveGasPrice": hex(2 * 10**9),
            "logs": [log for log in self._logs(mined.height, mined.height) if log["transactionHash"] == tx_hash],
        }

    # ---------------------------------------------------------------------------------------------- the contract

    def bookings(self, height: int | None = None) -> list[Mined]:
        """The transactions that booked seats, up to a height; their ids on chain count from 1."""
        return [mined for mined in self.mined(height) if mined.is_booking]

    def _logs(self, first: int, last: int) -> list[dict[str, Any]]:
        return [
            _booking_log(booking_id, mined.transaction, mined.height, self.blocks[mined.height].hash)
            for booking_id, mined in enumerate(self.bookings(min(last, self.height)), 1)
            if mined.height >= first
        ]

    def _call(self, data: bytes, height: int) -> str:
        """A view, or a booking that is repeated on the state of its block."""
        bookings = self.bookings(height)
        if data[:4] == _GET_RUN:
            seats = sum(mined.transaction.seats for mined in bookings)
            terms = (SEAT_PRICE, RUN_SEATS, seats, SEAT_STAKE, 2_000_000_000, 1, False, 1)
            return "0x" + encode([_RUN_TYPE], [(RUN_ID, PLATFORM.address, "experience", *terms)]).hex()
        if data[:4] == _GET_BOOKING:
            booking_id = int.from_bytes(data[4:36])
            if not 0 < booking_id <= len(bookings):
                return "0x" + encode([_BOOKING_TYPE], [(0, 0, "0x" + "00" * 20, 0, 0, 0, 0, 0)]).hex()
            seats = bookings[booking_id - 1].transaction.seats
            amounts = (seats, seats * SEAT_PRICE, seats * SEAT_STAKE, 0, 1)
            return "0x" + encode([_BOOKING_TYPE], [(booking_id, RUN_ID, PLATFORM.address, *amounts)]).hex()
        failures = {mined.failure for mined in self.mined(height) if mined.transaction.data == data}
        if "reverted" in failures:
            raise Refusal("execution reverted: sold out", "0x08c379a0" + encode(["string"], ["sold out"]).hex())
        if "out of gas" in failures:
            raise Refusal("out of gas")
        return "0x"


def _booking_log(booking_id: int, tx: Transaction, height: int, block_hash: str) -> dict[str, Any]:
    amounts = encode(["uint256"] * 3, [tx.seats, tx.seats * SEAT_PRICE, tx.seats * SEAT_STAKE])
    attendee = encode(["address"], [PLATFORM.address]).hex()
    return {
        "address": CONTRACT.address.lower(),
        "topics": ["0x" + _BOOKING_CREATED.hex(), f"0x{booking_id:064x}", f"0x{RUN_ID:064x}", "0x" + attendee],
        "data": "0x" + amounts.hex(),
        "blockNumber": hex(height),
        "blockHash": block_hash,
        "transactionHash": tx.hash,
        "transactionIndex": "0x0",
        "logIndex": "0x0",
        "removed": False,
    }
