"""Faults of the chain around a service: missing blocks, reorgs, a full or lossy mempool, an empty wallet.

All faults are real: they happen on the anvil of a `FaultTestbed`, to any service that sends transactions through a
`FaultyProvider`. They happen just before a request of the service and in the service's thread, so the same random
numbers give the same episode. `ServiceHooks` connects the faults to the service itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from web3.exceptions import Web3RPCError

from stakesim.errors import StakesimError
from stakesim.faults.faulty_provider import SEND, FaultyProvider
from stakesim.faults.sell_out import sell_out
from stakesim.faults.testbed import ETH, GWEI, MAX_FEE, FaultTestbed, service_account

FOREIGN_NONCE = "foreign transaction takes the nonce"
NONCE_GAP = "earlier transaction lost, a gap"
EMPTY_WALLET = "wallet empty"
DROPPED = "dropped from the mempool"
NO_BLOCK = "no block for long"
HIGH_BASE_FEE = "base fee above the cap"
REORG_MOVES = "reorg, another block"
REORG_DROPS = "reorg, transaction dropped"
REORG_REPLACES = "reorg, foreign transaction instead"
SOLD_OUT = "sold out between estimate and block"
DATABASE_GONE = "database gone after a send"
CHAIN_FAULTS = {
    FOREIGN_NONCE: 8,
    NONCE_GAP: 9,
    EMPTY_WALLET: 11,
    DROPPED: 12,
    NO_BLOCK: 13,
    HIGH_BASE_FEE: 14,
    REORG_MOVES: 15,
    REORG_DROPS: 16,
    REORG_REPLACES: 17,
    SOLD_OUT: 18,
    DATABASE_GONE: 25,
}
"""Faults of the chain and of the service's database, each with its row in the catalogue."""
EMPTY_WALLET_WEI = 10**9
"""Balance of an empty wallet."""
FULL_WALLET_WEI = 1_000_000 * ETH
"""Balance after the wallet is topped up."""
FAULTY_REQUESTS = 60
"""Requests at the start of each operation during which faults happen."""
MAX_REQUESTS = 1_500
"""Requests after which an operation counts as endless."""
OTHER_WORKER_RATE = 0.01
"""Probability of a round of the other worker before a request."""
MAX_FOREIGN_NONCES = 3
"""How often in an episode a foreign transaction takes a nonce."""
_UNLIMITED = 10**12
"""As `_requests_before_operation`: the operation may take any number of requests, and no fault happens."""


class ServiceStuckError(StakesimError):
    """The service does not finish an operation, though no more faults happen."""


class Reorg(Enum):
    """What a reorg does to the service's transactions. The value is the verb in the log."""

    MOVE = "moved"
    DROP = "dropped"
    REPLACE = "replaced"


@dataclass
class ServiceHooks:
    """Connects chain faults to the service under test.

    Attributes:
        before_request: Called before each request, and so before each block, except while the database is gone. The
            place to check the service's own records.
        before_send: Called with each raw transaction, 0x-prefixed hex, that the service is about to send.
        stop_database: Makes the service's database unreachable. None if the service has no database; then this fault
            never happens.
        start_database: Makes the database reachable again.
        other_worker: Runs one round of another worker of the service, whose requests go through the same provider.
            None if there is one worker.
    """

    before_request: Callable[[], None] = lambda: None
    before_send: Callable[[str], None] = lambda raw: None
    stop_database: Callable[[], None] | None = None
    start_database: Callable[[], None] = lambda: None
    other_worker: Callable[[], None] | None = None


