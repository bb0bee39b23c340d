"""`stakesim owner`: with the key here, and with a multisig that owns the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from stakesim.evm import compiler
from stakesim.evm.contract_file import load_contract, production_contract
from stakesim.evm.deployment import init_code
from stakesim.gate import node as node_module
from stakesim.gate import release
from stakesim.gate.contract_state import NOBODY
from stakesim.gate.sending import send_signed
from stakesim.scenario.actions import Terms
from web3 import Web3
from web3.contract import Contract

pytestmark = pytest.mark.slow

OPERATOR = Web3.to_checksum_address("0x" + "0e" * 20)
TESTS = compiler.CONTRACTS / "test"


def send(w3: Web3, account: LocalAccount, **call: Any) -> Any:
    transaction = node_module.with_fees(w3, account.address, call)
    return send_signed(w3, account.sign_transaction(dict(transaction)))


@pytest.fixture
def stake(w3: Web3, account: LocalAccount) -> Contract:
    """`EventStake`, which `account` owns."""
    deployment = release.plan(w3, account.address, production_contract(), Terms())
    release.deploy(w3, account, production_contract(), deployment)
    return w3.eth.contract(deployment.address, abi=production_contract().abi)


@pytest.fixture
def owner(stakesim, node, stake) -> Callable[..., Any]:
    """Calls `stakesim owner` for `stake`."""
    return lambda *arguments: stakesim("owner", *arguments, "--rpc", node, "--address", stake.address)


@pytest.fixture
def members(w3: Web3) -> list[LocalAccount]:
    accounts = [Account.create() for _ in range(3)]
    for each in accounts:
        w3.provider.make_request("anvil_setBalance", [each.address, hex(10**18)])  # type: ignore[arg-type]
    return accounts


@pytest.fixture
def multisig(w3: Web3, account: LocalAccount, members: list[LocalAccount]) -> Contract:
    artifact = load_contract(TESTS / "Multisig.sol")
    receipt = send(w3, account, data=init_code(artifact, ([each.address for each in members],)))
    return w3.eth.contract(receipt["contractAddress"], abi=artifact.abi)


def printed_call(result: Any) -> dict[str, str]:
    """What was printed for whoever has to send it."""
    assert result.exit_code == 1, result
    lines = result.stdout.splitlines()
    assert lines[-1] == "Nothing was sent."
    return dict(line.split(maxsplit=1) for line in lines[:-1])


class TestWithTheKey:
    def test_an_operator_is_named_and_revoked(self, owner, stake):
        result = owner("set-operator", OPERATOR)
        assert result.exit_code == 0, result
        assert result.stdout.startswith(f"{OPERATOR} acts for the platform at {stake.address}")
        assert stake.functions.isOperator(OPERATOR).call()
        assert owner("set-operator", OPERATOR, "--revoke").exit_code == 0
        assert not stake.functions.isOperator(OPERATOR).call()

    def test_a_lost_node_does_not_lose_the_transaction(self, owner, stake, w3, monkeypatch):
        def lost(*_args: object, **_options: object) -> None:
            raise ConnectionError

        with monkeypatch.context() as patch:
            patch.setattr("web3.eth.Eth.wait_for_transaction_receipt", lost)
            result = owner("set-operator", OPERATOR)
        told = result.stderr.removeprefix("sent ").strip()
        assert w3.eth.wait_for_transaction_receipt(told, timeout=10)["status"] == 1
        assert f"The transaction {told} may be on its way or mined: look there" in str(result.exception)

    def test_what_is_so_already_is_not_sent_again(self, owner, stake, w3, account):
        assert owner("pause").exit_code == 0
        sent = w3.eth.get_transaction_count(account.address)
        result = owner("pause")
        assert (result.exit_code, result.stdout) == (0, "There is nothing to do: the contract is so already.\n")
        assert w3.eth.get_transaction_count(account.address) == sent
        assert owner("unpause").exit_code == 0
        assert not stake.functions.paused().call()

    def test_a_dry_run_sends_nothing(self, owner, stake, account):
        call = printed_call(owner("pause", "--dry-run"))
        assert call["from"] == f"{account.address}, the account that has to send it"
        assert not stake.functions.paused().call()

    def test_the_ownership_goes_over_in_two_steps(self, owner, stake, w3, account, members, monkeypatch):
        new = members[0]
        assert owner("transfer", new.address).exit_code == 0
        assert stake.functions.owner().call() == account.address
        assert printed_call(owner("accept"))["from"].startswith(new.address)
        monkeypatch.setenv("OWNER_PRIVATE_KEY", new.key.to_0x_hex())
        result = owner("accept")
        assert result.exit_code == 0, result
        assert stake.functions.owner().call() == new.address
        assert owner("pause").exit_code == 0  # under OWNER_PRIVATE_KEY
        assert stake.functions.paused().call()

    def test_an_offer_can_be_taken_back(self, owner, stake, members):
        owner("transfer", members[0].address)
        assert owner("transfer", NOBODY).exit_code == 0
        assert stake.functions.pendingOwner().call() == NOBODY
        assert "was offered to nobody" in str(owner("accept").exception)

    def test_a_wrong_key_is_not_shown(self, owner, monkeypatch):
        monkeypatch.setenv("OWNER_PRIVATE_KEY", "0xsecret")
        message = str(owner("pause").exception)
        assert message == "OWNER_PRIVATE_KEY is no private key: give 32 bytes in hex."


class TestMultisig:
    """The owner is a contract. Its members send what is printed; this machine never has its keys."""

    @pytest.fixture
    def send_printed(self, w3, multisig, members) -> Callable[[dict[str, str]], None]:
        def send_printed(call: dict[str, str]) -> None:
            assert call["from"] == f"{multisig.address}, the contract that has to send it"
            for member in members[:2]:
                arguments = [call["to"], int(call["value"]), call["data"]]
                send(w3, member, to=multisig.address, data=multisig.encode_abi("approve", arguments))

        return send_printed

    def test_it_takes_the_ownership_and_acts_as_owner(self, owner, stake, multisig, send_printed):
        assert owner("transfer", multisig.address).exit_code == 0
        call = printed_call(owner("accept"))
        assert call["does"].startswith(f"{multisig.address} becomes the owner of {stake.address}")
        send_printed(call)
        assert stake.functions.owner().call() == multisig.address
        send_printed(printed_call(owner("set-operator", OPERATOR)))
        assert stake.functions.isOperator(OPERATOR).call()
        send_printed(printed_call(owner("pause")))
        assert stake.functions.paused().call()
        send_printed(printed_call(owner("unpause")))
        assert not stake.functions.paused().call()
        send_printed(printed_call(owner("transfer", OPERATOR)))
        assert stake.functions.pendingOwner().call() == OPERATOR

    def test_one_member_is_not_enough(self, owner, stake, w3, multisig, members):
        owner("transfer", multisig.address)
        call = printed_call(owner("accept"))
        arguments = [call["to"], 0, call["data"]]
        send(w3, members[0], to=multisig.address, data=multisig.encode_abi("approve", arguments))
        assert stake.functions.owner().call() != multisig.address

    def test_it_can_own_the_contract_from_the_start(
        self, stakesim, node, w3, account, multisig, send_printed, report_file
    ):
        result = stakesim("deploy", "--rpc", node, "--gate", report_file, "--owner", multisig.address)
        assert result.exit_code == 0, result
        address = result.stdout.split()[3].rstrip(",")
        verify = ("verify", "--rpc", node, "--address", address)
        assert f"dangerous   {account.address} is no operator" in stakesim(*verify).stdout
        send_printed(
            printed_call(stakesim("owner", "set-operator", account.address, "--rpc", node, "--address", address))
        )
        result = stakesim(*verify)
        assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1), result.stdout


def test_what_the_contract_refuses_is_said_before_anything_is_sent(owner, stake):
    assert "can't own itself" in str(owner("transfer", stake.address).exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pause",), "has no paused, so pause is nothing that it can do"),
        (("set-operator", OPERATOR), "has no isOperator, so setOperator is nothing that it can do"),
        (("accept",), "hands its ownership over in one step"),
        (("transfer", OPERATOR), "refuses transferOwnership"),
    ],
)
def test_a_contract_with_the_interface_of_sepolia_can_not_do_it(stakesim, node, w3, account, arguments, message):
    minimal = load_contract(TESTS / "MinimalEventStake.sol")
    deployment = release.plan(w3, account.address, minimal, Terms())
    release.deploy(w3, account, minimal, deployment)
    result = stakesim("owner", *arguments, "--rpc", node, "--address", deployment.address)
    assert message in str(result.exception)


def test_an_address_without_a_contract_is_named(stakesim, node):
    result = stakesim("owner", "pause", "--rpc", node, "--address", OPERATOR)
    assert f"There is no contract with an owner at {OPERATOR}" in str(result.exception)
