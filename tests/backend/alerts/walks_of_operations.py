"""Walks through the alerts about operations, their nonces and the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from incidents import (
    answering_wrong,
    fall_behind,
    let_bookings_revert,
    limit_blocks,
    sent_run,
    wait_until_orphans_are_final,
)
from stand_in import StandIn
from walking import Reader
from walks import walk
from walks_of_nodes import NOT_READY, replacing

NO_ROOM = 21_000
"""Gas limit of blocks that none of the service's transactions fits into."""


@contextmanager
def blocks_without_room(s: StandIn) -> Iterator[None]:
    limit_blocks(s, NO_ROOM)
    try:
        yield
    finally:
        limit_blocks(s)


@walk("NonceGap", NOT_READY)
def operation_lost(s: StandIn) -> Iterator[Reader]:
    """The row of a sent transaction is lost, and the network drops it; the next one waits for its nonce."""
    with blocks_without_room(s):
        lost = sent_run(s)
        sent_run(s)
        s.query(f"DELETE FROM operations WHERE key = '{lost}'")
        s.rpc("anvil_dropAllTransactions")
        yield Reader(
            by_hand={'If it says "being filled"': lambda: limit_blocks(s)},
            leaves_out=('If it says "was used', 'If it says "more than'),
        )


@walk("OrphanTransactions", NOT_READY)
def somebody_used_the_key(s: StandIn) -> Iterator[Reader]:
    """A colleague sent ether with the platform's key."""
    s.send(s.platform, s.contract[:2] + "11" * 20, value=1)
    yield Reader(
        by_hand={"If `ready` prints a line `nonces`": s.wait_until_orphans_are_final},
        leaves_out=("If neither you nor the service", "If the database lost commits"),
    )


@walk("ForgedOperation")
def row_written_by_somebody_else(s: StandIn) -> Iterator[Reader]:
    s.query(
        "INSERT INTO operations (key, request, kind, chain_id, sender, to_address, data, value_wei, state, attempts) "
        f"VALUES ('forged:1', 'x', 'withdraw', {s.chain_id}, '{s.platform.address}', '{s.contract}', '', 1, "
        "'prepared', '[]')"
    )
    yield Reader(by_hand={"Change the database's password": lambda: None}, leaves_out=("Set a new one", "End the"))


@walk("OperationStuck", "BaseFeeAboveCap")
def blocks_have_no_room(s: StandIn) -> Iterator[Reader]:
    """The age is set in the row: nobody waits minutes for this test."""
    with blocks_without_room(s):
        key = sent_run(s)
        s.query(f"UPDATE operations SET created_at = now() - interval '10 minutes' WHERE key = '{key}'")
        yield Reader(leaves_out=("If the network is full",), by_hand={"If the client": lambda: limit_blocks(s)})


@walk("OperationHeld")
def gas_cannot_be_estimated(s: StandIn) -> Iterator[Reader]:
    with answering_wrong(s, "eth_estimateGas", "the state is being pruned"):
        s.order_run()
        yield replacing(s, "If the cause is `fees_at_cap`", "If the cause is `reorg`", "Try it again", "If others wait")


@walk("OperationsFailing")
def runs_are_cancelled_at_the_same_moment(s: StandIn) -> Iterator[Reader]:
    let_bookings_revert(s, 4)
    yield Reader(
        by_hand={"If the errors are those of the contract": lambda: None},
        leaves_out=("If the errors say", "If all new operations fail"),
    )


@walk("CursorLagging", NOT_READY, "NoNewBlocks")
def catching_up_after_an_outage(s: StandIn) -> Iterator[Reader]:
    fall_behind(s, 6_000)
    yield Reader(by_hand={"If the number falls": lambda: None}, leaves_out=("If it does not fall",))


@walk("ContractPaused", NOT_READY, "OrphanTransactions")
def owner_pauses(s: StandIn) -> Iterator[Reader]:
    s.call_as_owner("pause")
    yield Reader(
        by_hand={
            "Find out who paused it": lambda: None,
            "The owner calls `unpause()`": lambda: (s.call_as_owner("unpause"), wait_until_orphans_are_final(s)),
            "If `ready` prints a line `nonces`": lambda: wait_until_orphans_are_final(s),
        },
        leaves_out=("If neither you nor the service", "If the database lost commits"),
    )


@walk("ContractChanged", NOT_READY)
def code_replaced(s: StandIn) -> Iterator[Reader]:
    code = s.rpc("eth_getCode", s.contract, "latest")
    s.rpc("anvil_setCode", s.contract, code + "00")
    yield Reader(
        by_hand={"Find out who did it": lambda: s.rpc("anvil_setCode", s.contract, code)},
        leaves_out=("If it was not intended", "If it was intended"),
    )
