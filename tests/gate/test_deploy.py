"""`stakesim deploy`: the record, the input for explorers, the dry run and CREATE2, with the compiler and a node."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from stakesim.evm import compiler
from stakesim.evm.anvil import start_anvil
from stakesim.evm.compiler import Artifact
from stakesim.evm.contract_file import load_contract, production_contract
from stakesim.evm.errors import EngineError
from stakesim.evm.instructions import mask_immutables
from stakesim.evm.source_build import SourceBuild, without_metadata_hash
from stakesim.gate import release
from stakesim.gate.errors import ReleaseError
from stakesim.gate.hashes import source_revision
from stakesim.scenario.actions import Terms
from web3 import Web3
from web3.exceptions import Web3RPCError

pytestmark = pytest.mark.slow

MULTISIG = Web3.to_checksum_address("0x" + "51" * 20)
OWNS_ITSELF = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;
contract OwnedBySender {
    address public owner = msg.sender;
    constructor(address) {}
}
"""

DEPLOYS_OTHER_CODE = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;
contract Drained {
    address public owner;
    function drain() external { payable(msg.sender).transfer(address(this).balance); }
}
contract Swapped {
    address public owner;
    constructor(address owner_) {
        owner = owner_;
        bytes memory code = type(Drained).runtimeCode;
        assembly { return(add(code, 32), mload(code)) }
    }
}
"""


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def ipfs_hash(content: bytes) -> bytes:
    """The multihash that `ipfs add` gives a file of one block."""
    size = varint(len(content))
    file = b"\x08\x02\x12" + size + content + b"\x18" + size
    return b"\x12\x20" + hashlib.sha256(b"\x0a" + varint(len(file)) + file).digest()


@pytest.fixture(scope="module")
def mainnet() -> Iterator[str]:
    """URL of an anvil with the chain id of Ethereum's main network."""
    url, stop = start_anvil("--chain-id", "1")
    yield url
    stop()


@pytest.fixture
def plan(w3: Web3, account: LocalAccount) -> Callable[..., release.Deployment]:
    def plan(artifact: Artifact | None = None, **options: Any) -> release.Deployment:
        return release.plan(w3, account.address, artifact or production_contract(), Terms(), **options)

    return plan


@pytest.fixture
def without_proxy(w3: Web3) -> Iterator[Callable[[str], None]]:
    """Replaces the code of the deterministic deployment proxy until the test ends."""

    def set_code(code: str) -> None:
        w3.provider.make_request("anvil_setCode", [release.CREATE2_PROXY, code])  # type: ignore[arg-type]

    yield set_code
    set_code("0x" + release.CREATE2_PROXY_CODE.hex())


