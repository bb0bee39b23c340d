"""What happens around a service: blocks are mined or not, and the node-level faults, for real on anvil.

Everything happens just before a request of the service, in the thread of the service, so an episode is the same each
time it is played.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from app.services.codec import event_stake
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from web3.exceptions import Web3RPCError

from stakesim.faults.checks import Watch
from stakesim.faults.rpc_faults import SEND, Faulty
from stakesim.faults.testbed import ETH, MAX_FEE, Stage, platform, stranger

AROUND = {
    "foreign transaction takes the nonce": 8,
    "earlier transaction lost, a gap": 9,
    "wallet empty": 11,
    "dropped from the mempool": 12,
    "no block for long": 13,
    "base fee above the cap": 14,
    "reorg, another block": 15,
    "reorg, transaction dropped": 16,
    "reorg, foreign transaction instead": 17,
    "sold out between estimate and block": 18,
    "database gone after a send": 25,
}
"""Node-level faults and the database's, with their row in the table."""
POOR = 10**9
"""Wei of an empty wallet."""
STORM, STUCK = 60, 1_500
"""Requests, while one thing is asked, until nothing more goes wrong, and until it is taken to have no end."""
WORKER = 0.01
"""Chance of the other worker's round before a request."""


class Stuck(Exception):
    """The service goes on and on."""


