"""Faults of the chain around a service: blocks that come or don't, reorgs, a full or lossy mempool, an empty wallet.

They are real, on the anvil of a `FaultTestbed`, and work for any service that sends transactions through a
`FaultyProvider`. Everything happens just before a request of the service, in the service's thread, so the same random
numbers give the same episode. What they need of the service itself goes through `ServiceHooks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hexbytes import HexBytes
from web3.exceptions import Web3RPCError

from stakesim.faults.rpc_faults import SEND, FaultyProvider, decode_raw
from stakesim.faults.testbed import ETH, MAX_FEE, FaultTestbed, service_account, stranger

FOREIGN_NONCE = "foreign transaction takes the nonce"
SOLD_OUT = "sold out between estimate and block"
DATABASE_GONE = "database gone after a send"
CHAIN_FAULTS = {
    FOREIGN_NONCE: 8,
    "earlier transaction lost, a gap": 9,
    "wallet empty": 11,
    "dropped from the mempool": 12,
    "no block for long": 13,
    "base fee above the cap": 14,
    "reorg, another block": 15,
    "reorg, transaction dropped": 16,
    "reorg, foreign transaction instead": 17,
    SOLD_OUT: 18,
    DATABASE_GONE: 25,
}
"""Faults of the chain, and of the service's database, with their row in the catalogue."""
EMPTY_WALLET = 10**9
"""Wei of an empty wallet."""
STORM = 60
"""Requests, from the start of one thing that is asked of the service, during which faults happen."""
STUCK = 1_500
"""Requests after which the same thing is taken to have no end."""
OTHER_WORKER = 0.01
"""Chance of the other worker's round before a request."""
_NEVER = 10**12


class Stuck(Exception):
    """The service goes on and on, though faults are over."""


@dataclass
class ServiceHooks:
    """What chain faults need of the service under test.

    Attributes:
        before_request: Called before each request, and so before each block; not while the database is gone. The place
            to look at the service's own records.
        before_send: Called with each raw transaction, 0x-prefixed hex, that the service is about to send.
        stop_database: Makes the service's database unreachable. None: it has none, so that fault does not happen.
        start_database: Brings it back.
        other_worker: One round of another worker of the service, whose requests go through the same provider. None:
            there is one worker.
    """

    before_request: Callable[[], None] = lambda: None
    before_send: Callable[[str], None] = lambda raw: None
    stop_database: Callable[[], None] | None = None
    start_database: Callable[[], None] = lambda: None
    other_worker: Callable[[], None] | None = None


