"""The faults of the chain: foreign nonces, gaps, empty wallets, lossy mempools, stopped blocks, high fees, reorgs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any

from web3.exceptions import Web3RPCError

from stakesim.faults.chain_faults import ChainFault, ChainFaults
from stakesim.faults.faulty_provider import SEND
from stakesim.faults.sell_out import sell_out
from stakesim.faults.testbed import service_account

FOREIGN_NONCE = "foreign transaction takes the nonce"
NONCE_GAP = "earlier transaction lost, a gap"
EMPTY_WALLET = "wallet empty"
DROPPED = "dropped from the mempool"
NO_BLOCK = "no block for long"
HIGH_BASE_FEE = "base fee above the cap"
REORG_MOVES = "reorg, another block"
REORG_DROPS = "reorg, transaction dropped"
REORG_REPLACES = "reorg, foreign transaction instead"
DEEP_REORG = "reorg deeper than the confirmations"
SOLD_OUT = "sold out between estimate and block"
DATABASE_GONE = "database gone after a send"
HOUR_WITHOUT_BLOCK = "no block for an hour"
CLOCK_JUMP = "clock jumps"
EMPTY_WALLET_WEI = 10**9
"""Balance of an empty wallet."""
MAX_FOREIGN_NONCES = 3
"""How often in an episode a foreign transaction takes a nonce."""
CLOCK_JUMPS_S = (5, 20, 70, 3_600, 86_400)
"""Seconds by which the service's clock jumps."""


class Reorg(Enum):
    """What a reorg does to the service's transactions. The value is the verb in the log."""

    MOVE = "moved"
    DROP = "dropped"
    REPLACE = "replaced"


