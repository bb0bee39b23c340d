"""Replaces the block of a backend's transaction, for actions of a scenario that ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from stakesim.evm.engine import Engine, Snapshot
from stakesim.runner.network import Network


class _Plan(NamedTuple):
    effect: Literal["moved", "dropped"]
    before: Snapshot
    time_before: int


class Reorganisation:
    """A reorganisation of the chain by one block, at a moment that the backend's adapter names.

    The block of the last transaction is replaced by an empty one. The transaction is mined again in the block after it,
    when the network or the backend sends it again, at the same time as before: so all that the contract stores is as if
    nothing had happened.
    """

    def __init__(self, engine: Engine, network: Network) -> None:
        """Reorganises the chain of an engine, whose requests of the backend go through `network`."""
        self._engine, self._network = engine, network
        self._plan: _Plan | None = None

    @contextmanager
    def planned(self, effect: Literal["moved", "dropped"] | None) -> Iterator[None]:
        """Within this context, the first call of this object reorganises the chain, if there is an effect.

        Args:
            effect: What becomes of the transaction that is sent within the context; None: nothing happens.
        """
        if effect is not None and not self._network.holds_pending:
            self._plan = _Plan(effect, self._engine.snapshot(), self._engine.now())
        try:
            yield
        finally:
            self._plan = None

    def __call__(self, reconcile: Callable[[], None]) -> None:
        """Reorganises the chain if that is planned, as `ScenarioSetup.reorganise` says.

        Nothing happens if no transaction was sent, or if there is no second between its block and the one before it.

        Args:
            reconcile: Called before and after it.
        """
        plan, self._plan = self._plan, None
        raw, time = self._network.last_sent, self._engine.now()
        if plan is None or raw is None or time - 1 <= plan.time_before:
            return
        reconcile()
        self._engine.revert(plan.before)
        self._engine.set_next_timestamp(time - 1)
        self._engine.mine()
        self._engine.set_next_timestamp(time)
        if plan.effect == "moved":
            self._network.send_again(raw)
        reconcile()