@dataclass
class ChainFaults:
    """Mines blocks and injects faults around the requests of a service.

    Attributes:
        testbed: The chain.
        rng: Decides which faults happen, and when.
        block_rate: Probability of a block before a request.
        rate: Probability of a chain fault before a request.
        rpc_rate: Probability of a fault in the request itself, as long as faults happen at all.
        forced: Names of faults that happen before all others.
        confirmations: Depth at which the service takes a block as final. Reorgs are less deep.
        max_fee: Cap of what the service pays, in wei per gas.
        hooks: Connection to the service.
        counts: How often each fault happened, by name.
        log: Number of the request, and what happened before it.
        database_gone: Whether a fault made the service's database unreachable.
    """

    testbed: FaultTestbed
    rng: np.random.Generator
    _: KW_ONLY
    block_rate: float
    rate: float
    confirmations: int
    forced: list[str] = field(default_factory=list)
    rpc_rate: float = 0.0
    max_fee: int = MAX_FEE
    hooks: ServiceHooks = field(default_factory=ServiceHooks)
    counts: Counter[str] = field(default_factory=Counter)
    log: list[tuple[int, str]] = field(default_factory=list)
    database_gone: bool = False
    _provider: FaultyProvider | None = None
    _requests_without_block: int = 0
    _top_up_at: int | None = None
    """Number of the request before which the empty wallet is topped up."""
    _at_next_send: set[str] = field(default_factory=set)
    """Faults that wait for the service's next transaction."""
    _foreign: dict[str, str] = field(default_factory=dict)
    """Raw transactions past the service, by hash."""
    _requests_before_operation: int = 0
    _in_other_worker: bool = False

    @property
    def possible(self) -> list[str]:
        """Names of the faults that can happen to this service on this contract."""
        impossible = set()
        if self.hooks.stop_database is None:
            impossible.add(DATABASE_GONE)
        if not ("bookEvent" in self.testbed.abi and "getEventRun" in self.testbed.abi):
            impossible.add(SOLD_OUT)
        return [name for name in CHAIN_FAULTS if name not in impossible]

    def attach(self, provider: FaultyProvider) -> None:
        """From now on, blocks and faults happen around the requests of this provider."""
        self._provider, provider.before, provider.after = provider, self.before_request, self.after_request
        provider.mine = self.testbed.mine
        self.begin_operation()

    def begin_operation(self) -> None:
        """Starts a new operation of the service.

        Faults happen during its first `FAULTY_REQUESTS` requests, and then none, so that the operation can end.
        """
        provider = self._attached()
        self._requests_before_operation, provider.rate = provider.request_count, self.rpc_rate
        self.restore_database()

    def before_request(self, method: str, params: Sequence[Any]) -> None:
        """Lets things happen before a request.

        Raises:
            ServiceStuckError: The operation takes more than `MAX_REQUESTS` requests.
        """
        requests = self._requests_of_operation()
        if requests > FAULTY_REQUESTS:
            self._attached().rate = 0
            self.restore_database()
        if not self.database_gone:
            self.hooks.before_request()
            if method == SEND:
                self.hooks.before_send(str(params[0]))
        if self._top_up_at is not None and self._attached().request_count >= self._top_up_at:
            self._top_up()
        if requests <= FAULTY_REQUESTS and (self.forced or self.rng.random() < self.rate):
            names = self.forced or self.possible
            self._inject(names[int(self.rng.integers(len(names)))])
        if method == SEND and SOLD_OUT in self._at_next_send:
            self._sell_out(str(params[0]))
        self._run_other_worker(requests)
        if self._requests_without_block:
            self._requests_without_block -= 1
        elif self.rng.random() < self.block_rate:
            self.testbed.mine()

    def after_request(self, method: str, params: Sequence[Any]) -> None:
        """Lets things happen after a request."""
        if method == SEND and DATABASE_GONE in self._at_next_send and self.hooks.stop_database:
            self._at_next_send.discard(DATABASE_GONE)
            self.hooks.stop_database()
            self.database_gone = True
            self._count(DATABASE_GONE, "no connection is accepted")

    def restore_database(self) -> None:
        """Makes the service's database reachable again, if a fault took it away."""
        if self.database_gone:
            self.hooks.start_database()
            self.database_gone = False
            self._add_to_log("the database is back")

    def stop(self) -> None:
        """Ends all faults, undoes their lasting effects, and mines a block. From then on, no limit applies."""
        self.rate, self.rpc_rate, self.forced, self._requests_without_block = 0, 0, [], 0
        self._at_next_send = set()
        self.restore_database()
        self._requests_before_operation = _UNLIMITED
        if self._top_up_at is not None:
            self._top_up()
        self.testbed.set_base_fee(GWEI)
        self.testbed.mine()

    def _requests_of_operation(self) -> int:
        requests = self._attached().request_count - self._requests_before_operation
        if requests > MAX_REQUESTS:
            raise ServiceStuckError(
                f"The operation has no end after {MAX_REQUESTS} requests, {MAX_REQUESTS - FAULTY_REQUESTS} of them "
                "without faults."
            )
        return requests

    def _run_other_worker(self, requests: int) -> None:
        other = self.hooks.other_worker
        if not other or self._in_other_worker:
            return
        if self.rng.random() < OTHER_WORKER_RATE or requests % FAULTY_REQUESTS == FAULTY_REQUESTS - 1:
            self._in_other_worker = True
            try:
                other()
            finally:
                self._in_other_worker = False

    # ----------------------------------------------------------------------------------------------- the faults

    def _inject(self, name: str) -> None:
        actions: dict[str, Callable[[], str | None]] = {
            FOREIGN_NONCE: self._take_nonce,
            NONCE_GAP: self._open_gap,
            EMPTY_WALLET: self._empty_wallet,
            DROPPED: self._drop,
            NO_BLOCK: self._stop_blocks,
            HIGH_BASE_FEE: self._raise_base_fee,
            REORG_MOVES: lambda: self._reorg(Reorg.MOVE),
            REORG_DROPS: lambda: self._reorg(Reorg.DROP),
            REORG_REPLACES: lambda: self._reorg(Reorg.REPLACE),
        }
        if name not in actions:
            self._at_next_send.add(name)
            self.forced = [other for other in self.forced if other != name]
            return
        description = actions[name]()
        if description is not None:
            self.forced = [other for other in self.forced if other != name]
            self._count(name, description)

    def _take_nonce(self) -> str | None:
        if self.counts[FOREIGN_NONCE] >= MAX_FOREIGN_NONCES:
            return None
        pending = self._pending()
        nonce = pending[int(self.rng.integers(len(pending)))][0] if pending else self.testbed.nonce()
        tx_hash, raw = self.testbed.sign(service_account(), nonce, service_account().address, tip=self.max_fee * 2)
        try:
            self.testbed.send(raw)
        except Web3RPCError:
            return None
        self._foreign[tx_hash] = raw
        return f"somebody else uses the wallet: {tx_hash[:10]} with nonce {nonce}"

    def _open_gap(self) -> str | None:
        pending = self._pending()
        if len(pending) < 2:
            return None
        (lost_nonce, lost_hash), *later = pending
        self.testbed.rpc("anvil_dropTransaction", lost_hash)
        for _, tx_hash in later:
            try:
                self.testbed.send(self._raw(tx_hash))
            except Web3RPCError:
                return None
        return f"nonce {lost_nonce} is lost, {[nonce for nonce, _ in later]} wait for it"

    def _empty_wallet(self) -> str | None:
        if self._top_up_at is not None:
            return None
        self._top_up_at = self._attached().request_count + int(self.rng.integers(5, 25))
        self.testbed.engine.set_balance(service_account().address, EMPTY_WALLET_WEI)
        return f"the platform has {EMPTY_WALLET_WEI} wei"

    def _top_up(self) -> None:
        self._top_up_at = None
        self.testbed.engine.set_balance(service_account().address, FULL_WALLET_WEI)
        self._add_to_log("the platform's wallet is topped up")

    def _drop(self) -> str | None:
        pending = self._pending()
        if not pending:
            return None
        nonce, tx_hash = pending[int(self.rng.integers(len(pending)))]
        self.testbed.rpc("anvil_dropTransaction", tx_hash)
        return f"nonce {nonce} {tx_hash[:10]}"

    def _stop_blocks(self) -> str | None:
        self._requests_without_block = int(self.rng.integers(15, 50))
        return f"none for {self._requests_without_block} requests"

    def _raise_base_fee(self) -> str | None:
        fee = self.max_fee * int(self.rng.integers(110, 300)) // 100
        self.testbed.set_base_fee(fee)
        self.testbed.mine()
        return f"{fee} wei"

    def _reorg(self, effect: Reorg) -> str | None:
        """Replaces some of the latest blocks, none of which is final, if the service has a transaction in them."""
        head = self.testbed.head()
        deepest = min(self.confirmations - 1, head - self.testbed.first_block + 1)
        if deepest < 1:
            return None
        depth = int(self.rng.integers(1, deepest + 1))
        removed = self._transactions_of_last(depth, head)
        nonces = [
            tx["nonce"]
            for _, tx in removed
            if tx["from"] == service_account().address and tx["hash"].to_0x_hex() in self._attached().received
        ]
        if not nonces:
            return None
        self.testbed.rpc("anvil_reorg", depth, self._replacements(effect, depth, removed, nonces))
        return f"of {depth} blocks below {head}, nonces {nonces} {effect.value}"

    def _transactions_of_last(self, depth: int, head: int) -> list[tuple[int, Any]]:
        """Transactions of the last `depth` blocks, each with its block's offset from the first of them."""
        return [
            (offset, tx)
            for offset in range(depth)
            for tx in self.testbed.w3.eth.get_block(head - depth + 1 + offset, full_transactions=True)["transactions"]
        ]

    def _replacements(
        self, effect: Reorg, depth: int, removed: Sequence[tuple[int, Any]], nonces: Sequence[int]
    ) -> list[list[Any]]:
        """Raw transactions of the new blocks, each with the offset of its block, as `anvil_reorg` takes them."""
        match effect:
            case Reorg.DROP:
                return []
            case Reorg.MOVE:
                # to the last block; to the first one if all are in the last already
                last = depth - 1
                offset = last if any(old != last for old, _ in removed) else 0
                return [[self._raw(tx["hash"].to_0x_hex()), offset] for _, tx in removed]
            case Reorg.REPLACE:
                own = service_account()
                tx_hash, raw = self.testbed.sign(own, nonces[0], own.address, tip=self.max_fee)
                self._foreign[tx_hash] = raw
                return [[raw, int(self.rng.integers(depth))]]

    def _sell_out(self, raw: str) -> None:
        """Sells out the run that this transaction books, if it books any."""
        sold = sell_out(self.testbed, raw, tip=self.max_fee * 2)
        if sold is None:
            return
        self._at_next_send.discard(SOLD_OUT)
        self._foreign[sold.tx_hash] = sold.raw
        self.testbed.mine()
        self._count(SOLD_OUT, f"a stranger booked the last {sold.seats} seats of run {sold.onchain_run_id}")

    # -------------------------------------------------------------------------------------------------- helpers

    def _pending(self) -> list[tuple[int, str]]:
        """Nonces and hashes of the service's transactions in the mempool, by nonce."""
        mempool, received = self.testbed.mempool(service_account().address), self._attached().received
        return [(nonce, tx_hash) for nonce, tx_hash in sorted(mempool.items()) if tx_hash in received]

    def _raw(self, tx_hash: str) -> str:
        received = self._attached().received
        if tx_hash in received:
            return received[tx_hash].raw
        return self._foreign.get(tx_hash) or self.testbed.raw(tx_hash)

    def _attached(self) -> FaultyProvider:
        assert self._provider is not None, "call attach() first"
        return self._provider

    def _count(self, name: str, description: str) -> None:
        self.counts[name] += 1
        self._add_to_log(f"{name}: {description}")

    def _add_to_log(self, line: str) -> None:
        self.log.append((self._provider.request_count if self._provider else 0, line))
