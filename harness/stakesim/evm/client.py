"""Sends transactions and calls for the library itself, to any engine.

`RpcClient` signs and uses JSON-RPC. `InProcessClient` goes straight to an EVM in this process, without signatures.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_canonical_address
from web3 import Web3
from web3.exceptions import Web3RPCError
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint, RPCResponse

from stakesim.evm.abi import Log, checksummed
from stakesim.evm.engine import Engine
from stakesim.evm.errors import CallReverted, EngineError
from stakesim.evm.in_process.engine import InProcessEngine
from stakesim.evm.in_process.evm import Message, UnsignedTransaction, contract_address

BlockId: TypeAlias = int | str
"""A block number, "latest" or "pending"."""
TRANSACTION_GAS = 16_000_000
"""Gas limit of the client's transactions: just below `TRANSACTION_GAS_CAP`."""
MAX_FEE_PER_GAS = 10**11
"""Highest total fee that the client's transactions offer, in wei per gas."""
MAX_PRIORITY_FEE_PER_GAS = 10**9
"""Priority fee that the client's transactions offer, in wei per gas."""
_POLL_S = 0.001
_MINING_LIMIT_S = 60
"""Seconds within which a node mines a transaction."""


class TransactionReceipt(NamedTuple):
    """A mined transaction.

    Attributes:
        hash: The transaction hash in hex; None if the transaction was not signed.
        sender: Checksummed address.
        block_number: Number of its block.
        ok: Whether it succeeded.
        gas_used: Gas used after refunds.
        gas_price: Price paid, in wei per gas.
        logs: Logs in the order in which they were emitted.
        contract_address: Checksummed address of the contract that it created, if any.
    """

    hash: str | None
    sender: str
    block_number: int
    ok: bool
    gas_used: int
    gas_price: int
    logs: tuple[Log, ...]
    contract_address: str | None = None


