"""Access lists (EIP-2930)."""

from __future__ import annotations

from stakesim.evm.in_process import rpc_encoding
from stakesim.evm.in_process.node import Methods
from stakesim.evm.in_process.node_core import NodeCore
from stakesim.evm.in_process.rpc_encoding import JsonObject
from stakesim.evm.in_process.rpc_error import raise_if_failed
from stakesim.evm.in_process.rpc_params import BlockParameter, CallRequest, Overrides, state_overrides

_PRECOMPILES = {number.to_bytes(20) for number in range(1, 0x12)}


def methods(core: NodeCore) -> Methods:
    """Methods about access lists."""
    return {
        "eth_createAccessList": lambda request, block="latest", overrides=None: _create(core, request, block, overrides)
    }


def _create(core: NodeCore, request: CallRequest, block: BlockParameter, overrides: Overrides | None) -> JsonObject:
    """Returns the accounts and slots that a call needs, and the gas that it needs with this list, before refunds."""
    header, changes = core.header(block), state_overrides(overrides)
    message = core.message(request, core.gas_cap(request))
    raise_if_failed(core.execute(message, header, changes))
    # these are warm in any case, so that listing them alone costs more
    warm = {message.sender, message.to, bytes(header.coinbase), *_PRECOMPILES}
    found = core.evm.accesses(header, message, changes)
    entries = [(account, sorted(slots)) for account, slots in sorted(found.items()) if slots or account not in warm]
    result = core.execute(message._replace(access_list=entries), header, changes)
    return {"accessList": rpc_encoding.access_list(entries), "gasUsed": hex(result.gas_used)}