def _take_nonce(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    if faults.counts[FOREIGN_NONCE] >= MAX_FOREIGN_NONCES:
        return None
    testbed, pending = faults.testbed, faults.pending()
    nonce = pending[faults.choose("pending", range(len(pending)))][0] if pending else testbed.nonce()
    tx_hash, raw = testbed.sign(service_account(), nonce, service_account().address, tip=faults.max_fee * 2)
    try:
        testbed.send(raw)
    except Web3RPCError:
        return None
    faults.foreign[tx_hash] = raw
    return f"somebody else uses the wallet: {tx_hash[:10]} with nonce {nonce}"


def _open_gap(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    pending = faults.pending()
    if len(pending) < 2:
        return None
    (lost_nonce, lost_hash), *later = pending
    faults.testbed.rpc("anvil_dropTransaction", lost_hash)
    for _, tx_hash in later:
        with suppress(Web3RPCError):  # the node kept it
            faults.testbed.send(faults.raw(tx_hash))
    return f"nonce {lost_nonce} is lost, {[nonce for nonce, _ in later]} wait for it"


def _empty_wallet(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    if faults.top_up_at is not None:
        return None
    faults.top_up_at = faults.provider.request_count + faults.choose("requests", range(5, 25))
    faults.testbed.engine.set_balance(service_account().address, EMPTY_WALLET_WEI)
    return f"the platform has {EMPTY_WALLET_WEI} wei"


def _drop(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    pending = faults.pending()
    if not pending:
        return None
    nonce, tx_hash = pending[faults.choose("pending", range(len(pending)))]
    faults.testbed.rpc("anvil_dropTransaction", tx_hash)
    return f"nonce {nonce} {tx_hash[:10]}"


def _stop_blocks(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    faults.requests_without_block = faults.choose("requests", range(15, 50))
    return f"none for {faults.requests_without_block} requests"


def _stop_blocks_for_an_hour(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    faults.clock.sleep(3_600)
    return _stop_blocks(faults, params)


def _let_clock_jump(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    seconds = faults.choose("seconds", CLOCK_JUMPS_S)
    faults.clock.sleep(seconds)
    return f"by {seconds} s"


def _raise_base_fee(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    fee = faults.max_fee * faults.choose("percent of the cap", range(110, 300)) // 100
    faults.testbed.set_base_fee(fee)
    faults.mine()
    return f"{fee} wei"


def _reorg(effect: Reorg, faults: ChainFaults, params: Sequence[Any]) -> str | None:
    """Replaces some of the latest blocks, none of which is final, if the service has a transaction in them."""
    deepest = min(faults.confirmations - 1, faults.testbed.head() - faults.testbed.first_block + 1)
    if deepest < 1:
        return None
    return _reorg_of(faults.choose("depth", range(1, deepest + 1)), effect, faults)


def _deep_reorg(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    """Replaces blocks that the service takes as final; its transactions move, or are dropped."""
    depth = faults.choose("depth", range(faults.confirmations, faults.confirmations + 4))
    if depth > faults.testbed.head() - faults.testbed.first_block + 1:
        return None
    return _reorg_of(depth, Reorg(faults.choose("effect", (Reorg.MOVE.value, Reorg.DROP.value))), faults)


def _reorg_of(depth: int, effect: Reorg, faults: ChainFaults) -> str | None:
    head = faults.testbed.head()
    removed = _transactions_of_last(faults, depth, head)
    nonces = [
        tx["nonce"]
        for _, tx in removed
        if tx["from"] == service_account().address and tx["hash"].to_0x_hex() in faults.provider.received
    ]
    if not nonces:
        return None
    faults.testbed.rpc("anvil_reorg", depth, _replacements(effect, faults, depth, removed, nonces))
    return f"of {depth} blocks below {head}, nonces {nonces} {effect.value}"


def _transactions_of_last(faults: ChainFaults, depth: int, head: int) -> list[tuple[int, Any]]:
    """Transactions of the last `depth` blocks, each with its block's offset from the first of them."""
    return [
        (offset, tx)
        for offset in range(depth)
        for tx in faults.testbed.w3.eth.get_block(head - depth + 1 + offset, full_transactions=True)["transactions"]
    ]


def _replacements(
    effect: Reorg, faults: ChainFaults, depth: int, removed: Sequence[tuple[int, Any]], nonces: Sequence[int]
) -> list[list[Any]]:
    """Raw transactions of the new blocks, each with the offset of its block, as `anvil_reorg` takes them."""
    match effect:
        case Reorg.DROP:
            return []
        case Reorg.MOVE:
            # to the last block; to the first one if all are in the last already
            last = depth - 1
            offset = last if any(old != last for old, _ in removed) else 0
            return [[faults.raw(tx["hash"].to_0x_hex()), offset] for _, tx in removed]
        case Reorg.REPLACE:
            own = service_account()
            tx_hash, raw = faults.testbed.sign(own, nonces[0], own.address, tip=faults.max_fee)
            faults.foreign[tx_hash] = raw
            return [[raw, faults.choose("block", range(depth))]]


def _sell_out(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    """Sells out the run that this transaction books, if it books any."""
    sold = sell_out(faults.testbed, str(params[0]), tip=faults.max_fee * 2)
    if sold is None:
        return None
    faults.foreign[sold.tx_hash] = sold.raw
    faults.mine()
    return f"a stranger booked the last {sold.seats} seats of run {sold.onchain_run_id}"


def _stop_database(faults: ChainFaults, params: Sequence[Any]) -> str | None:
    if faults.database_gone or faults.hooks.stop_database is None:
        return None
    faults.hooks.stop_database()
    faults.database_gone = True
    return "no connection is accepted"


CHAIN_FAULTS: tuple[ChainFault, ...] = (
    ChainFault(FOREIGN_NONCE, 8, _take_nonce),
    ChainFault(NONCE_GAP, 9, _open_gap),
    ChainFault(EMPTY_WALLET, 11, _empty_wallet),
    ChainFault(DROPPED, 12, _drop),
    ChainFault(NO_BLOCK, 13, _stop_blocks),
    ChainFault(HIGH_BASE_FEE, 14, _raise_base_fee),
    ChainFault(REORG_MOVES, 15, partial(_reorg, Reorg.MOVE)),
    ChainFault(REORG_DROPS, 16, partial(_reorg, Reorg.DROP)),
    ChainFault(REORG_REPLACES, 17, partial(_reorg, Reorg.REPLACE)),
    ChainFault(SOLD_OUT, 18, _sell_out, methods=[SEND], needs=("bookEvent", "getEventRun")),
    ChainFault(DATABASE_GONE, 25, _stop_database, methods=[SEND], after=True),
    ChainFault(CLOCK_JUMP, 28, _let_clock_jump),
    ChainFault(DEEP_REORG, 33, _deep_reorg),
    ChainFault(HOUR_WITHOUT_BLOCK, 41, _stop_blocks_for_an_hour),
)
"""All faults of this module, each with a unique name."""
