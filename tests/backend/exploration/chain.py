"""A chain and a node as small as they can be, as immutable values, so that an exploration can keep and compare them.

Only transactions of the platform exist. Each succeeds, and none has logs: what is explored is which of them are mined.
`test_chain.py` asks an anvil the same questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

PLATFORM: LocalAccount = Account.from_key(keccak(text="platform"))
CONTRACT: LocalAccount = Account.from_key(keccak(text="contract"))
BASE_FEE = 10**9
GENESIS_BLOCKS = 3
REPLACEMENT_PERCENT = 110
"""A transaction replaces another one with its nonce if both its fees are at least this many percent of the other's."""


@dataclass(frozen=True)
class Transaction:
    """A signed transaction of the platform's account. Fees are in wei per gas."""

    hash: str
    nonce: int
    max_fee: int
    tip: int
    data: bytes


@cache
def transaction(raw: str) -> Transaction:
    """Decodes a signed transaction of type 2."""
    fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    tx_hash = "0x" + keccak(HexBytes(raw)).hex()
    return Transaction(
        tx_hash,
        fields["nonce"],
        fields["maxFeePerGas"],
        fields["maxPriorityFeePerGas"],
        bytes(HexBytes(fields["data"])),
    )


@cache
def foreign_transaction(nonce: int) -> Transaction:
    """A transaction with the platform's key that the backend did not sign."""
    return Transaction("0x" + keccak(text=f"foreign {nonce}").hex(), nonce, 10**12, 10**12, b"foreign")


@dataclass(frozen=True)
class Block:
    hash: str
    transactions: tuple[Transaction, ...] = ()


class Refusal(Exception):
    """The node refuses a request with these words."""


@dataclass(frozen=True)
class Chain:
    """The canonical blocks (the index of each is its height), the mempool, and how many reorganisations there were."""

    blocks: tuple[Block, ...] = tuple(Block("0x" + keccak(text=f"genesis {n}").hex()) for n in range(GENESIS_BLOCKS))
    mempool: tuple[Transaction, ...] = ()
    reorganisations: int = 0

    @property
    def height(self) -> int:
        return len(self.blocks) - 1

    def mined(self, height: int | None = None) -> dict[str, int]:
        """Height of each transaction's block by hash, up to a height."""
        blocks = self.blocks if height is None else self.blocks[: height + 1]
        return {tx.hash: at for at, block in enumerate(blocks) for tx in block.transactions}

    def count(self, height: int | None = None) -> int:
        """Nonces used up to a height."""
        return len(self.mined(height))

    def at_nonce(self, nonce: int) -> Transaction | None:
        """The mined transaction with this nonce."""
        return next((tx for block in self.blocks for tx in block.transactions if tx.nonce == nonce), None)

    # ------------------------------------------------------------------------------------------------ what happens

    def mine(self) -> Chain:
        """A block with every transaction of the mempool that can be mined."""
        ready, nonce = [], self.count()
        waiting = {tx.nonce: tx for tx in self.mempool}
        while nonce in waiting:
            ready.append(waiting.pop(nonce))
            nonce += 1
        return self._append(tuple(ready), tuple(waiting.values()))

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
        removed = [tx for block in self.blocks[-depth:] for tx in block.transactions if tx.data != b"foreign"]
        chain = replace(self, blocks=self.blocks[:-depth], reorganisations=self.reorganisations + 1)
        nonces = {tx.nonce for tx in removed}
        mempool = (*removed, *(tx for tx in self.mempool if tx.nonce not in nonces)) if keep else self.mempool
        for _ in range(depth):
            chain = chain._append((), ())
        return replace(chain, mempool=tuple(sorted(mempool, key=lambda tx: tx.nonce)))

    def behind(self) -> Chain:
        """The chain as a node sees it that is one block behind."""
        return replace(self, blocks=self.blocks[:-1])

    def _append(self, transactions: tuple[Transaction, ...], mempool: tuple[Transaction, ...]) -> Chain:
        content = "".join(tx.hash for tx in transactions)
        block_hash = keccak(text=f"{self.blocks[-1].hash} {content} {self.reorganisations}").hex()
        return replace(self, blocks=(*self.blocks, Block("0x" + block_hash, transactions)), mempool=mempool)

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
            Refusal: The node does not know the method.
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
        raise Refusal(f"the method {method} does not exist")

    def _height(self, block: str) -> int:
        return self.height if block in ("latest", "pending") else int(block, 16)

    def _block(self, height: int, full: bool) -> dict[str, Any] | None:
        if height > self.height:
            return None
        block = self.blocks[height]
        mined = {"from": PLATFORM.address, "to": CONTRACT.address, "blockNumber": hex(height), "blockHash": block.hash}
        transactions = [
            {"hash": tx.hash, "nonce": hex(tx.nonce), **mined} if full else tx.hash for tx in block.transactions
        ]
        return {
            "number": hex(height),
            "hash": block.hash,
            "parentHash": self.blocks[height - 1].hash if height else "0x" + "00" * 32,
            "timestamp": hex(12 * height),
            "baseFeePerGas": hex(BASE_FEE),
            "transactions": transactions,
        }

    def _receipt(self, tx_hash: str) -> dict[str, Any] | None:
        height = self.mined().get(tx_hash)
        if height is None:
            return None
        return {
            "transactionHash": tx_hash,
            "blockHash": self.blocks[height].hash,
            "blockNumber": hex(height),
            "from": PLATFORM.address,
            "to": CONTRACT.address,
            "contractAddress": None,
            "status": "0x1",
            "gasUsed": hex(90_000),
            "effectiveGasPrice": hex(2 * 10**9),
            "logs": [],
        }
