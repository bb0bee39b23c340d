"""Where faults happen: an anvil whose blocks the caller mines, and a contract on it.

Nothing here knows the service under test. Its transactions are those that `service_account()` signs.
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

from stakesim.evm.abi import ContractAbi
from stakesim.evm.anvil import AnvilEngine
from stakesim.evm.chain_spec import CHAIN_ID, engine_accounts
from stakesim.evm.compiler import Artifact, compile_contracts
from stakesim.evm.deployment import init_code
from stakesim.evm.errors import EngineError
from stakesim.evm.lean_web3 import lean_web3
from stakesim.scenario.actions import Terms

HEADROOM = 40
"""Blocks before an episode begins, so that no fault reaches back to the deployment."""
GWEI = 10**9
ETH = 10**18
MAX_FEE = 20 * GWEI
"""Cap of what the service pays, in wei per gas."""
FOREIGN_FEE = 100 * GWEI
"""Cap of what transactions past the service pay, in wei per gas: well above the service's."""
_TIMEOUT_S = 30


def service_account() -> LocalAccount:
    """The account that the service under test signs with."""
    return engine_accounts()[0]


def stranger() -> LocalAccount:
    """Somebody who uses the contract past the service."""
    return engine_accounts()[-1]


class Wire(JSONBaseProvider):
    """A provider for a local node over one connection: `HTTPProvider` takes several times as long as the node."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_S)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        body = self.encode_rpc_request(method, params)
        self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
        return self.decode_rpc_response(self._connection.getresponse().read())


class FaultTestbed:
    """One chain for one episode after another. All its methods go past every fault.

    Attributes:
        engine: The anvil. It mines only when `mine` is called.
        w3: On the same node, over a `Wire`.
        rpc_url: Of the node, for providers of the service under test.
        contract: Checksummed address of the deployed contract.
        abi: Of the contract.
        terms: That `EventStake` is deployed with, where it is the contract.
        first_block: Height of the first block of an episode.

    Args:
        artifact: The contract to deploy; `EventStake`, owned by the service, if left out.
        args: Arguments of its constructor.

    Raises:
        EngineError: There is no anvil, or the contract can't be deployed.
    """

    def __init__(self, artifact: Artifact | None = None, args: Sequence[Any] = ()) -> None:
        self.terms = Terms()
        if artifact is None:
            artifact, args = compile_contracts()["EventStake"], (service_account().address, self.terms.as_struct())
        self.abi = ContractAbi(artifact.abi)
        self.engine = AnvilEngine()
        try:
            self.rpc_url = str(cast(HTTPProvider, self.engine.w3.provider).endpoint_uri)
            self.w3 = lean_web3(Wire(self.rpc_url))
            self.contract = self._deploy(artifact, tuple(args))
            self.rpc("evm_setAutomine", False)
            for _ in range(HEADROOM):
                self.mine()
            self._start = self.engine.snapshot()
            self.first_block = self.head() + 1
        except BaseException:
            self.engine.close()
            raise

    def close(self) -> None:
        self.engine.close()

    def reset(self) -> None:
        """Puts chain and mempool back to the state right after the deployment."""
        self.engine.revert(self._start)
        self.rpc("anvil_dropAllTransactions")

    def provider(self) -> Wire:
        """A new connection to the node, without faults."""
        return Wire(self.rpc_url)

    def rpc(self, method: str, *params: Any) -> Any:
        """Result of a request.

        Raises:
            Web3RPCError: The node answers with an error.
        """
        return self.w3.manager.request_blocking(RPCEndpoint(method), list(params))

    def mine(self) -> None:
        self.rpc("evm_mine")

    def head(self) -> int:
        """Height of the latest block."""
        return self.w3.eth.block_number

    def nonce(self, block: int | str = "latest") -> int:
        """How many of the service's transactions are mined, up to this block."""
        return self.w3.eth.get_transaction_count(service_account().address, block)  # type: ignore[arg-type]

    def set_base_fee(self, wei: int) -> None:
        """Sets the base fee of the next block, in wei per gas; later ones follow from it."""
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
        self, by: LocalAccount, nonce: int, to: str, data: bytes = b"", value: int = 0, tip: int = 5 * GWEI
    ) -> tuple[str, str]:
        """Signs a transaction past the service.

        Args:
            value: Wei.
            tip: Wei per gas.

        Returns:
            Its hash and its raw bytes, both as 0x-prefixed hex.
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
        """Sends a raw transaction.

        Raises:
            Web3RPCError: The node refuses it.
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
