"""Blocks, and what is in them by its position."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stakesim.evm.in_process import raw_transaction, rpc_encoding
from stakesim.evm.in_process.chain import Block
from stakesim.evm.in_process.evm import UnsignedTransaction
from stakesim.evm.in_process.node import Methods
from stakesim.evm.in_process.node_core import NodeCore
from stakesim.evm.in_process.rpc_encoding import JsonObject, JsonValue
from stakesim.evm.in_process.rpc_error import INVALID_INPUT, INVALID_PARAMS, RpcError
from stakesim.evm.in_process.rpc_params import BlockParameter, Data, Number, data, integer

_HASH_DIGITS = 66
"""Digits of a block hash in hex, with the prefix. `eth_getBlockReceipts` takes a hash or a number."""


def methods(core: NodeCore) -> Methods:
    """Methods about blocks. Those that look something up return null if there is no such block or position."""
    by_position: dict[str, Callable[[Block, int], JsonValue]] = {
        "eth_getTransactionByBlock{}AndIndex": rpc_encoding.transaction,
        "eth_getRawTransactionByBlock{}AndIndex": _raw_transaction,
    }
    by_block: dict[str, Callable[[Block], JsonValue]] = {
        "eth_getBlockTransactionCountBy{}": lambda block: hex(len(block.transactions)),
        "eth_getUncleCountByBlock{}": lambda _: "0x0",
        "eth_getBlockReceipts": lambda block: [rpc_encoding.receipt(block, i) for i in range(len(block.receipts))],
    }
    return {
        **{
            name.format(kind): _at_position(core, encode, by_hash=kind == "Hash")
            for name, encode in by_position.items()
            for kind in ("Hash", "Number")
        },
        **{
            name.format(kind): _of_block(core, encode, by_hash=kind == "Hash")
            for name, encode in by_block.items()
            for kind in ("Hash", "Number")
        },
        "eth_getBlockReceipts": _of_block(core, by_block["eth_getBlockReceipts"], by_hash=False),
        "eth_getUncleByBlockHashAndIndex": lambda _hash, _index: None,
        "eth_getUncleByBlockNumberAndIndex": lambda _number, _index: None,
        "eth_getRawTransactionByHash": lambda tx_hash: _raw_by_hash(core, tx_hash),
        "eth_feeHistory": lambda count, newest, percentiles=(): _fee_history(core, count, newest, percentiles or ()),
    }


def _find(core: NodeCore, parameter: BlockParameter | bytes, *, by_hash: bool) -> Block | None:
    is_hash = by_hash or isinstance(parameter, bytes) or (isinstance(parameter, str) and len(parameter) == _HASH_DIGITS)
    try:
        return core.block({"blockHash": parameter} if is_hash else parameter)  # type: ignore[dict-item,arg-type]
    except RpcError:
        return None


def _of_block(core: NodeCore, encode: Callable[[Block], JsonValue], *, by_hash: bool) -> Callable[..., JsonValue]:
    def method(parameter: BlockParameter | bytes) -> JsonValue:
        block = _find(core, parameter, by_hash=by_hash)
        return None if block is None else encode(block)

    return method


def _at_position(
    core: NodeCore, encode: Callable[[Block, int], JsonValue], *, by_hash: bool
) -> Callable[..., JsonValue]:
    def method(parameter: BlockParameter | bytes, index: Number) -> JsonValue:
        block, position = _find(core, parameter, by_hash=by_hash), integer(index)
        return encode(block, position) if block is not None and position < len(block.transactions) else None

    return method


def _raw_transaction(block: Block, index: int) -> str:
    transaction = block.transactions[index]
    if isinstance(transaction, UnsignedTransaction):
        raise RpcError(INVALID_INPUT, "the transaction has no raw form, as it was not signed")
    return rpc_encoding.data(raw_transaction.encode(transaction))


def _raw_by_hash(core: NodeCore, transaction_hash: Data) -> str | None:
    hash_bytes = data(transaction_hash)
    block = core.chain.block_of(hash_bytes) or Block(core.chain.pending, None, core.mempool.waiting)
    found = [i for i, tx in enumerate(block.transactions) if tx.hash == hash_bytes]
    return _raw_transaction(block, found[0]) if found else None


def _fee_history(core: NodeCore, count: Number, newest: BlockParameter, percentiles: Sequence[float]) -> JsonObject:
    if any(not 0 <= percentile <= 100 for percentile in percentiles) or sorted(percentiles) != list(percentiles):
        raise RpcError(INVALID_PARAMS, "the percentiles must be from 0 to 100, in rising order")
    last = min(core.block(newest).number, core.chain.head.number)
    first = max(last - integer(count) + 1, 0)
    blocks = core.chain.blocks[first : last + 1]
    after = core.chain.pending if last == core.chain.head.number else core.chain.blocks[last + 1].header
    return {
        "oldestBlock": hex(first),
        "baseFeePerGas": [hex(header.base_fee_per_gas) for header in (*(block.header for block in blocks), after)],
        "gasUsedRatio": [block.header.gas_used / block.header.gas_limit for block in blocks],
        "baseFeePerBlobGas": ["0x1"] * (len(blocks) + 1),
        "blobGasUsedRatio": [0] * len(blocks),
        **({"reward": [_rewards(block, percentiles) for block in blocks]} if percentiles else {}),
    }


def _rewards(block: Block, percentiles: Sequence[float]) -> list[JsonValue]:
    """Returns the tips at percentiles of the block's gas, in hex."""
    tips = sorted(
        (rpc_encoding.effective_tip(block, tx), receipt.gas_used)
        for tx, receipt in zip(block.transactions, block.receipts, strict=True)
    )
    return [hex(_tip_at(tips, percentile)) for percentile in percentiles]


def _tip_at(tips: Sequence[tuple[int, int]], percentile: float) -> int:
    total, gas = sum(used for _, used in tips), 0
    for tip, used in tips:
        gas += used
        if gas * 100 >= total * percentile:
            return tip
    return 0