class TestVerificationInput:
    @pytest.fixture
    def record(self, stakesim, node, report_file, tmp_path) -> dict[str, Any]:
        result = stakesim("deploy", "--rpc", node, "--gate", report_file, "--verify-input", "input.json")
        assert result.exit_code == 0, result
        [file] = (tmp_path / "deployments").iterdir()
        return json.loads(file.read_text())

    @pytest.mark.in_turn
    def test_it_compiles_to_the_code_on_chain(self, record, w3, tmp_path):
        """By itself: the compiler is given nothing but this file, in a folder without any source."""
        command = [str(compiler.npm_compiler()), "--standard-json", "--base-path", str(tmp_path)]
        text = (tmp_path / "input.json").read_text()
        output = json.loads(subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout)
        built = output["contracts"]["EventStake.sol"]["EventStake"]
        arguments = record["constructor_arguments"]["encoded"].removeprefix("0x")
        sent = w3.eth.get_transaction(record["transaction"])
        creation_code = built["evm"]["bytecode"]["object"] + arguments
        assert bytes(sent["input"]).hex() == creation_code
        on_chain = bytes(w3.eth.get_code(record["address"]))
        assert bytes(w3.eth.call({"data": "0x" + creation_code})) == on_chain  # with immutables
        runtime = bytes.fromhex(built["evm"]["deployedBytecode"]["object"])
        places = built["evm"]["deployedBytecode"]["immutableReferences"]
        assert mask_immutables(on_chain, places) == runtime
        assert on_chain[-53:].startswith(b"\xa2\x64ipfs\x58\x22" + ipfs_hash(built["metadata"].encode()))

    def test_the_record_says_what_was_built_from_what(self, record, w3, account):
        assert record["constructor_arguments"]["decoded"] == {
            "platform": account.address,
            "terms_": {
                "stakeBps": 2_000,
                "feeBps": 500,
                "forfeitToHostBps": 0,
                "cancellationCutoff": 86_400,
                "completionGrace": 604_800,
            },
        }
        artifact = production_contract()
        assert record["abi"] == artifact.abi
        assert record["creation_code_keccak256"] == "0x" + keccak(hexstr=artifact.bytecode).hex()
        assert record["runtime_code_keccak256"] == "0x" + keccak(w3.eth.get_code(record["address"])).hex()
        assert record["compiler"]["version"].startswith(f"{compiler.compiler_version()}+commit.")
        assert record["compiler"]["settings"]["optimizer"] == {"enabled": True, "runs": 1000}
        for name, source_hash in record["sources"].items():
            folder = compiler.node_modules() if name.startswith("@") else compiler.CONTRACTS
            assert source_hash == "0x" + keccak((folder / name).read_bytes()).hex()
        assert "@openzeppelin/contracts/access/Ownable2Step.sol" in record["sources"]
        command = ["git", "-C", str(compiler.CONTRACTS), "rev-parse", "HEAD"]
        head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        assert record["git"]["commit"] == head

    def test_an_artifact_has_none(self, stakesim, node, report_file, tmp_path, build):
        fields = {"contractName": "EventStake", "abi": build.artifact.abi, "bytecode": build.artifact.bytecode}
        fields |= {
            "deployedBytecode": build.artifact.deployed_bytecode,
            "immutableReferences": build.artifact.immutables,
        }
        (tmp_path / "EventStake.json").write_text(json.dumps(fields))
        command = (
            "deploy",
            "--rpc",
            node,
            "--gate",
            report_file,
            "--contract",
            "EventStake.json",
            "--record",
            "r.json",
        )
        result = stakesim(*command, "--verify-input", "input.json")
        assert "has no source for --verify-input" in str(result.exception)
        assert stakesim(*command).exit_code == 0
        record = json.loads((tmp_path / "r.json").read_text())
        assert (record["compiler"], record["sources"], record["git"]) == (None, None, None)

    def test_code_that_its_sources_do_not_give_is_not_deployed(self, stakesim, node, report_file, monkeypatch, build):
        other = build._replace(artifact=load_contract(compiler.CONTRACTS / "test" / "SoundEventStake.sol"))
        monkeypatch.setattr("stakesim.evm.source_build.build_from_source", lambda contract: other)
        result = stakesim("deploy", "--rpc", node, "--gate", report_file)
        assert "EventStake is not what its sources compile to" in str(result.exception)
        shorter = build._replace(artifact=replace(build.artifact, abi=build.artifact.abi[1:]))
        monkeypatch.setattr("stakesim.evm.source_build.build_from_source", lambda contract: shorter)
        result = stakesim("deploy", "--rpc", node, "--gate", report_file)
        assert "EventStake is not what its sources compile to" in str(result.exception)


def test_the_revision_says_whether_there_are_changes(tmp_path):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    file = tmp_path / "Stake.sol"
    file.write_text("a")
    assert source_revision(file) is None
    git("init")
    assert source_revision(file) is None  # not under git's control, as in an environment inside a checkout
    git("add", "Stake.sol")
    git("commit", "-m", "a")
    revision = source_revision(file)
    assert revision is not None
    assert (len(revision["commit"]), revision["dirty"]) == (40, False)
    file.write_text("b")
    assert source_revision(file) == revision | {"dirty": True}


