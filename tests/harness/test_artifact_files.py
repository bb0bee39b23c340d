"""Artifacts of any compiler: missing fields are added; an error is one sentence with file and item."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from stakesim.evm.abi import ContractAbi
from stakesim.evm.compiler import CompileError, compile_contracts
from stakesim.evm.contract_file import load_contract
from stakesim.evm.deployment import constructor_types
from stakesim.evm.required_abi import check_supported, differences, own_transactions

WriteArtifact = Callable[..., str]
OWN = compile_contracts()["EventStake"]


@pytest.fixture
def write_artifact(tmp_path) -> WriteArtifact:
    """Writes the packaged contract's artifact after a change to it, and says where."""

    def make(change: Callable[[dict[str, Any]], Any]) -> str:
        fields = {"abi": copy.deepcopy(OWN.abi), "bytecode": OWN.bytecode, "deployedBytecode": OWN.deployed_bytecode}
        change(fields)
        path = tmp_path / "Stake.json"
        path.write_text(json.dumps(fields))
        return str(path)

    return make


def item_named(fields: dict[str, Any], name: str) -> dict[str, Any]:
    item: dict[str, Any] = next(item for item in fields["abi"] if item.get("name") == name)
    return item


def as_solc_0_4(fields: dict[str, Any]) -> None:
    """Changes the ABI to what compilers before 0.5 wrote."""
    for item in fields["abi"]:
        if item["type"] == "function":
            kind = item.pop("stateMutability")
            item |= {"constant": kind in ("view", "pure"), "payable": kind == "payable"}
            if not item["outputs"]:
                del item["outputs"]
        for parameter in item.get("inputs", []):
            if parameter.get("indexed") is False:
                del parameter["indexed"]


def test_fields_that_old_compilers_leave_out_are_added(write_artifact: WriteArtifact) -> None:
    artifact = load_contract(write_artifact(as_solc_0_4))
    check_supported(artifact.abi, artifact.name)
    ContractAbi(artifact.abi)
    assert list(differences(artifact.abi)) == []
    assert own_transactions(artifact.abi).keys() == own_transactions(OWN.abi).keys()


def test_parameter_names_and_constructor_inputs_are_optional(write_artifact: WriteArtifact) -> None:
    def change(fields: dict[str, Any]) -> None:
        del item_named(fields, "withdrawTo")["inputs"][0]["name"]
        del next(item for item in fields["abi"] if item["type"] == "constructor")["inputs"]
        del item_named(fields, "pause")["inputs"]

    artifact = load_contract(write_artifact(change))
    assert constructor_types(artifact) == ()
    assert "pause" in ContractAbi(artifact.abi)


FUNCTION = {"type": "function", "name": "odd", "inputs": [], "outputs": [], "stateMutability": "view"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "function 5 has a name that is no text"),
        ({"name": ""}, "function has no name"),
        ({"inputs": None}, "function odd has `inputs` that are no list of parameters"),
        ({"inputs": "x"}, "function odd has `inputs` that are no list of parameters"),
        ({"inputs": [5]}, "function odd has `inputs` that are no list of parameters"),
        ({"outputs": {}}, "function odd has `outputs` that are no list of parameters"),
        ({"inputs": [{"name": "a"}]}, "function odd has a parameter a without a type"),
        ({"inputs": [{"name": 5, "type": "uint8"}]}, "function odd has a parameter whose name is 5"),
        (
            {"inputs": [{"name": "a", "type": "Foo.Bar"}]},
            "function odd has a parameter of the type Foo.Bar, which the ABI does not have",
        ),
        (
            {"inputs": [{"name": "a", "type": "uint7"}]},
            "function odd has a parameter of the type uint7, which the ABI does not have",
        ),
        ({"inputs": [{"name": "a", "type": "tuple[]"}]}, "function odd has a parameter of the type tuple[] without `c"),
        (
            {"inputs": [{"name": "a", "type": "tuple", "components": [{"name": "b"}]}]},
            "function odd has a parameter b without a type",
        ),
        ({"stateMutability": "constant"}, "function odd has the stateMutability constant"),
        ({"type": 5}, "5 odd can't be of the type 5"),
        ({"type": "event", "inputs": [{"name": "a", "type": "uint8", "indexed": "no"}]}, "event odd has `indexed` no"),
    ],
)
def test_error_names_the_invalid_item(write_artifact: WriteArtifact, change: dict[str, Any], message: str) -> None:
    path = write_artifact(lambda fields: fields["abi"].append(FUNCTION | change))
    with pytest.raises(CompileError) as refused:
        load_contract(path)
    assert str(refused.value).startswith(f"{path} is no artifact: in its `abi`, {message}")
    assert str(refused.value).endswith("; compile it anew.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bytecode": OWN.bytecode + "a"}, "is no artifact: its `bytecode` has an odd number of digits, so a part is"),
        ({"bytecode": 5}, "is no artifact: its `bytecode` is 5, not code in hex."),
        ({"bytecode": None}, "is no artifact: its `bytecode` is null, not code in hex."),
        ({"bytecode": [1]}, "is no artifact: its `bytecode` is [1], not code in hex."),
        ({"bytecode": {"object": 1}}, 'is no artifact: its `bytecode` is {"object": 1}, not code in hex.'),
        ({"bytecode": "0xzz"}, "is no artifact: its `bytecode` is 0xzz, not code in hex."),
        ({"bytecode": "0x"}, "has no bytecode: an interface, or an abstract contract, can't be deployed."),
        ({"bytecode": f"0x60__${'a' * 34}$__60"}, "is not linked: give an artifact whose libraries have addresses."),
        ({"deployedBytecode": 5}, "is no artifact: its `deployedBytecode` is 5, not code in hex."),
        ({"immutableReferences": [1]}, "is no artifact: its `immutableReferences` are not lists of start and length."),
        ({"immutableReferences": {"1": [{"start": 1}]}}, "is no artifact: its `immutableReferences` are not lists of"),
    ],
)
def test_error_says_what_is_wrong_with_the_code(
    write_artifact: WriteArtifact, change: dict[str, Any], message: str
) -> None:
    path = write_artifact(lambda fields: fields.update(change))
    with pytest.raises(CompileError) as refused:
        load_contract(path)
    assert str(refused.value).startswith(f"{path} {message}")


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[" * 100_000, b"[1]", b'"x"', b'{"abi": []}'])
def test_file_that_is_no_artifact_is_an_error(tmp_path, text: bytes) -> None:
    path = tmp_path / "Stake.json"
    path.write_bytes(text)
    with pytest.raises(CompileError, match=r"is no artifact: it needs `abi` and `bytecode`"):
        load_contract(path)


def test_artifact_without_runtime_code_is_accepted(write_artifact: WriteArtifact) -> None:
    assert load_contract(write_artifact(lambda fields: fields.update(deployedBytecode=None))).deployed_bytecode == "0x"
