"""Walks through the alerts about operations, their nonces and the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from incidents import (
    answering_wrong,
    confirmed_run,
    dropping,
    let_bookings_revert,
    refusing_to_close,
    sent_runs,
    states,
)
from stand_in import StandIn, wait_for
from walking import Reader
from walks import walk
from walks_of_nodes import NOT_READY, replacing


@walk("NonceGap", NOT_READY, "OperationHeld")
def operation_lost(s: StandIn) -> Iterator[Reader]:
    """The row of a sent transaction is lost, and the network drops it; the next one waits for its nonce."""

    def lose(keys: list[str]) -> None:
        s.control("stop")  # the process that sent it would send it again
        s.query(f"DELETE FROM operations WHERE key = '{keys[0]}'")
        s.rpc("anvil_dropAllTransactions")
        s.set_base_fee(5_000)
        s.rpc("evm_mine")  # before the service looks, so that the gap is not filled at once
        s.control("start")

    sent_runs(s, 2, lose)
    yield Reader(
        by_hand={'If it says "being filled"': lambda: s.set_base_fee(1)},
        leaves_out=('If it says "was used', 'If it says "more than'),
    )


@walk("OrphanTransactions", NOT_READY)
def somebody_used_the_key(s: StandIn) -> Iterator[Reader]:
    """A colleague sent ether with the platform's key."""
    confirmed_run(s)  # without any row of the account, nobody could tell
    s.rpc("anvil_setIntervalMining", 4)
    s.send(s.platform, "0x" + "11" * 20, value=1)
    yield Reader(
        by_hand={"If `ready` prints a line `nonces`": lambda: wait_for(lambda: not s.ready(), "it is final")},
        leaves_out=("If neither you nor the service", "If the database lost commits"),
    )


@walk("ForgedOperation")
def row_written_by_somebody_else(s: StandIn) -> Iterator[Reader]:
    s.query(
        "INSERT INTO operations (key, request, kind, chain_id, sender, to_address, data, value_wei, state, attempts) "
        f"VALUES ('forged:1', 'x', 'withdraw', {s.chain_id}, '{s.platform.address}', '{s.contract}', '', 1, "
        "'prepared', '[]')"
    )
    yield Reader(by_hand={"Change the database's password": lambda: None})


@walk("OperationStuck")
def network_drops_its_transaction(s: StandIn) -> Iterator[Reader]:
    """The age is set in the row: nobody waits minutes for this test."""
    with ExitStack() as network:
        network.enter_context(dropping(s))
        key = s.order_run().json()["key"]
        s.query(f"UPDATE operations SET created_at = now() - interval '10 minutes' WHERE key = '{key}'")
        yield Reader(leaves_out=("If the client",), by_hand={"If the network is full": network.close})


@walk("AboveLimit")
def run_above_the_limit(s: StandIn) -> Iterator[Reader]:
    s.order_run(seats=200)
    yield Reader(leaves_out=("If you do not know of this order", "If it is not wanted"))


@walk("AboveLimit")
def unwanted_run_above_the_limit(s: StandIn) -> Iterator[Reader]:
    s.order_run(seats=200)
    yield Reader(leaves_out=("If you do not know of this order", "If it is wanted"))


@walk("ServicePaused")
def operator_pauses(s: StandIn) -> Iterator[Reader]:
    s.run('stakesim pause --reason "a test" --env-file "$ENV_FILE"', {}, must_succeed=True)
    yield Reader(by_hand={"Ask who paused it": lambda: None})


@walk("OperationHeld")
def gas_cannot_be_estimated(s: StandIn) -> Iterator[Reader]:
    with answering_wrong(s, "eth_estimateGas", "the state is being pruned"):
        s.order_run()
        yield replacing(
            s,
            "If the cause is `fees_at_cap`",
            "If the cause is `reorg`",
            "If the cause is `signer`",
            "If the cause is `unpaid`",
            "Try it again",
            "If others wait",
        )


@walk("OperationsFailing")
def runs_are_cancelled_at_the_same_moment(s: StandIn) -> Iterator[Reader]:
    let_bookings_revert(s, 4)
    yield Reader(
        by_hand={"If the errors are those of the contract": lambda: None},
        leaves_out=("If the errors say", "If all new operations fail"),
    )


@walk("CursorLagging")
def mined_run_does_not_close(s: StandIn) -> Iterator[Reader]:
    with refusing_to_close(s):
        s.order_run()
        wait_for(lambda: "mined" in states(s), "the run is mined")
        s.rpc("anvil_mine", hex(40))
        yield Reader(
            by_hand={"If it does not fall": lambda: s.query("DROP FUNCTION refuse() CASCADE")},
            leaves_out=("If the number falls",),
        )


@walk("ContractPaused", NOT_READY, "OrphanTransactions")
def owner_pauses(s: StandIn) -> Iterator[Reader]:
    s.call_as_owner("pause")
    by_owner = {
        "Find out who paused it": lambda: None,
        "The owner calls `unpause()`": lambda: s.call_as_owner("unpause"),
    }
    yield Reader(by_hand=by_owner)


@walk("ContractChanged", NOT_READY)
def code_replaced(s: StandIn) -> Iterator[Reader]:
    code = s.rpc("eth_getCode", s.contract, "latest")
    s.rpc("anvil_setCode", s.contract, code + "00")
    yield Reader(
        by_hand={"Find out who did it": lambda: s.rpc("anvil_setCode", s.contract, code)},
        leaves_out=("If it was not intended", "If it was intended"),
    )