class TestDryRun:
    def test_it_says_what_a_deployment_then_does(self, stakesim, node, w3, account, report_file, tmp_path):
        command = ("deploy", "--rpc", node, "--gate", report_file, "--owner", MULTISIG)
        planned = stakesim(*command, "--dry-run")
        lines = dict(line.split(maxsplit=1) for line in planned.stdout.splitlines()[:-1])
        assert planned.stdout.splitlines()[-1] == "Nothing was sent."
        assert lines["account"] == f"{account.address}, which has {10**20} wei"
        assert (lines["nonce"], lines["owner"]) == ("0", MULTISIG)
        assert "stake_bps 2000, fee_bps 500" in lines["terms"]
        assert w3.eth.get_transaction_count(account.address, "pending") == 0
        assert not (tmp_path / "deployments").exists()
        result = stakesim(*command, "--record", "record.json")
        record = json.loads((tmp_path / "record.json").read_text())
        assert lines["address"] == f"{record['address']}, by CREATE"
        assert record["owner"] == MULTISIG
        receipt = w3.eth.get_transaction_receipt(record["transaction"])
        assert receipt["gasUsed"] <= int(lines["gas"]) < 1.1 * receipt["gasUsed"]
        spent = 10**20 - w3.eth.get_balance(account.address)
        assert spent <= int(lines["cost"].split()[-2]), result.stdout

    def test_it_says_what_is_missing(self, stakesim, node, w3, account, report_file):
        w3.provider.make_request("anvil_setBalance", [account.address, hex(10**9)])
        command = ("deploy", "--rpc", node, "--gate", report_file)
        assert "wei too little for it" in stakesim(*command, "--dry-run").stdout
        result = stakesim(*command)
        assert f"The deployer {account.address} has 1000000000 wei" in str(result.exception)
        assert w3.eth.get_transaction_count(account.address, "pending") == 0