@dataclass
class ChainFaults:
    """Lets blocks and faults happen around the requests of a service. A block is mined only after `before_request`.

    Attributes:
        testbed: The chain.
        rng: Decides what happens, and when.
        block_rate: Chance of a block before a request.
        rate: Chance of a chain fault before a request.
        rpc_rate: Chance of a fault in the request itself, while faults happen at all.
        wanted: Names of faults to have happen first.
        confirmations: Depth at which the service takes a block for final; reorgs stay above it.
        max_fee: Cap of what the service pays, in wei per gas.
        hooks: Of the service.
        counts: How often each fault happened.
        log: Number of the request, and what happened before it.
    """

    testbed: FaultTestbed
    rng: np.random.Generator
    block_rate: float
    rate: float
    wanted: list[str]
    confirmations: int
    rpc_rate: float = 0.0
    max_fee: int = MAX_FEE
    hooks: ServiceHooks = field(default_factory=ServiceHooks)
    counts: Counter[str] = field(default_factory=Counter)
    log: list[tuple[int, str]] = field(default_factory=list)
    database_is_gone: bool = False
    _provider: FaultyProvider | None = None
    _stalled: int = 0
    _poor_until: int | None = None
    _armed: set[str] = field(default_factory=set)
    _foreign: dict[str, str] = field(default_factory=dict)
    _began: int = 0
    _inside: bool = False

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
        """Lets things happen around the requests of this provider from now on."""
        self._provider, provider.before, provider.after = provider, self.before, self.after
        provider.mine = self._mine
        self.begin()

    def begin(self) -> None:
        """Call when something new is asked of the service: `STORM` requests with faults, then none, so that it ends."""
        provider = self._attached()
        self._began, provider.rate = provider.calls, self.rpc_rate
        self.database_back()

    def before(self, method: str, params: Sequence[Any]) -> None:
        """Called before each request.

        Raises:
            Stuck: More than `STUCK` requests since `begin`.
        """
        provider = self._attached()
        lasted = provider.calls - self._began
        if lasted > STUCK:
            raise Stuck(f"no end after {STUCK} requests, {STUCK - STORM} of them without faults")
        if lasted > STORM:
            provider.rate = 0
            self.database_back()
        if not self.database_is_gone:
            self.hooks.before_request()
            if method == SEND:
                self.hooks.before_send(str(params[0]))
        if self._poor_until is not None and provider.calls >= self._poor_until:
            self._top_up()
        if lasted <= STORM and (self.wanted or self.rng.random() < self.rate):
            names = self.wanted or self.possible
            self._happen(names[int(self.rng.integers(len(names)))])
        if method == SEND and SOLD_OUT in self._armed:
            self._sell_out(str(params[0]))
        other = self.hooks.other_worker
        if other and not self._inside and (self.rng.random() < OTHER_WORKER or lasted % STORM == STORM - 1):
            self._inside = True
            try:
                other()
            finally:
                self._inside = False
        if self._stalled:
            self._stalled -= 1
        elif self.rng.random() < self.block_rate:
            self._mine()

    def after(self, method: str, params: Sequence[Any]) -> None:
        """Called after each request."""
        if method == SEND and DATABASE_GONE in self._armed and self.hooks.stop_database:
            self._armed.discard(DATABASE_GONE)
            self.hooks.stop_database()
            self.database_is_gone = True
            self._note(DATABASE_GONE, "nobody can connect")

    def database_back(self) -> None:
        """Brings the service's database back, if a fault took it away."""
        if self.database_is_gone:
            self.hooks.start_database()
            self.database_is_gone = False
            self._tell("the database is back")

    def quiet(self) -> None:
        """Ends all faults, undoes what they left behind, and mines a block."""
        self.rate, self.rpc_rate, self.wanted, self._stalled, self._armed = 0, 0, [], 0, set()
        self.database_back()
        self._began = _NEVER  # what is left may take what it needs
        if self._poor_until is not None:
            self._top_up()
        self.testbed.set_base_fee(10**9)
        self._mine()

    # ------------------------------------------------------------------------------------------------- what happens

    def _happen(self, name: str) -> None:
        happenings: dict[str, Callable[[], str | None]] = {
            FOREIGN_NONCE: self._take_nonce,
            "earlier transaction lost, a gap": self._open_gap,
            "wallet empty": self._empty,
            "dropped from the mempool": self._drop,
            "no block for long": self._stall,
            "base fee above the cap": self._spike,
            "reorg, another block": lambda: self._reorg("moved"),
            "reorg, transaction dropped": lambda: self._reorg("dropped"),
            "reorg, foreign transaction instead": lambda: self._reorg("replaced"),
        }
        if name not in happenings:
            self._armed.add(name)
            self.wanted = [other for other in self.wanted if other != name]
            return
        said = happenings[name]()
        if said is not None:
            self.wanted = [other for other in self.wanted if other != name]
            self._note(name, said)

    def _take_nonce(self) -> str | None:
        if self.counts[FOREIGN_NONCE] >= 3:
            return None
        ours = self._pool()
        nonce = ours[int(self.rng.integers(len(ours)))][0] if ours else self.testbed.nonce()
        tx_hash, raw = self.testbed.sign(service_account(), nonce, service_account().address, tip=self.max_fee * 2)
        try:
            self.testbed.send(raw)
        except Web3RPCError:
            return None
        self._foreign[tx_hash] = raw
        return f"the wallet is used elsewhere: {tx_hash[:10]} with nonce {nonce}"

    def _open_gap(self) -> str | None:
        ours = self._pool()
        if len(ours) < 2:
            return None
        first, *later = ours
        self.testbed.rpc("anvil_dropTransaction", first[1])
        for _, tx_hash in later:
            try:
                self.testbed.send(self._raw(tx_hash))
            except Web3RPCError:
                return None
        return f"nonce {first[0]} is lost, {[nonce for nonce, _ in later]} wait for it"

    def _empty(self) -> str | None:
        if self._poor_until is not None:
            return None
        self._poor_until = self._attached().calls + int(self.rng.integers(5, 25))
        self.testbed.engine.set_balance(service_account().address, EMPTY_WALLET)
        return f"the platform has {EMPTY_WALLET} wei"

    def _top_up(self) -> None:
        self._poor_until = None
        self.testbed.engine.set_balance(service_account().address, 1_000_000 * ETH)
        self._tell("the platform's wallet is topped up")

    def _drop(self) -> str | None:
        ours = self._pool()
        if not ours:
            return None
        nonce, tx_hash = ours[int(self.rng.integers(len(ours)))]
        self.testbed.rpc("anvil_dropTransaction", tx_hash)
        return f"nonce {nonce} {tx_hash[:10]}"

    def _stall(self) -> str | None:
        self._stalled = int(self.rng.integers(15, 50))
        return f"none for {self._stalled} requests"

    def _spike(self) -> str | None:
        fee = self.max_fee * int(self.rng.integers(110, 300)) // 100
        self.testbed.set_base_fee(fee)
        self._mine()
        return f"{fee} wei"

    def _reorg(self, how: str) -> str | None:
        """As deep as it may be without touching what is final."""
        deepest = min(self.confirmations - 1, self.testbed.head() - self.testbed.first_block + 1)
        if deepest < 1:
            return None
        depth = int(self.rng.integers(1, deepest + 1))
        head = self.testbed.head()
        inside: list[tuple[int, Any]] = []
        for offset in range(depth):
            block = self.testbed.w3.eth.get_block(head - depth + 1 + offset, full_transactions=True)
            inside += [(offset, tx) for tx in block["transactions"]]
        arrivals = self._attached().arrivals
        by_service = [tx for _, tx in inside if tx["from"] == service_account().address]
        ours = [tx for tx in by_service if tx["hash"].to_0x_hex() in arrivals]
        if not ours:
            return None
        nonces = [tx["nonce"] for tx in ours]
        again: list[list[Any]] = []
        if how == "moved":
            lowest, highest = inside[0][0], depth - 1
            at = highest if any(offset != highest for offset, _ in inside) else 0
            if depth == 1 or (at == lowest == highest):
                at = 0
            again = [[self._raw(tx["hash"].to_0x_hex()), at] for _, tx in inside]
        elif how == "replaced":
            tx_hash, raw = self.testbed.sign(service_account(), nonces[0], service_account().address, tip=self.max_fee)
            self._foreign[tx_hash] = raw
            again = [[raw, int(self.rng.integers(depth))]]
        self.testbed.rpc("anvil_reorg", depth, again)
        return f"of {depth} blocks below {head}, nonces {nonces} {how}"

    def _sell_out(self, raw: str) -> None:
        """Somebody books what is left, past the service, just before a booking of the service is mined."""
        call, abi, contract = decode_raw(raw).data, self.testbed.abi, self.testbed.contract
        selectors = {abi.encode(function, *args)[:4]: at for function, args, at in _BOOKINGS if function in abi}
        at = selectors.get(call[:4])
        if at is None:
            return
        run = int.from_bytes(call[4 + 32 * at : 36 + 32 * at], "big")
        seen = self.testbed.rpc("eth_call", {"to": contract, "data": _hex(abi.encode("getEventRun", run))}, "latest")
        _, _, _, price, seats, booked, *_ = abi.decode("getEventRun", bytes(HexBytes(seen)))[0]
        left = seats - booked
        if left < 1:
            return
        self._armed.discard(SOLD_OUT)
        payment = price * left
        by = stranger()
        tx_hash, theirs = self.testbed.sign(
            by,
            self.testbed.w3.eth.get_transaction_count(by.address),
            contract,
            abi.encode("bookEvent", run, left),
            payment + payment * self.testbed.terms.stake_bps // 10_000,
            tip=self.max_fee * 2,
        )
        self._foreign[tx_hash] = theirs
        self.testbed.send(theirs)
        self._mine()
        self._note(SOLD_OUT, f"a stranger booked the last {left} seats of run {run}")

    # ----------------------------------------------------------------------------------------------------- workings

    def _mine(self) -> None:
        self.testbed.mine()

    def _pool(self) -> list[tuple[int, str]]:
        """Nonces and hashes of the service's transactions in the mempool, by nonce."""
        waiting, arrivals = self.testbed.mempool(service_account().address), self._attached().arrivals
        return [(nonce, tx_hash) for nonce, tx_hash in sorted(waiting.items()) if tx_hash in arrivals]

    def _raw(self, tx_hash: str) -> str:
        arrivals = self._attached().arrivals
        if tx_hash in arrivals:
            return arrivals[tx_hash].raw
        return self._foreign.get(tx_hash) or self.testbed.raw(tx_hash)

    def _attached(self) -> FaultyProvider:
        assert self._provider is not None, "attach() comes first"
        return self._provider

    def _note(self, name: str, said: str) -> None:
        self.counts[name] += 1
        self._tell(f"{name}: {said}")

    def _tell(self, said: str) -> None:
        self.log.append((self._provider.calls if self._provider else 0, said))


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


_BOOKINGS = (("bookEvent", (0, 0), 0), ("bookEventFor", ("0x" + "00" * 20, 0, 0), 1))
"""Functions that book, arguments that fit them, and the index of the argument that is the run."""
