"""Blocks and faults of the chain around the requests of a service.

All faults are real: they happen on the anvil of a `FaultTestbed`, to any service that sends transactions through a
`FaultyProvider`. They happen just before or after a request of the service and in the service's thread, so the same
events give the same episode. `ServiceHooks` connects the faults to the service itself; `chain_actions` has the faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any

from stakesim.errors import StakesimError
from stakesim.faults.episode_clock import BLOCK_S, REQUEST_S, EpisodeClock
from stakesim.faults.episode_script import BLOCK, OTHER_WORKER
from stakesim.faults.events import EventSource, T
from stakesim.faults.faulty_provider import SEND, FaultyProvider
from stakesim.faults.testbed import ETH, GWEI, MAX_FEE, FaultTestbed, service_account

FULL_WALLET_WEI = 1_000_000 * ETH
"""Balance after the wallet is topped up."""
FAULTY_REQUESTS = 60
"""Requests at the start of each operation during which events happen. After them a block comes every second request."""
MAX_REQUESTS = 1_500
"""Requests after which an operation counts as endless."""
_UNLIMITED = 10**12
"""As `_requests_before_operation`: the operation may take any number of requests, and no fault happens."""


class ServiceStuckError(StakesimError):
    """The service does not finish an operation, though no more faults happen."""


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
        extra: Further faults of the service's surroundings, by name: each is called before a request, and returns what
            happened, or None if it does not apply.
    """

    before_request: Callable[[], None] = lambda: None
    before_send: Callable[[str], None] = lambda raw: None
    stop_database: Callable[[], None] | None = None
    start_database: Callable[[], None] = lambda: None
    other_worker: Callable[[], None] | None = None
    extra: dict[str, Callable[[], str | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class ChainFault:
    """Something that happens to the chain, or to the service's database.

    Attributes:
        name: Unique.
        row: Number in `stakesim.faults.catalogue`.
        action: Lets it happen, and says what happened. Returns None, without side effects, if it can't happen now.
        methods: JSON-RPC methods of the requests around which it happens; None for all.
        after: Whether it happens after the request, not before.
        needs: Functions that the contract must have.
    """

    name: str
    row: int
    action: Callable[[ChainFaults, Sequence[Any]], str | None]
    _: KW_ONLY
    methods: Collection[str] | None = None
    after: bool = False
    needs: Collection[str] = ()


@dataclass
class ChainFaults:
    """Mines blocks and injects faults around the requests of a service.

    Attributes:
        testbed: The chain.
        events: Decides what happens, and when; the same object as the provider's.
        faults: Faults that can happen.
        confirmations: Depth at which the service takes a block as final. All reorgs but `DEEP_REORG` are less deep.
        max_fee: Cap of what the service pays, in wei per gas.
        hooks: Connection to the service.
        clock: The service's clock.
        counts: How often each fault happened, by name.
        log: Number of the request, and what happened before it.
        foreign: Raw transactions past the service, by hash.
        undo: What ends the lasting effects of faults, by name, in the order in which they began.
        database_gone: Whether a fault made the service's database unreachable.
        requests_without_block: Number of requests for which no block is mined.
        top_up_at: Number of the request before which the empty wallet is topped up.
    """

    testbed: FaultTestbed
    events: EventSource
    faults: Sequence[ChainFault]
    _: KW_ONLY
    confirmations: int
    max_fee: int = MAX_FEE
    hooks: ServiceHooks = field(default_factory=ServiceHooks)
    clock: EpisodeClock = field(default_factory=EpisodeClock)
    counts: Counter[str] = field(default_factory=Counter)
    log: list[tuple[int, str]] = field(default_factory=list)
    foreign: dict[str, str] = field(default_factory=dict)
    undo: dict[str, Callable[[], None]] = field(default_factory=dict)
    database_gone: bool = False
    requests_without_block: int = 0
    top_up_at: int | None = None
    _provider: FaultyProvider | None = None
    _requests_before_operation: int = 0
    _in_other_worker: bool = False
    _names_by_request: dict[tuple[str, bool], list[str]] = field(default_factory=dict)

    @property
    def possible(self) -> list[str]:
        """Names of the faults that can happen to this service on this contract."""
        return [fault.name for fault in self.faults if self._is_possible(fault)] + list(self.hooks.extra)

    @property
    def provider(self) -> FaultyProvider:
        """The service's provider."""
        assert self._provider is not None, "call attach() first"
        return self._provider

    def attach(self, provider: FaultyProvider) -> None:
        """From now on, blocks and faults happen around the requests of this provider."""
        self._provider, provider.before, provider.after = provider, self.before_request, self.after_request
        provider.mine = self.mine
        self.begin_operation()

    def begin_operation(self) -> None:
        """Starts a new operation of the service.

        Events happen during its first `FAULTY_REQUESTS` requests, and then none, so that the operation can end.
        """
        self._requests_before_operation, self.events.quiet = self.provider.request_count, False
        self.restore_database()

    def mine(self) -> None:
        """Mines a block, and advances the service's clock."""
        self.testbed.mine()
        self.clock.sleep(BLOCK_S)

    def before_request(self, method: str, params: Sequence[Any]) -> None:
        """Lets things happen before a request.

        Raises:
            ServiceStuckError: The operation takes more than `MAX_REQUESTS` requests.
        """
        self.clock.sleep(REQUEST_S)
        requests = self._requests_of_operation()
        if requests > FAULTY_REQUESTS:
            self.events.quiet = True
            self.restore_database()
            self.requests_without_block = 0
            if requests % 2:
                self.mine()
        if not self.database_gone:
            self.hooks.before_request()
            if method == SEND:
                self.hooks.before_send(str(params[0]))
        if self.top_up_at is not None and self.provider.request_count >= self.top_up_at:
            self.top_up()
        self._let_happen(method, params, after=False)
        if self.requests_without_block:
            self.requests_without_block -= 1

    def after_request(self, method: str, params: Sequence[Any]) -> None:
        """Lets things happen after a request."""
        if self._names(method, after=True):
            self._let_happen(method, params, after=True)

    def restore_database(self) -> None:
        """Makes the service's database reachable again, if a fault took it away."""
        if self.database_gone:
            self.hooks.start_database()
            self.database_gone = False
            self.add_to_log("the database is back")

    def top_up(self) -> None:
        """Fills the service's wallet."""
        self.top_up_at = None
        self.testbed.engine.set_balance(service_account().address, FULL_WALLET_WEI)
        self.add_to_log("the platform's wallet is topped up")

    def stop(self) -> None:
        """Ends all faults, undoes their lasting effects, and mines a block. From then on, no limit applies."""
        self.provider.stop()
        self.requests_without_block, self._requests_before_operation = 0, _UNLIMITED
        self.restore_database()
        self.top_up()  # in any case: a reorg may have taken back an earlier one
        for undo in self.undo.values():
            undo()
        self.undo.clear()
        self.testbed.set_base_fee(GWEI)
        self.mine()

    def choose(self, name: str, options: Sequence[T]) -> T:
        """Chooses one of the options for the fault in progress; the choice is recorded under this name."""
        return self.events.choose(name, options)

    def pending(self) -> list[tuple[int, str]]:
        """Nonces and hashes of the service's transactions in the mempool, by nonce."""
        mempool, received = self.testbed.mempool(service_account().address), self.provider.received
        return [(nonce, tx_hash) for nonce, tx_hash in sorted(mempool.items()) if tx_hash in received]

    def raw(self, tx_hash: str) -> str:
        """Raw bytes of a transaction, as 0x-prefixed hex."""
        received = self.provider.received
        if tx_hash in received:
            return received[tx_hash].raw
        return self.foreign.get(tx_hash) or self.testbed.raw(tx_hash)

    def add_to_log(self, line: str) -> None:
        """Adds a line to the log, with the number of the request."""
        self.log.append((self._provider.request_count if self._provider else 0, line))

    # -------------------------------------------------------------------------------------------------- helpers

    def _is_possible(self, fault: ChainFault) -> bool:
        is_database_fault = fault.after  # the only fault after a request takes the database away
        has_functions = all(function in self.testbed.abi for function in fault.needs)
        return has_functions and not (is_database_fault and self.hooks.stop_database is None)

    def _let_happen(self, method: str, params: Sequence[Any], *, after: bool) -> None:
        """Lets the events before or after a request happen."""
        at = self.provider.address
        for name in self.events.around(at, self._names(method, after=after), after=after):
            description = self.events.attempt(at, name, partial(self._happen, name, params))
            if description:
                self.counts[name] += 1
                self.add_to_log(f"{name}: {description}")

    def _names(self, method: str, *, after: bool) -> list[str]:
        """Names of the faults that can happen before or after a request with this method."""
        if (method, after) not in self._names_by_request:
            self._names_by_request[method, after] = [
                *(
                    fault.name
                    for fault in self.faults
                    if fault.after == after and method in (fault.methods or [method]) and self._is_possible(fault)
                ),
                *(() if after else self.hooks.extra),
            ]
        return self._names_by_request[method, after]

    def _happen(self, name: str, params: Sequence[Any]) -> str | None:
        """Returns what happened; "" for what is no fault; None if it does not apply."""
        if name == BLOCK:
            return self._mine_unless_stopped()
        if name == OTHER_WORKER:
            return self._run_other_worker()
        if name in self.hooks.extra:
            return self.hooks.extra[name]()
        return next(fault for fault in self.faults if fault.name == name).action(self, params)

    def _mine_unless_stopped(self) -> str | None:
        if self.requests_without_block:
            return None
        self.mine()
        return ""

    def _run_other_worker(self) -> str | None:
        if self.hooks.other_worker is None or self._in_other_worker:
            return None
        self._in_other_worker = True
        try:
            self.hooks.other_worker()
        finally:
            self._in_other_worker = False
        return ""

    def _requests_of_operation(self) -> int:
        requests = self.provider.request_count - self._requests_before_operation
        if requests > MAX_REQUESTS:
            raise ServiceStuckError(
                f"The operation has no end after {MAX_REQUESTS} requests, {MAX_REQUESTS - FAULTY_REQUESTS} of them "
                "without new faults."
            )
        return requests
