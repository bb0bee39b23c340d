"""The chain on which faults happen: an anvil whose blocks the caller mines, with a deployed contract.

Independent of the service under test, whose transactions are those that `service_account()` signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from http.client import HTTPConnection
from typing import Any, cast
from urllib.parse import urlsplit

from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from web3.providers import HTTPProvider, JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from stakesim.evm.anvil import AnvilEngine
from stakesim.evm.chain_spec import CHAIN_ID, engine_accounts
from stakesim.evm.compiler import Artifact, compile_contracts
from stakesim.evm.deployment import init_code
from stakesim.evm.errors import EngineError
from stakesim.evm.lean_web3 import lean_web3
from stakesim.evm.required_abi import codec_of
from stakesim.faults.episode_clock import BLOCK_S
from stakesim.scenario.actions import Terms

HEADROOM = 40
"""Blocks between the deployment and the first episode, so that no reorg reaches the deployment."""
GWEI = 10**9
ETH = 10**18
MAX_FEE = 20 * GWEI
"""Highest fee that the service pays, in wei per gas."""
FOREIGN_FEE = 100 * GWEI
"""Highest fee of transactions that are not the service's, in wei per gas: well above the service's."""
_TIMEOUT_S = 30


def service_account() -> LocalAccount:
    """Account that the service under test signs with."""
    return engine_accounts()[0]


def stranger() -> LocalAccount:
    """Account of somebody who uses the contract without the service."""
    return engine_accounts()[-1]


class LocalNodeProvider(JSONBaseProvider):
    """A provider for a local node over one connection. `HTTPProvider` takes several times as long as the node."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_S)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Sends one request and returns the response."""
        body = self.encode_rpc_request(method, params)
        self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
        return self.decode_rpc_response(self._connection.getresponse().read())


class FaultTestbed:
    """One chain for one episode after another. No fault applies to its own methods.

    Attributes:
        engine: The anvil. It mines only when `mine` is called.
        w3: Connected to the same node by a `LocalNodeProvider`.
        rpc_url: URL of the node, for providers of the service under test.
        contract: Checksummed address of the deployed contract.
        abi: ABI of the contract.
        terms: Terms of `EventStake`; without meaning for another contract.
        first_block: Number of the first block of an episode.

    Args:
        artifact: The contract to deploy; by default `EventStake`, owned by the service.
        args: Arguments of its constructor.

    Raises:
        EngineError: anvil is missing, or the contract can't be deployed.
    """

    def __init__(self, artifact: Artifact | None = None, args: Sequence[Any] = ()) -> None:
        self.terms = Terms()
        if artifact is None:
            artifact, args = compile_contracts()["EventStake"], (service_account().address, self.terms.as_struct())
        self.abi = codec_of(artifact.abi)
        self.engine = AnvilEngine()
        try:
            self.rpc_url = str(cast(HTTPProvider, self.engine.w3.provider).endpoint_uri)
            self.w3 = lean_web3(LocalNodeProvider(self.rpc_url))
            self.contract = self._deploy(artifact, tuple(args))
            self.rpc("evm_setAutomine", False)
            self.rpc("anvil_setBlockTimestampInterval", int(BLOCK_S))
            self.mine(HEADROOM)
            self._start = self.engine.snapshot()
            self.first_block = self.head() + 1
        except BaseException:
            self.engine.close()
            raise

    def close(self) -> None:
        """Stops the node."""
        self.engine.close()

    def reset(self) -> None:
        """Restores chain and mempool to the state before the first episode."""
        self.engine.revert(self._start)
        self.rpc("anvil_dropAllTransactions")

    def provider(self) -> LocalNodeProvider:
        """A new connection to the node, without faults."""
        return LocalNodeProvider(self.rpc_url)

    def rpc(self, method: str, *params: Any) -> Any:
        """Sends a request and returns its result.

        Raises:
            Web3RPCError: The node answers with an error.
        """
        return self.w3.manager.request_blocking(RPCEndpoint(method), list(params))

    def mine(self, blocks: int = 1) -> None:
        """Mines blocks."""
        if blocks == 1:
            self.rpc("evm_mine")
        else:
            self.rpc("anvil_mine", hex(blocks))

    def head(self) -> int:
        """Number of the latest block."""
        return self.w3.eth.block_number

    def nonce(self, block: int | str = "latest") -> int:
        """Number of the service's transactions that are mined up to this block."""
        return self.w3.eth.get_transaction_count(service_account().address, block)  # type: ignore[arg-type]

    def set_base_fee(self, wei: int) -> None:
        """Sets the base fee of the next block, in wei per gas. Later base fees follow from it."""
        self.rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))

    def raw(self, tx_hash: str) -> str:
        """Raw bytes of a mined transaction, as 0x-prefixed hex."""
        return str(self.rpc("debug_getRawTransaction", tx_hash))

    def mempool(self, address: str) -> dict[int, str]:
        """Hashes of the transactions of this sender that wait in the mempool, by nonce."""
        content = self.rpc("txpool_content")
        waiting: dict[int, str] = {}
        for kind in ("pending", "queued"):
            for sender, by_nonce in content[kind].items():
                if sender.lower() == address.lower():
                    waiting |= {int(nonce): transaction["hash"] for nonce, transaction in by_nonce.items()}
        return waiting

    def sign(
        self, by: LocalAccount, nonce: int, to: str, data: bytes = b"", value: int = 0, *, tip: int = 5 * GWEI
    ) -> tuple[str, str]:
        """Signs a transaction that does not come from the service.

        Args:
            by: Sender.
            nonce: Of the sender.
            to: Address of the receiver.
            data: Calldata.
            value: Wei.
            tip: Wei per gas.

        Returns:
            Hash and signed transaction, both 0x-prefixed hex.
        """
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": nonce,
            "to": to,
            "value": value,
            "data": data,
            "gas": 1_000_000 if data else 21_000,
            "maxFeePerGas": FOREIGN_FEE,
            "maxPriorityFeePerGas": tip,
        }
        signed = by.sign_transaction(fields)
        return signed.hash.to_0x_hex(), signed.raw_transaction.to_0x_hex()

    def send(self, raw: str) -> None:
        """Sends a signed transaction, 0x-prefixed hex.

        Raises:
            Web3RPCError: The node rejects it.
        """
        self.w3.eth.send_raw_transaction(HexBytes(raw))

    def _deploy(self, artifact: Artifact, args: tuple[Any, ...]) -> str:
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": 0,
            "data": init_code(artifact, args),
            "gas": 10_000_000,
            "maxFeePerGas": FOREIGN_FEE,
            "maxPriorityFeePerGas": GWEI,
        }
        sent = self.w3.eth.send_raw_transaction(service_account().sign_transaction(fields).raw_transaction)
        receipt = self.w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.002)
        if receipt["status"] != 1:
            raise EngineError(f"{artifact.name} could not be deployed: out of gas, or its constructor reverted.")
        return str(receipt["contractAddress"])
