"""Calls and transactions on a chain, whichever way they get there: signed and over JSON-RPC, or straight into an EVM in
this process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_canonical_address
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import Web3RPCError
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint, RPCResponse

from stakesim.evm.abi import Log, checksummed
from stakesim.evm.chain import Message, UnsignedTransaction
from stakesim.evm.engine import Engine
from stakesim.evm.errors import CallReverted, EngineError
from stakesim.evm.in_process import InProcess

BlockId: TypeAlias = int | str
"""A height, "latest" or "pending"."""
TRANSACTION_GAS = 16_000_000
"""Gas limit of transactions past the backend: just below the cap of one transaction."""
TRANSACTION_GAS_CAP = 16_777_216
"""The most gas that one transaction may have (EIP-7825)."""
MAX_FEE = 10**11
PRIORITY_FEE = 10**9
"""Wei per gas that transactions past the backend offer."""
_POLL_S = 0.001


class TransactionReceipt(NamedTuple):
    """A mined transaction. sender, contract_address: checksummed. gas_price: wei per gas, as paid."""

    hash: str | None
    sender: str
    block_number: int
    ok: bool
    gas_used: int
    gas_price: int
    logs: tuple[Log, ...]
    contract_address: str | None = None


class ChainAccess(Protocol):
    """What the library itself asks of a chain."""

    signs: bool
    """Whether transactions are signed and have a hash."""

    def transact(
        self, sender: LocalAccount, to: str | None, data: bytes, value: int = 0, gas: int = TRANSACTION_GAS
    ) -> TransactionReceipt:
        """Mines a transaction, whether it succeeds or reverts: the gas limit is given, so nothing is estimated.

        Args:
            sender: Who pays `value` (wei) and the gas.
            to: Whom it calls; None to create a contract with `data` as its init code.
        """
        ...

    def call(
        self,
        to: str,
        data: bytes,
        *,
        sender: str | None = None,
        value: int = 0,
        gas: int | None = None,
        block: BlockId = "latest",
    ) -> bytes:
        """Return data of a call that leaves no trace.

        Raises:
            CallReverted: The call reverted, or ran out of gas.
        """
        ...

    def sent(self) -> list[TransactionReceipt]:
        """Receipts of all transactions that anybody has sent since this was last asked."""
        ...


def open_access(engine: Engine, direct: bool) -> ChainAccess:
    """Access to the engine's chain.

    Args:
        direct: Straight into the EVM, without signatures, where the engine is in this process.
    """
    if direct and isinstance(engine, InProcess):
        return DirectAccess(engine)
    return RpcAccess(engine.w3)


class RpcAccess:
    """Signed transactions and calls over JSON-RPC, on any engine.

    The methods of `w3.eth` check and convert every field, which takes about 0.4 ms a request: longer than a fast node.
    """

    signs = True

    def __init__(self, w3: Web3) -> None:
        self._w3 = w3
        self._chain_id = int(self._request("eth_chainId"), 16)
        self._sent: dict[str, Any] = {}
        w3.middleware_onion.add(_recorder(self._sent), "sent")

    def transact(
        self, sender: LocalAccount, to: str | None, data: bytes, value: int = 0, gas: int = TRANSACTION_GAS
    ) -> TransactionReceipt:
        fields: dict[str, Any] = {
            "chainId": self._chain_id,
            "nonce": int(self._request("eth_getTransactionCount", sender.address, "latest"), 16),
            "data": data,
            "value": value,
            "gas": gas,
            "maxFeePerGas": MAX_FEE,
            "maxPriorityFeePerGas": PRIORITY_FEE,
            "type": 2,
        }
        if to is not None:
            fields["to"] = to
        signed = sender.sign_transaction(fields)
        self._request("eth_sendRawTransaction", signed.raw_transaction.to_0x_hex())
        tx_hash = signed.hash.to_0x_hex()
        while (receipt := self._request("eth_getTransactionReceipt", tx_hash)) is None:
            time.sleep(_POLL_S)
        return _read_receipt(receipt)

    def call(
        self,
        to: str,
        data: bytes,
        *,
        sender: str | None = None,
        value: int = 0,
        gas: int | None = None,
        block: BlockId = "latest",
    ) -> bytes:
        request = {"to": to, "data": "0x" + data.hex()}
        request |= {"from": sender} if sender else {}
        request |= {"value": hex(value)} if value else {}
        request |= {"gas": hex(gas)} if gas else {}
        try:
            result = self._request("eth_call", request, hex(block) if isinstance(block, int) else block)
        except Web3RPCError as error:
            answer: Any = (error.rpc_response or {}).get("error") or {}
            raise CallReverted(str(answer.get("message", error)), _revert_data(answer.get("data"))) from error
        return bytes(HexBytes(result))

    def sent(self) -> list[TransactionReceipt]:
        found = [known or self._request("eth_getTransactionReceipt", tx_hash) for tx_hash, known in self._sent.items()]
        self._sent.clear()
        return [_read_receipt(receipt) for receipt in found if receipt is not None]

    def _request(self, method: str, *params: Any) -> Any:
        return self._w3.manager.request_blocking(RPCEndpoint(method), list(params))


class DirectAccess:
    """Transactions and calls straight into the EVM of an engine in this process.

    Nonces, fees and gas are those that the same transactions have when they are signed.
    """

    signs = False

    def __init__(self, engine: InProcess) -> None:
        self._chain = engine.chain
        self._sent: list[TransactionReceipt] = []

    def transact(
        self, sender: LocalAccount, to: str | None, data: bytes, value: int = 0, gas: int = TRANSACTION_GAS
    ) -> TransactionReceipt:
        address = to_canonical_address(sender.address)
        chain = self._chain
        transaction = UnsignedTransaction(
            sender=address,
            nonce=chain.machine.nonce(chain.pending, address),
            to=to_canonical_address(to) if to else b"",
            value=value,
            data=data,
            gas=gas,
            max_fee_per_gas=MAX_FEE,
            max_priority_fee_per_gas=PRIORITY_FEE,
        )
        chain.mine([transaction])
        block = chain.head
        mined = block.receipts[0]
        receipt = TransactionReceipt(
            hash=None,
            sender=sender.address,
            block_number=block.number,
            ok=mined.ok,
            gas_used=mined.gas_used,
            gas_price=min(MAX_FEE, PRIORITY_FEE + block.header.base_fee_per_gas),
            logs=tuple(
                Log(checksummed(log.address), [bytes.fromhex(t[2:]) for t in log.topics], bytes.fromhex(log.data[2:]))
                for log in mined.logs
            ),
            contract_address=None if to else transaction.created_address,
        )
        self._sent.append(receipt)
        return receipt

    def call(
        self,
        to: str,
        data: bytes,
        *,
        sender: str | None = None,
        value: int = 0,
        gas: int | None = None,
        block: BlockId = "latest",
    ) -> bytes:
        chain = self._chain
        if block == "pending":
            header = chain.pending
        else:
            header = (chain.head if block == "latest" else chain.blocks[int(block)]).header
        run = chain.machine.execute(
            header,
            Message(
                sender=to_canonical_address(sender) if sender else bytes(20),
                to=to_canonical_address(to),
                value=value,
                data=data,
                gas=gas or header.gas_limit,
            ),
        )
        if run.error == "Revert":
            raise CallReverted("execution reverted", run.output)
        if run.error is not None:
            raise CallReverted(f"EVM error {run.error}")
        return run.output

    def sent(self) -> list[TransactionReceipt]:
        found, self._sent = self._sent, []
        return found


def deploy(access: ChainAccess, sender: LocalAccount, init_code: bytes, *, name: str, value: int = 0) -> str:
    """Creates a contract and returns its checksummed address.

    Args:
        init_code: Bytecode followed by the constructor's encoded arguments.
        name: For the error.
        value: Wei for the constructor.

    Raises:
        EngineError: Out of gas, or the constructor reverted.
    """
    receipt = access.transact(sender, None, init_code, value)
    if not receipt.ok or receipt.contract_address is None:
        raise EngineError(f"{name} could not be deployed: out of gas, or its constructor reverted")
    return receipt.contract_address


def _read_receipt(found: Mapping[str, Any]) -> TransactionReceipt:
    return TransactionReceipt(
        hash=HexBytes(found["transactionHash"]).to_0x_hex(),
        sender=checksummed(found["from"]),
        block_number=int(found["blockNumber"], 16),
        ok=int(found["status"], 16) == 1,
        gas_used=int(found["gasUsed"], 16),
        gas_price=int(found["effectiveGasPrice"], 16),
        logs=tuple(
            Log(checksummed(log["address"]), [bytes(HexBytes(t)) for t in log["topics"]], bytes(HexBytes(log["data"])))
            for log in found["logs"]
        ),
        contract_address=checksummed(found["contractAddress"]) if found.get("contractAddress") else None,
    )


def _revert_data(data: Any) -> bytes:
    """The data of a revert as nodes hand it on: in hex, in hex after a word, or inside an object."""
    while isinstance(data, Mapping):
        inner = next((value for value in data.values() if isinstance(value, Mapping)), None)
        data = data.get("data") or data.get("result") or inner
    text = str(data).removeprefix("Reverted ").strip()
    return bytes(HexBytes(text)) if text.startswith("0x") else b""


def _recorder(sent: dict[str, Any]) -> type[Web3Middleware]:
    """A middleware that notes each transaction that any code sends, and its receipt where somebody asks for it."""

    class Recorder(Web3Middleware):
        def response_processor(self, method: RPCEndpoint, response: RPCResponse) -> RPCResponse:
            result: Any = response.get("result")
            if method == "eth_sendRawTransaction" and result:
                sent[result] = None
            elif method == "eth_getTransactionReceipt" and result and result["transactionHash"] in sent:
                sent[result["transactionHash"]] = result
            return response

    return Recorder