class TestNothingIsLost:
    """Whatever fails, no contract is deployed of which nobody knows the address."""

    @pytest.fixture
    def command(self, node, report_file) -> tuple[str, ...]:
        return ("deploy", "--rpc", node, "--gate", report_file)

    def nothing_was_sent(self, w3, account) -> bool:
        return w3.eth.get_transaction_count(account.address, "pending") == 0

    @pytest.mark.parametrize("record", ["afile/record.json", "afile/folder/record.json", "folder", "/proc/record.json"])
    def test_nothing_is_sent_without_a_place_for_the_record(self, stakesim, command, w3, account, tmp_path, record):
        (tmp_path / "afile").touch()
        (tmp_path / "folder").mkdir()
        result = stakesim(*command, "--record", record)
        assert isinstance(result.exception, ReleaseError), result
        assert "another" in str(result.exception)
        assert self.nothing_was_sent(w3, account)

    @pytest.mark.parametrize("name", ["seed", "versions", "made", "profile"])
    def test_nothing_is_sent_with_a_report_that_lacks_what_the_record_has(
        self, stakesim, command, w3, account, report_file, name
    ):
        content = json.loads(Path(report_file).read_text())
        del content[name]
        Path(report_file).write_text(json.dumps(content))
        result = stakesim(*command)
        assert isinstance(result.exception, ReleaseError), result
        assert self.nothing_was_sent(w3, account)

    def test_the_record_of_another_deployment_is_kept(self, stakesim, command, w3, account, tmp_path):
        (tmp_path / "record.json").write_text("kept")
        result = stakesim(*command, "--record", "record.json")
        assert "is there already, and may be the only record" in str(result.exception)
        assert (tmp_path / "record.json").read_text() == "kept"
        assert self.nothing_was_sent(w3, account)

    def test_the_transaction_and_the_address_are_told_and_recorded_at_once(
        self, stakesim, command, w3, tmp_path, monkeypatch
    ):
        """The node is lost after it has the transaction."""

        def lost(*_args: object, **_options: object) -> None:
            seen.append(json.loads(record.read_text()))
            raise ConnectionError

        seen: list[dict[str, Any]] = []
        record = tmp_path / "new" / "record.json"
        with monkeypatch.context() as patch:
            patch.setattr("web3.eth.Eth.wait_for_transaction_receipt", lost)
            result = stakesim(*command, "--record", str(record))
        assert isinstance(result.exception, EngineError), result
        entry = json.loads(record.read_text())
        assert seen == [entry]
        assert entry["block"] is None
        address = w3.eth.wait_for_transaction_receipt(entry["transaction"], timeout=10)["contractAddress"]
        assert entry["address"] == address
        for text in (result.stderr, str(result.exception)):
            assert entry["transaction"] in text
            assert address in text
        verified = stakesim("verify", "--rpc", command[2], "--address", address, "--record", str(record))
        assert verified.exit_code == 0, verified.stdout

    def test_a_record_that_fails_later_is_told_with_transaction_and_address(
        self, stakesim, command, w3, tmp_path, monkeypatch
    ):
        def full(_w3: object, planned: dict[str, Any], _receipt: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("stakesim.gate.deployment_record.deployment_record", full)
        result = stakesim(*command, "--record", "record.json")
        entry = json.loads((tmp_path / "record.json").read_text())
        assert isinstance(result.exception, EngineError), result
        assert entry["transaction"] in str(result.exception)
        assert entry["address"] in str(result.exception)

    def test_what_the_node_refuses_leaves_no_record(self, stakesim, command, w3, account, tmp_path, monkeypatch):
        def refuse(*_args: object) -> None:
            raise Web3RPCError("", rpc_response={"error": {"code": -32000, "message": "fee too low"}})

        monkeypatch.setattr("web3.eth.Eth.send_raw_transaction", refuse)
        result = stakesim(*command, "--record", "record.json")
        assert str(result.exception) == "Sending the transaction failed: the node says: fee too low."
        assert not (tmp_path / "record.json").exists()
        assert self.nothing_was_sent(w3, account)


class TestOwner:
    def test_nobody_is_no_owner(self, stakesim, node, report_file, plan):
        nobody = "0x" + "00" * 20
        result = stakesim("deploy", "--rpc", node, "--gate", report_file, "--owner", nobody, "--dry-run")
        assert "Nobody would own EventStake" in str(result.exception)
        with pytest.raises(ReleaseError, match="Nobody would own EventStake"):
            plan(owner=nobody, salt=b"\1" * 32)

    def test_a_contract_that_does_not_say_who_owns_it_is_refused(self, plan):
        """What is read after the deployment is asked for before it."""
        artifact = production_contract()
        with pytest.raises(ReleaseError, match="EventStake has no function owner"):
            plan(replace(artifact, abi=[item for item in artifact.abi if item.get("name") != "owner"]))

    def test_a_contract_can_not_own_itself(self, plan):
        with pytest.raises(ReleaseError, match="can't own itself"):
            plan(owner=plan().address)


class TestMainnet:
    """There the profile `release` is needed, whatever --profile says."""

    @pytest.mark.parametrize("profile", ["pr", "nightly"])
    def test_a_smaller_profile_is_refused(self, stakesim, node, mainnet, report_file, profile):
        command = ("deploy", "--gate", report_file, "--profile", profile, "--dry-run", "--rpc")
        assert stakesim(*command, node).exit_code == 0
        result = stakesim(*command, mainnet)
        assert f"The profile {profile} is not enough for Ethereum's main network (chain 1)" in str(result.exception)

    def test_the_profile_release_is_enough(self, stakesim, mainnet, report_file):
        result = stakesim("deploy", "--gate", report_file, "--dry-run", "--rpc", mainnet)
        assert result.exit_code == 0, result


@pytest.mark.parametrize("hours", ["nan", "inf", "1e12"])
def test_an_age_that_is_no_time_is_refused(stakesim, node, report_file, hours):
    result = stakesim("deploy", "--rpc", node, "--gate", report_file, "--max-age-hours", hours, "--dry-run")
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)