@dataclass
class Weather:
    """pace: chance of a block before a request. rate: chance of a fault there; line_rate: of one in the request itself.
    wanted: faults to have happen first. worker: a round of another worker, which comes in between now and then.
    """

    stage: Stage
    watch: Watch
    rng: np.random.Generator
    pace: float
    rate: float
    wanted: list[str]
    line_rate: float = 0.0
    worker: Callable[[], None] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    journal: list[tuple[int, str]] = field(default_factory=list)
    database_is_gone: bool = False
    _line: Faulty | None = None
    _stalled: int = 0
    _poor_until: int | None = None
    _armed: set[str] = field(default_factory=set)
    _foreign: dict[str, str] = field(default_factory=dict)
    _began: int = 0
    _inside: bool = False

    def around(self, line: Faulty) -> None:
        """From now on it happens around the requests of this line."""
        self._line, line.before, line.after, line.mine = line, self.before, self.after, self._mine
        self.begin()

    def begin(self) -> None:
        """Something new is asked of the service. After a storm of `STORM` requests there is a lull, so that it ends."""
        assert self._line is not None
        self._began, self._line.rate = self._line.calls, self.line_rate
        self.database_back()

    def before(self, method: str, params: Sequence[Any]) -> None:
        assert self._line is not None
        lasted = self._line.calls - self._began
        if lasted > STUCK:
            raise Stuck(f"no end after {STUCK} requests, {STUCK - STORM} of them without faults")
        if lasted > STORM:
            self._line.rate = 0
            self.database_back()
        if not self.database_is_gone:
            self.watch.look()
            if method == SEND:
                self.watch.sending(str(params[0]))
        if self._poor_until is not None and self._line.calls >= self._poor_until:
            self._top_up()
        if lasted <= STORM and (self.wanted or self.rng.random() < self.rate):
            names = self.wanted or list(AROUND)
            name = names[int(self.rng.integers(len(names)))]
            self._happen(name)
        if method == SEND and "sold out between estimate and block" in self._armed:
            self._sell_out(str(params[0]))
        if self.worker and not self._inside and (self.rng.random() < WORKER or lasted % STORM == STORM - 1):
            self._inside = True
            try:
                self.worker()
            finally:
                self._inside = False
        if self._stalled:
            self._stalled -= 1
        elif self.rng.random() < self.pace:
            self._mine()

    def after(self, method: str, params: Sequence[Any]) -> None:
        if method == SEND and "database gone after a send" in self._armed:
            self._armed.discard("database gone after a send")
            self.stage.database_gone()
            self.database_is_gone = True
            self._note("database gone after a send", "nobody can connect")

    def database_back(self) -> None:
        if self.database_is_gone:
            self.stage.database_back()
            self.database_is_gone = False
            self._journal("the database is back")

    def quiet(self) -> None:
        """Everything is as it should be from now on."""
        self.rate, self.line_rate, self.wanted, self._stalled, self._armed = 0, 0, [], 0, set()
        self.database_back()
        self._began = 10**12  # what is left may take what it needs
        if self._poor_until is not None:
            self._top_up()
        self.stage.base_fee(10**9)
        self._mine()

    # ------------------------------------------------------------------------------------------------- what happens

    def _happen(self, name: str) -> None:
        happenings: dict[str, Callable[[], str | None]] = {
            "foreign transaction takes the nonce": self._usurp,
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

    def _usurp(self) -> str | None:
        if self.counts["foreign transaction takes the nonce"] >= 3:
            return None
        ours = self._pool()
        nonce = ours[int(self.rng.integers(len(ours)))][0] if ours else self.stage.nonce()
        tx_hash, raw = self.stage.sign(platform(), nonce, platform().address, tip=MAX_FEE * 2)
        try:
            self.stage.send(raw)
        except Web3RPCError:
            return None
        self._foreign[tx_hash] = raw
        return f"the wallet is used elsewhere: {tx_hash[:10]} with nonce {nonce}"

    def _open_gap(self) -> str | None:
        ours = self._pool()
        if len(ours) < 2:
            return None
        first, *later = ours
        self.stage.rpc("anvil_dropTransaction", first[1])
        for _, tx_hash in later:
            try:
                self.stage.send(self._raw(tx_hash))
            except Web3RPCError:
                return None
        return f"nonce {first[0]} is lost, {[nonce for nonce, _ in later]} wait for it"

    def _empty(self) -> str | None:
        if self._poor_until is not None:
            return None
        assert self._line is not None
        self._poor_until = self._line.calls + int(self.rng.integers(5, 25))
        self.stage.engine.set_balance(platform().address, POOR)
        return f"the platform has {POOR} wei"

    def _top_up(self) -> None:
        self._poor_until = None
        self.stage.engine.set_balance(platform().address, 1_000_000 * ETH)
        self._journal("the platform's wallet is topped up")

    def _drop(self) -> str | None:
        ours = self._pool()
        if not ours:
            return None
        nonce, tx_hash = ours[int(self.rng.integers(len(ours)))]
        self.stage.rpc("anvil_dropTransaction", tx_hash)
        return f"nonce {nonce} {tx_hash[:10]}"

    def _stall(self) -> str | None:
        self._stalled = int(self.rng.integers(15, 50))
        return f"none for {self._stalled} requests"

    def _spike(self) -> str | None:
        fee = MAX_FEE * int(self.rng.integers(110, 300)) // 100
        self.stage.base_fee(fee)
        self._mine()
        return f"{fee} wei"

    def _reorg(self, how: str) -> str | None:
        """As deep as it may be without touching what is final."""
        deepest = min(self.watch.confirmations - 1, self.stage.head() - self.stage.first_block + 1)
        if deepest < 1:
            return None
        depth = int(self.rng.integers(1, deepest + 1))
        head = self.stage.head()
        inside: list[tuple[int, Any]] = []
        for offset in range(depth):
            block = self.stage.w3.eth.get_block(head - depth + 1 + offset, full_transactions=True)
            inside += [(offset, tx) for tx in block["transactions"]]
        ours = [tx for _, tx in inside if tx["from"] == platform().address and tx["to"] == self.stage.site.contract]
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
            tx_hash, raw = self.stage.sign(platform(), nonces[0], platform().address, tip=MAX_FEE)
            self._foreign[tx_hash] = raw
            again = [[raw, int(self.rng.integers(depth))]]
        self.stage.rpc("anvil_reorg", depth, again)
        return f"of {depth} blocks below {head}, nonces {nonces} {how}"

    def _sell_out(self, raw: str) -> None:
        """Somebody books what is left, past the backend, just before a booking of ours is mined."""
        call = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()["data"]
        codec, contract = event_stake(), self.stage.site.contract
        selectors = {bytes(codec.call(contract, f, *a).data[:4]): at for f, a, at in _BOOKINGS}  # type: ignore[arg-type]
        at = selectors.get(bytes(call[:4]))
        if at is None:
            return
        run = int.from_bytes(call[4 + 32 * at : 36 + 32 * at], "big")
        seen = self.stage.w3.eth.call(
            {"to": contract, "data": codec.call(contract, "getEventRun", run).data}  # type: ignore[arg-type]
        )
        _, _, _, price, seats, booked, *_ = codec.result("getEventRun", seen)[0]
        left = seats - booked
        if left < 1:
            return
        self._armed.discard("sold out between estimate and block")
        payment = price * left
        by = stranger()
        tx_hash, theirs = self.stage.sign(
            by,
            self.stage.w3.eth.get_transaction_count(by.address),
            contract,
            codec.call(contract, "bookEvent", run, left).data,  # type: ignore[arg-type]
            payment + payment * 2_000 // 10_000,
            tip=MAX_FEE * 2,
        )
        self._foreign[tx_hash] = theirs
        self.stage.send(theirs)
        self._mine()
        self._note("sold out between estimate and block", f"a stranger booked the last {left} seats of run {run}")

    # ----------------------------------------------------------------------------------------------------- workings

    def _mine(self) -> None:
        self.stage.mine()

    def _pool(self) -> list[tuple[int, str]]:
        """Nonces and hashes of the services' transactions in the mempool, by nonce."""
        content = self.stage.rpc("txpool_content")
        waiting: dict[int, str] = {}
        for kind in ("pending", "queued"):
            for who, by_nonce in content[kind].items():
                if who.lower() == platform().address.lower():
                    waiting |= {int(nonce): tx["hash"] for nonce, tx in by_nonce.items()}
        assert self._line is not None
        return [(n, h) for n, h in sorted(waiting.items()) if h in self._line.arrivals]

    def _raw(self, tx_hash: str) -> str:
        assert self._line is not None
        if tx_hash in self._line.arrivals:
            return self._line.arrivals[tx_hash].raw
        return self._foreign[tx_hash]

    def _note(self, name: str, said: str) -> None:
        self.counts[name] += 1
        self._journal(f"{name}: {said}")

    def _journal(self, said: str) -> None:
        self.journal.append((self._line.calls if self._line else 0, said))


_BOOKINGS = (("bookEvent", (0, 0), 0), ("bookEventFor", ("0x" + "00" * 20, 0, 0), 1))
"""The functions that book, some arguments, and which of them is the run."""