class ChainClient(Protocol):
    """Sends transactions and calls to one chain.

    Attributes:
        signs: Whether transactions are signed, and so have a hash.
    """

    signs: bool

    def transact(
        self, sender: LocalAccount, to: str | None, data: bytes, value: int = 0, gas: int = TRANSACTION_GAS
    ) -> TransactionReceipt:
        """Mines a transaction, whether it succeeds or reverts.

        Args:
            sender: Pays `value` and the gas.
            to: Address of the contract to call; None creates a contract with `data` as its init code.
            data: Call data or init code.
            value: Amount to send, in wei.
            gas: Gas limit. Nothing is estimated.
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
        """Executes a call that changes nothing, and returns its data.

        Args:
            to: Address of the contract.
            data: Call data.
            sender: Address of the caller; None for the zero address.
            value: Amount to send, in wei.
            gas: Gas limit; None for the node's own.
            block: State to run the call on.

        Raises:
            CallReverted: The call reverted or ran out of gas.
        """
        ...

    def take_receipts(self) -> list[TransactionReceipt]:
        """Returns receipts of all transactions sent since the last call, by this client or through the engine's `w3`.

        A transaction that is not mined yet is left out, and is not returned later.
        """
        ...


def open_client(engine: Engine, *, direct: bool) -> ChainClient:
    """Opens a client of the engine's chain.

    Args:
        engine: The chain.
        direct: Whether to bypass signatures and JSON-RPC, where the engine is in this process.
    """
    if direct and isinstance(engine, InProcessEngine):
        return InProcessClient(engine)
    return RpcClient(engine.w3)


class RpcClient:
    """Sends signed transactions and calls over JSON-RPC, to any engine.

    It bypasses the methods of `w3.eth`, which take about 0.4 ms a request to check and convert fields: more than a
    fast node takes to answer.
    """

    signs = True

    def __init__(self, w3: Web3) -> None:
        self._w3 = w3
        self._chain_id = int(self._request("eth_chainId"), 16)
        self._receipts: dict[str, Any] = {}  # by transaction hash; None until somebody has requested the receipt
        w3.middleware_onion.add(_receipt_recorder(self._receipts), "sent")

    def transact(
        self, sender: LocalAccount, to: str | None, data: bytes, value: int = 0, gas: int = TRANSACTION_GAS
    ) -> TransactionReceipt:
        """See `ChainClient.transact`."""
        fields: dict[str, Any] = {
            "chainId": self._chain_id,
            "nonce": int(self._request("eth_getTransactionCount", sender.address, "latest"), 16),
            "data": data,
            "value": value,
            "gas": gas,
            "maxFeePerGas": MAX_FEE_PER_GAS,
            "maxPriorityFeePerGas": MAX_PRIORITY_FEE_PER_GAS,
            "type": 2,
        }
        if to is not None:
            fields["to"] = to
        signed = sender.sign_transaction(fields)
        self._request("eth_sendRawTransaction", signed.raw_transaction.to_0x_hex())
        tx_hash, deadline = signed.hash.to_0x_hex(), time.monotonic() + _MINING_LIMIT_S
        while (receipt := self._request("eth_getTransactionReceipt", tx_hash)) is None:
            if time.monotonic() > deadline:
                raise EngineError(
                    f"The node does not mine {tx_hash}: look whether it mines at all, and start it again."
                )
            time.sleep(_POLL_S)
        return _decode_receipt(receipt)

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
        """See `ChainClient.call`."""
        request = {"to": to, "data": "0x" + data.hex()}
        request |= {"from": sender} if sender else {}
        request |= {"value": hex(value)} if value else {}
        request |= {"gas": hex(gas)} if gas else {}
        try:
            result = self._request("eth_call", request, hex(block) if isinstance(block, int) else block)
        except Web3RPCError as error:
            rpc_error: Any = (error.rpc_response or {}).get("error") or {}
            raise CallReverted(str(rpc_error.get("message", error)), _revert_data(rpc_error.get("data"))) from error
        return _bytes(result)

    def take_receipts(self) -> list[TransactionReceipt]:
        """See `ChainClient.take_receipts`."""
        receipts = [
            receipt or self._request("eth_getTransactionReceipt", tx_hash)
            for tx_hash, receipt in self._receipts.items()
        ]
        self._receipts.clear()
        return [_decode_receipt(receipt) for receipt in receipts if receipt is not None]

    def _request(self, method: str, *params: Any) -> Any:
        return self._w3.manager.request_blocking(RPCEndpoint(method), list(params))


class InProcessClient:
    """Sends unsigned transactions and calls straight to the EVM of an engine in this process.

    Nonces, fees and gas are the same as for signed transactions.
    """

    signs = False

    def __init__(self, engine: InProcessEngine) -> None:
        self._chain = engine.chain
        self._receipts: list[TransactionReceipt] = []

    def transact(
        self, sender: LocalAccount, to: str | None, data: bytes, value: int = 0, gas: int = TRANSACTION_GAS
    ) -> TransactionReceipt:
        """See `ChainClient.transact`."""
        address = to_canonical_address(sender.address)
        chain = self._chain
        nonce = chain.evm.nonce(chain.pending, address)
        transaction = UnsignedTransaction(
            sender=address,
            nonce=nonce,
            to=to_canonical_address(to) if to else b"",
            value=value,
            data=data,
            gas=gas,
            max_fee_per_gas=MAX_FEE_PER_GAS,
            max_priority_fee_per_gas=MAX_PRIORITY_FEE_PER_GAS,
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
            gas_price=min(MAX_FEE_PER_GAS, MAX_PRIORITY_FEE_PER_GAS + block.header.base_fee_per_gas),
            logs=tuple(
                Log(checksummed(log.address), [bytes.fromhex(t[2:]) for t in log.topics], bytes.fromhex(log.data[2:]))
                for log in mined.logs
            ),
            contract_address=None if to else checksummed(contract_address(address, nonce)),
        )
        self._receipts.append(receipt)
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
        """See `ChainClient.call`."""
        chain = self._chain
        if block == "pending":
            header = chain.pending
        else:
            header = (chain.head if block == "latest" else chain.blocks[int(block)]).header
        result = chain.evm.execute(
            header,
            Message(
                sender=to_canonical_address(sender) if sender else bytes(20),
                to=to_canonical_address(to),
                value=value,
                data=data,
                gas=gas or header.gas_limit,
            ),
        )
        if result.error == "Revert":
            raise CallReverted("execution reverted", result.output)
        if result.error is not None:
            raise CallReverted(f"EVM error {result.error}")
        return result.output

    def take_receipts(self) -> list[TransactionReceipt]:
        """See `ChainClient.take_receipts`."""
        receipts, self._receipts = self._receipts, []
        return receipts


def _decode_receipt(receipt: Mapping[str, Any]) -> TransactionReceipt:
    return TransactionReceipt(
        hash=receipt["transactionHash"].lower(),
        sender=checksummed(receipt["from"]),
        block_number=int(receipt["blockNumber"], 16),
        ok=int(receipt["status"], 16) == 1,
        gas_used=int(receipt["gasUsed"], 16),
        gas_price=int(receipt["effectiveGasPrice"], 16),
        logs=tuple(
            Log(checksummed(log["address"]), [_bytes(topic) for topic in log["topics"]], _bytes(log["data"]))
            for log in receipt["logs"]
        ),
        contract_address=checksummed(receipt["contractAddress"]) if receipt.get("contractAddress") else None,
    )


def _bytes(digits: str) -> bytes:
    return bytes.fromhex(digits.removeprefix("0x"))


def _revert_data(data: Any) -> bytes:
    """Returns the data of a revert. Nodes send it in hex, in hex after "Reverted ", or inside an object."""
    while isinstance(data, Mapping):
        inner = next((value for value in data.values() if isinstance(value, Mapping)), None)
        data = data.get("data") or data.get("result") or inner
    text = str(data).removeprefix("Reverted ").strip()
    return _bytes(text) if text.startswith("0x") else b""


def _receipt_recorder(receipts: dict[str, Any]) -> type[Web3Middleware]:
    """Returns a middleware that records each transaction sent, and its receipt once somebody has requested it."""

    class ReceiptRecorder(Web3Middleware):
        def response_processor(self, method: RPCEndpoint, response: RPCResponse) -> RPCResponse:
            result: Any = response.get("result")
            if method == "eth_sendRawTransaction" and result:
                receipts[result] = None
            elif method == "eth_getTransactionReceipt" and result and result["transactionHash"] in receipts:
                receipts[result["transactionHash"]] = result
            return response

    return ReceiptRecorder
