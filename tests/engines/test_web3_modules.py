"""web3.py's own tests of its modules (`web3._utils.module_testing`) on a client of each engine's development node."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stakesim.evm
from stakesim.evm.chain_spec import engine_accounts
from web3 import Web3
from web3._utils.contract_sources.contract_data._custom_contract_data import EMITTER_ENUM
from web3._utils.contract_sources.contract_data.emitter_contract import EMITTER_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.math_contract import MATH_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.offchain_lookup import OFFCHAIN_LOOKUP_DATA
from web3._utils.contract_sources.contract_data.panic_errors_contract import PANIC_ERRORS_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.revert_contract import REVERT_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.storage_contract import STORAGE_CONTRACT_DATA
from web3._utils.module_testing import (
    EthModuleTest,
    GoEthereumTxPoolModuleTest,
    NetModuleTest,
    Web3ModuleTest,
)
from web3._utils.module_testing.utils import RequestMocker
from web3.contract import Contract
from web3.types import BlockData, RPCEndpoint

pytestmark = [pytest.mark.slow, pytest.mark.sampled(3)]
"""Below the deep profile each test runs on one of the engines, drawn by the commit."""

HELD_BACK = re.compile(
    r"test_eth_(replace_transaction|modify_transaction|get_transaction_receipt_unmined|wait_.*_unmined)"
)
"""Tests of transactions that wait for a block: the node mines on request only, while they run."""
MINED_AT_ONCE = ("already_mined", "non_existing")
"""Those of them that need a mined transaction."""

ENS = "web3 8.0.0 can't read ENS names beside pyunormalize 18, on any node"
TYPED_DATA = (
    "it expects an exception of web3, which leaves this check to the node and raises another for the node's answer"
)
EXPECTED_FAILURES = {
    ".*_ens_(name|names|address)|test_solidity_keccak_ens": ("py-evm revm anvil", ENS),
    "test_invalid_eth_sign_typed_data": ("py-evm revm anvil", TYPED_DATA),
    "test_eth_simulate_v1": ("py-evm revm", "it asks for the ether that moves within calls, which revm does not tell"),
    "test_sign_authorization_send_raw.*": ("revm", "revm has the rules of Cancun, which knows no such transaction"),
    "test_eth_create_access_list": ("anvil", "the gas that anvil gives for the access list is too little"),
    "test_eth_sign_typed_data": ("anvil", "anvil has eth_signTypedData_v4 only"),
    "test_eth_sign_transaction(_legacy|_hex_fees)?": ("anvil", "anvil answers with the raw transaction alone"),
    "test_eth_modify_transaction": ("anvil", "anvil gives a waiting transaction two kinds of fees"),
    "test_eth_getBlockByHash_pending": ("anvil", "anvil gives the pending block a hash"),
    "test_eth_get_logs_without_logs": ("anvil", "anvil takes a range that ends before it begins"),
    "test_eth_get_logs_with_logs_none_topic_args": ("anvil", "anvil matches logs with fewer topics than asked for"),
    "test_net_peer_count": ("anvil", "anvil has no such method"),
}
"""Tests that can't pass: on which engines, and why. Of web3's modules for geth alone (`admin`, `debug`) and for
asynchronous clients none is run: the node has no peers, no servers, no tracer, and no asynchronous provider."""


@pytest.fixture(autouse=True)
def expected_failure(request: pytest.FixtureRequest, engine: str) -> None:
    for name, (engines, reason) in EXPECTED_FAILURES.items():
        if re.fullmatch(name, request.node.originalname) and engine in engines.split():
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(autouse=True)
def held_back(request: pytest.FixtureRequest, w3: Web3) -> Iterator[None]:
    """Lets transactions wait for a block where a test needs it."""
    name = request.node.originalname
    waits = HELD_BACK.match(name) and not name.endswith(MINED_AT_ONCE)
    if waits:
        request_of(w3, "evm_setAutomine", False)
    yield
    if waits:
        request_of(w3, "evm_setAutomine", True)
        request_of(w3, "evm_mine")


@pytest.fixture(scope="module", autouse=True)
def history(w3: Web3, txn_hash_with_log: Any) -> None:
    """The log that tests look for is the first of the chain, and some blocks are there to ask for."""
    for _ in range(6):
        request_of(w3, "evm_mine")


@pytest.fixture(scope="module", params=["py-evm", "revm", pytest.param("anvil", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def w3(engine: str) -> Web3:
    return Web3(stakesim.evm.provider(engine))


def request_of(w3: Web3, method: str, *params: Any) -> Any:
    return w3.manager.request_blocking(RPCEndpoint(method), list(params))


def deployed(w3: Web3, contract: Any) -> Contract:
    return w3.eth.contract(
        w3.eth.wait_for_transaction_receipt(deployment(w3, contract))["contractAddress"], abi=contract["abi"]
    )


def deployment(w3: Web3, contract: Any) -> Any:
    return w3.eth.contract(**contract).constructor().transact({"from": w3.eth.accounts[0]})


@pytest.fixture(scope="module")
def math_contract_deploy_txn_hash(w3: Web3) -> Any:
    return deployment(w3, MATH_CONTRACT_DATA)


@pytest.fixture(scope="module")
def math_contract(w3: Web3) -> Contract:
    return deployed(w3, MATH_CONTRACT_DATA)


@pytest.fixture(scope="module")
def math_contract_address(math_contract: Contract) -> str:
    return math_contract.address


@pytest.fixture(scope="module")
def storage_contract(w3: Web3) -> Contract:
    return deployed(w3, STORAGE_CONTRACT_DATA)


@pytest.fixture(scope="module")
def emitter_contract(w3: Web3) -> Contract:
    return deployed(w3, EMITTER_CONTRACT_DATA)


@pytest.fixture(scope="module")
def emitter_contract_address(emitter_contract: Contract) -> str:
    return emitter_contract.address


@pytest.fixture(scope="module")
def revert_contract(w3: Web3) -> Contract:
    return deployed(w3, REVERT_CONTRACT_DATA)


@pytest.fixture(scope="module")
def offchain_lookup_contract(w3: Web3) -> Contract:
    return deployed(w3, OFFCHAIN_LOOKUP_DATA)


@pytest.fixture(scope="module")
def panic_errors_contract(w3: Web3) -> Contract:
    return deployed(w3, PANIC_ERRORS_CONTRACT_DATA)


@pytest.fixture(scope="module")
def empty_block(w3: Web3) -> BlockData:
    request_of(w3, "evm_mine")
    return w3.eth.get_block("latest")


@pytest.fixture(scope="module")
def mined_txn_hash(w3: Web3) -> Any:
    account = w3.eth.accounts[0]
    return w3.eth.send_transaction({"from": account, "to": account, "value": 10**9, "gas": 21_000, "gasPrice": 10**10})


@pytest.fixture(scope="module")
def block_with_txn(w3: Web3, mined_txn_hash: Any) -> BlockData:
    return w3.eth.get_block(w3.eth.wait_for_transaction_receipt(mined_txn_hash)["blockNumber"])


@pytest.fixture(scope="module")
def txn_hash_with_log(w3: Web3, emitter_contract: Contract) -> Any:
    call = emitter_contract.functions.logDouble(which=EMITTER_ENUM["LogDoubleWithIndex"], arg0=12345, arg1=54321)
    return call.transact({"from": w3.eth.accounts[0]})


@pytest.fixture(scope="module")
def block_with_txn_with_log(w3: Web3, txn_hash_with_log: Any) -> BlockData:
    return w3.eth.get_block(w3.eth.wait_for_transaction_receipt(txn_hash_with_log)["blockNumber"])


@pytest.fixture(scope="module")
def keyfile_account_pkey(engine: str) -> str:
    anvils = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
    return anvils if engine == "anvil" else engine_accounts()[1].key.to_0x_hex()


@pytest.fixture(scope="module")
def keyfile_account_address(w3: Web3) -> str:
    return w3.eth.accounts[1]


@pytest.fixture(scope="module")
def keyfile_account_address_dual_type(keyfile_account_address: str) -> str:
    return keyfile_account_address


@pytest.fixture
def request_mocker() -> type[RequestMocker]:
    return RequestMocker


@pytest.fixture
def skip_if_testrpc() -> Callable[[Web3], None]:
    return lambda w3: None


class TestEth(EthModuleTest):
    pass


class TestNet(NetModuleTest):
    pass


class TestTxPool(GoEthereumTxPoolModuleTest):
    pass


class TestWeb3(Web3ModuleTest):
    def _check_web3_client_version(self, client_version: str) -> None:
        assert client_version