class TestCreate2:
    SALT = release.parse_salt("0x5a17")

    def test_the_address_depends_on_the_salt_and_not_on_who_deploys(self, w3, account, plan):
        other: LocalAccount = Account.create()
        w3.provider.make_request("anvil_setBalance", [other.address, hex(10**20)])
        owner = account.address
        mine = plan(owner=owner, salt=self.SALT)
        theirs = release.plan(w3, other.address, production_contract(), Terms(), owner, self.SALT)
        assert mine.address == theirs.address
        assert plan(owner=owner, salt=release.parse_salt("1")).address != mine.address
        assert plan(owner=MULTISIG, salt=self.SALT).address != mine.address
        release.deploy(w3, other, production_contract(), theirs)
        with pytest.raises(ReleaseError, match=f"is at {mine.address} already"):
            plan(owner=owner, salt=self.SALT)

    def test_the_deployer_owns_it_and_not_the_proxy(self, stakesim, node, w3, account, report_file, tmp_path):
        result = stakesim("deploy", "--rpc", node, "--gate", report_file, "--salt", "07", "--record", "r.json")
        assert result.exit_code == 0, result
        record = json.loads((tmp_path / "r.json").read_text())
        assert (record["owner"], record["salt"]) == (account.address, "0x" + "07".zfill(64))
        contract = w3.eth.contract(record["address"], abi=record["abi"])
        assert contract.functions.owner().call() == account.address
        result = stakesim("verify", "--rpc", node, "--address", record["address"], "--record", "r.json")
        assert result.exit_code == 0, result.stdout

    def test_a_contract_that_its_creator_owns_is_refused(self, plan):
        minimal = load_contract(compiler.CONTRACTS / "test" / "MinimalEventStake.sol")
        with pytest.raises(ReleaseError, match="the proxy would own it"):
            plan(minimal, salt=self.SALT)

    @pytest.mark.parametrize(("code", "found"), [("0x", "nothing"), ("0x00", "other code")])
    def test_a_chain_without_the_proxy_is_named(self, plan, without_proxy, code, found):
        without_proxy(code)
        with pytest.raises(ReleaseError, match=f"Chain 31337 has {found} at {release.CREATE2_PROXY}"):
            plan(salt=self.SALT)
        assert plan().salt is None

    @pytest.mark.parametrize("text", ["", "0x", "xyz", "0x" + "11" * 33])
    def test_a_salt_is_up_to_32_bytes_in_hex(self, text):
        with pytest.raises(ReleaseError, match="is no salt"):
            release.parse_salt(text)


def test_a_contract_that_ignores_its_owner_is_reported(w3, account, plan):
    artifact = compiler.compile_sources({"OwnedBySender.sol": OWNS_ITSELF})["OwnedBySender"]
    deployment = plan(artifact, owner=MULTISIG)
    with pytest.raises(EngineError, match=f"{account.address} owns the contract at .*, and not {MULTISIG}: do not use"):
        release.deploy(w3, account, artifact, deployment)


def test_a_contract_with_other_code_than_passed_is_reported(w3, account, plan):
    """Its constructor may look at the chain. It is mined by then: the error says where, and by which transaction."""
    artifact = compiler.compile_sources({"Swapped.sol": DEPLOYS_OTHER_CODE})["Swapped"]
    deployment, sent = plan(artifact), []
    with pytest.raises(EngineError) as raised:
        release.deploy(w3, account, artifact, deployment, before_sending=sent.append)
    assert f"has deployed other code at {deployment.address} than passed the gate" in str(raised.value)
    assert f"The transaction {sent[0]} may be on its way or mined" in str(raised.value)


def test_code_without_metadata_stays_as_it_is(build: SourceBuild):
    code = bytes.fromhex(build.artifact.deployed_bytecode[2:])
    assert without_metadata_hash(code) != code
    assert without_metadata_hash(code[:-53]) == code[:-53]
