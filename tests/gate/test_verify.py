"""`stakesim verify` names each difference between a contract and what should be there, and judges it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from stakesim.evm import compiler
from stakesim.evm.compiler import Artifact
from stakesim.evm.source_build import SourceBuild, build_from_source
from stakesim.gate import node as node_module
from stakesim.gate import release
from stakesim.gate.contract_state import Contract
from stakesim.gate.deployment_record import deployment_record, planned_record
from stakesim.gate.sending import send_signed
from stakesim.gate.verification import Difference, Expectation, Verdict, verify
from stakesim.scenario.actions import Terms
from web3 import Web3
from web3.exceptions import Web3RPCError

pytestmark = pytest.mark.slow

MINIMAL = str(compiler.CONTRACTS / "test" / "MinimalEventStake.sol")
STRANGER = Web3.to_checksum_address("0x" + "57" * 20)
OPERATOR = Web3.to_checksum_address("0x" + "0e" * 20)
ETHER_FORCER = "EtherForcer"


class Deployed:
    """A contract on the node with its record; verifies it."""

    def __init__(self, w3: Web3, account: LocalAccount, build: SourceBuild) -> None:
        artifact, terms = build.artifact, Terms()
        deployment = release.plan(w3, account.address, artifact, terms)
        receipt = release.deploy(w3, account, artifact, deployment)
        self.w3, self.account, self.build, self.address = w3, account, build, deployment.address
        planned = planned_record(account.address, artifact, terms, deployment, build, None)
        self.record = deployment_record(w3, planned, receipt)
        self.contract = w3.eth.contract(deployment.address, abi=artifact.abi)

    def differences(self, **changes: Any) -> list[Difference]:
        options = {"record": self.record, "build": self.build, "code_hash": None, "owner": None}
        options |= {"operators": [OPERATOR], "terms": dict(Terms())}
        return verify(self.w3, self.address, Expectation(**options | changes))

    def send(self, function: str, *arguments: Any, by: LocalAccount | None = None, value: int = 0) -> None:
        sender = by or self.account
        call = {"to": self.address, "value": value, "data": self.contract.encode_abi(function, list(arguments))}
        transaction = node_module.with_fees(self.w3, sender.address, call)
        send_signed(self.w3, sender.sign_transaction(dict(transaction)))

    def set_code(self, code: bytes) -> None:
        self.w3.provider.make_request("anvil_setCode", [self.address, "0x" + code.hex()])  # type: ignore[arg-type]

    @property
    def code(self) -> bytes:
        return bytes(self.w3.eth.get_code(self.address))


@pytest.fixture
def deployed(w3: Web3, account: LocalAccount, build: SourceBuild) -> Deployed:
    """`EventStake` with one operator, as it should be."""
    contract = Deployed(w3, account, build)
    contract.send("setOperator", OPERATOR, True)
    assert contract.differences() == []
    return contract


def only(differences: list[Difference]) -> tuple[Verdict, str]:
    [difference] = differences
    return difference


def test_code_with_another_instruction_is_dangerous(deployed):
    code = deployed.code
    deployed.set_code(code[:200] + bytes([code[200] ^ 1]) + code[201:])
    texts = [text for verdict, text in deployed.differences() if verdict is Verdict.DANGEROUS]
    assert any("The code differs from byte 200 on" in text for text in texts)
    assert "The code is not what the sources of EventStake compile to." in texts
    deployed.set_code(b"\x56")  # a jump to nowhere, which nodes report in words of their own
    assert deployed.differences()[-1].text == "This code does not say who owns it and what it owes: its views fail."
    deployed.set_code(code[:-60] + bytes([code[-60] ^ 1]) + code[-59:])
    verdict, text = only(deployed.differences(record=None, owner=deployed.account.address))
    assert (verdict, text) == (Verdict.DANGEROUS, "The code is not what the sources of EventStake compile to.")


def test_another_hash_of_the_sources_is_legitimate(deployed):
    """It is what a changed comment gives."""
    code = deployed.code
    deployed.set_code(code[:-20] + bytes([code[-20] ^ 1]) + code[-19:])
    verdict, text = only(deployed.differences(record=None, owner=deployed.account.address))
    assert verdict is Verdict.LEGITIMATE
    assert "no instruction does" in text


@pytest.mark.in_turn
def test_a_changed_comment_changes_only_that_hash(tmp_path, build):
    for name in ("EventStake.sol", "IEventStake.sol"):
        text = (compiler.CONTRACTS / name).read_text()
        (tmp_path / name).write_text(text.replace("/// @notice", "/// @notice Well:", 1))
    from stakesim.evm.source_build import without_metadata_hash

    changed = build_from_source(str(tmp_path / "EventStake.sol"))
    codes = [bytes.fromhex(each.artifact.deployed_bytecode[2:]) for each in (build, changed)]
    assert codes[0] != codes[1]
    assert without_metadata_hash(codes[0]) == without_metadata_hash(codes[1])


def test_sources_that_have_changed_since_are_named(deployed):
    """They compile to something else. The record says from what the contract was built."""
    code = bytes.fromhex(deployed.build.artifact.deployed_bytecode[2:])
    other = {**deployed.build.artifact.__dict__, "deployed_bytecode": "0x" + (b"\1" + code[1:]).hex()}
    metadata = json.loads(json.dumps(deployed.build.metadata))
    build = deployed.build._replace(artifact=Artifact(**other), metadata=metadata)
    assert only(deployed.differences(build=build))[0] is Verdict.DANGEROUS
    metadata["sources"]["EventStake.sol"]["keccak256"] = "0x" + "00" * 32
    record = deployed.record | {"git": {"commit": "f" * 40, "dirty": False}}
    verdict, text = only(deployed.differences(build=build, record=record))
    assert verdict is Verdict.NOT_CHECKED
    assert text == (
        f"The code was not rebuilt, as EventStake.sol changed since the deployment: check out commit {'f' * 40}, and "
        "verify there."
    )


def test_what_takes_the_ownership_is_dangerous_unless_it_is_expected(deployed):
    new: LocalAccount = Account.create()
    deployed.w3.provider.make_request("anvil_setBalance", [new.address, hex(10**18)])
    deployed.send("transferOwnership", new.address)
    assert only(deployed.differences()) == (
        Verdict.DANGEROUS,
        f"{new.address} can take the ownership at any time, by acceptOwnership.",
    )
    assert only(deployed.differences(owner=new.address)) == (
        Verdict.LEGITIMATE,
        f"The owner is {deployed.account.address} until {new.address} accepts the ownership.",
    )
    deployed.send("acceptOwnership", by=new)
    assert only(deployed.differences()) == (
        Verdict.DANGEROUS,
        f"The owner is {new.address}, it was {deployed.account.address}.",
    )
    assert only(deployed.differences(owner=new.address))[0] is Verdict.LEGITIMATE
    assert only(deployed.differences(owner=STRANGER)) == (
        Verdict.DANGEROUS,
        f"The owner is {new.address}, not {STRANGER}.",
    )


def test_operators(deployed):
    deployed.send("setOperator", STRANGER, True)
    verdict, text = only(deployed.differences())
    assert verdict is Verdict.DANGEROUS
    assert text.startswith(f"{STRANGER} is an operator, and not of this configuration")
    assert deployed.differences(operators=[OPERATOR, STRANGER]) == []
    deployed.send("setOperator", STRANGER, False)
    assert deployed.differences() == []
    deployed.send("setOperator", OPERATOR, False)
    verdict, text = only(deployed.differences())
    assert verdict is Verdict.DANGEROUS
    assert text == f"{OPERATOR} is no operator: the service can't act for others with its key."
    owner = deployed.account.address
    verdict, text = only(deployed.differences(operators=[owner]))
    assert verdict is Verdict.LEGITIMATE
    assert text.startswith(f"The owner {owner} is the service's account")


def test_operators_are_found_where_a_node_gives_few_blocks(deployed, monkeypatch):
    deployed.w3.provider.make_request("anvil_mine", ["0x1f4"])
    deployed.send("setOperator", STRANGER, True)
    real, ranges = deployed.w3.eth.get_logs, []

    def limited(query: dict[str, Any]) -> Any:
        ranges.append(query["toBlock"] - query["fromBlock"])
        if ranges[-1] > 150:
            raise Web3RPCError("query returned more than 150 blocks")
        return real(query)

    monkeypatch.setattr(deployed.w3.eth, "get_logs", limited)
    contract = Contract(deployed.w3, deployed.address)
    assert contract.operators(deployed.record["block"]) == sorted([OPERATOR, STRANGER])
    assert max(ranges) > 500


def test_a_pause_is_legitimate(deployed):
    deployed.send("pause")
    verdict, text = only(deployed.differences())
    assert (verdict, text[:12]) == (Verdict.LEGITIMATE, "It is paused")


def test_solvency(deployed, w3):
    start = w3.eth.get_block("latest")["timestamp"] + 10_000
    deployed.send("createEventRun", "e", 1_000, 10, start, value=2_000)
    assert deployed.differences() == []
    w3.provider.make_request("anvil_setBalance", [deployed.address, hex(1_999)])
    assert only(deployed.differences()) == (
        Verdict.DANGEROUS,
        "It has 1999 wei and owes 2000 wei: 1 wei are missing.",
    )
    w3.provider.make_request("anvil_setBalance", [deployed.address, hex(2_005)])
    verdict, text = only(deployed.differences())
    assert verdict is Verdict.LEGITIMATE
    assert text.startswith("It has 5 wei more than it owes")


def test_other_terms_and_another_chain_are_dangerous(deployed):
    assert only(deployed.differences(terms=dict(Terms(fee_bps=400)))) == (
        Verdict.DANGEROUS,
        "fee_bps is 500, deployed was 400.",
    )
    verdict, text = only(deployed.differences(record=deployed.record | {"chain_id": 1}))
    assert (verdict, text) == (Verdict.DANGEROUS, "The chain has the id 31337, the record is of 1.")


@pytest.fixture(scope="module")
def minimal_build() -> SourceBuild:
    built = build_from_source(MINIMAL)
    assert built is not None
    return built


class TestMinimalInterface:
    """The contract that has only the interface deployed on Sepolia."""

    @pytest.fixture
    def minimal(self, w3, account, minimal_build) -> Deployed:
        return Deployed(w3, account, minimal_build)

    def test_what_it_lacks_is_left_out_or_not_checked(self, minimal):
        verdict, text = only(minimal.differences())
        assert (verdict, text) == (
            Verdict.NOT_CHECKED,
            "It has 0 wei, and does not say what it owes (totalLiabilities).",
        )

    def test_percentages_that_the_owner_changed_are_dangerous(self, minimal):
        minimal.send("setPlatformFeePercentage", 6)
        dangerous = [text for verdict, text in minimal.differences() if verdict is Verdict.DANGEROUS]
        assert dangerous == ["platformFeePercentage is 6, and not 5: its owner has changed it."]

    def test_one_without_source_or_record_is_known_by_its_hash(self, stakesim, node, minimal):
        code_hash = "0x" + keccak(minimal.code).hex()
        command = ("verify", "--rpc", node, "--address", minimal.address, "--owner", minimal.account.address)
        result = stakesim(*command, "--code-hash", code_hash, "--operator", OPERATOR)
        assert result.exit_code == 0, result.stdout
        result = stakesim(*command, "--code-hash", "0x" + "00" * 32)
        assert result.exit_code == 1
        assert f"dangerous   The code has the hash {code_hash}, not 0x00" in result.stdout


class TestCommand:
    @pytest.fixture
    def verify(self, stakesim, node, report_file, tmp_path) -> Callable[..., Any]:
        assert stakesim("deploy", "--rpc", node, "--gate", report_file).exit_code == 0
        [file] = (tmp_path / "deployments").iterdir()
        address = json.loads(file.read_text())["address"]
        return lambda *options: stakesim("verify", "--rpc", node, "--address", address, *options)

    def test_only_legitimate_remarks_pass(self, verify, account):
        result = verify()
        assert result.exit_code == 0
        assert result.stdout.splitlines()[0].startswith(f"legitimate  The owner {account.address} is the service's")
        assert "is what should be there: code, owner, operators, terms, solvency" in result.stdout

    def test_a_dangerous_difference_fails(self, verify):
        result = verify("--operator", STRANGER)
        assert result.exit_code == 1
        assert f"dangerous   {STRANGER} is no operator" in result.stdout
        assert "1 dangerous differences" in result.stdout

    def test_an_address_without_a_contract_fails(self, verify, stakesim, node, tmp_path):
        [record] = (tmp_path / "deployments").iterdir()
        result = stakesim("verify", "--rpc", node, "--address", STRANGER, "--record", str(record))
        assert result.exit_code == 1
        assert f"There is no contract at {STRANGER}." in result.stdout

    @pytest.mark.parametrize("content", [None, "{}", "nonsense"])
    def test_a_record_that_is_named_must_be_one(self, verify, tmp_path, content):
        file = tmp_path / "record.json"
        if content is not None:
            file.write_text(content)
        message = "can't be read" if content is None else "is no record of a deployment"
        assert message in str(verify("--record", str(file)).exception)

    def test_operators_come_from_the_settings(self, verify, tmp_path: Path, monkeypatch):
        monkeypatch.delenv("PLATFORM_PRIVATE_KEY")
        keystore = tmp_path / "keystore.json"
        keystore.write_text(json.dumps({"address": OPERATOR[2:].lower(), "version": 3}))
        (tmp_path / ".env").write_text(f"PLATFORM_KEYSTORE={keystore}\nSIGNER_ADDRESS={STRANGER}\n")
        stdout = verify().stdout
        assert f"{OPERATOR} is no operator" in stdout
        assert f"{STRANGER} is no operator" in stdout
