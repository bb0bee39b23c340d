"""Artifacts of any compiler: what old ones leave out is added, what is wrong is one sentence with file and item."""

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

Made = Callable[..., str]
OWN = compile_contracts()["EventStake"]


@pytest.fixture
def made(tmp_path) -> Made:
    """Writes the packaged contract's artifact after a change to it, and says where."""

    def make(change: Callable[[dict[str, Any]], Any]) -> str:
        fields = {"abi": copy.deepcopy(OWN.abi), "bytecode": OWN.bytecode, "deployedBytecode": OWN.deployed_bytecode}
        change(fields)
        path = tmp_path / "Stake.json"
        path.write_text(json.dumps(fields))
        return str(path)

    return make


def item(fields: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in fields["abi"] if one.get("name") == name)
    return found


def as_solc_0_4(fields: dict[str, Any]) -> None:
    """What compilers before 0.5 wrote, and leave what they left out."""
    for one in fields["abi"]:
        if one["type"] == "function":
            kind = one.pop("stateMutability")
            one |= {"constant": kind in ("view", "pure"), "payable": kind == "payable"}
            if not one["outputs"]:
                del one["outputs"]
        for parameter in one.get("inputs", []):
            if parameter.get("indexed") is False:
                del parameter["indexed"]


def test_what_old_compilers_leave_out_is_added(made: Made) -> None:
    artifact = load_contract(made(as_solc_0_4))
    check_supported(artifact.abi, artifact.name)
    ContractAbi(artifact.abi)
    assert list(differences(artifact.abi)) == []
    assert {one["name"] for one in own_transactions(artifact.abi)} == {one["name"] for one in own_transactions(OWN.abi)}


def test_a_parameter_needs_no_name_and_a_constructor_no_inputs(made: Made) -> None:
    def change(fields: dict[str, Any]) -> None:
        del item(fields, "withdrawTo")["inputs"][0]["name"]
        del next(one for one in fields["abi"] if one["type"] == "constructor")["inputs"]
        del item(fields, "pause")["inputs"]

    artifact = load_contract(made(change))
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
def test_a_wrong_item_is_named(made: Made, change: dict[str, Any], message: str) -> None:
    path = made(lambda fields: fields["abi"].append(FUNCTION | change))
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
def test_wrong_code_is_told_as_what_it_is(made: Made, change: dict[str, Any], message: str) -> None:
    path = made(lambda fields: fields.update(change))
    with pytest.raises(CompileError) as refused:
        load_contract(path)
    assert str(refused.value).startswith(f"{path} {message}")


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[" * 100_000, b"[1]", b'"x"', b'{"abi": []}'])
def test_what_is_no_artifact_at_all_is_told(tmp_path, text: bytes) -> None:
    path = tmp_path / "Stake.json"
    path.write_bytes(text)
    with pytest.raises(CompileError, match=r"is no artifact: it needs `abi` and `bytecode`"):
        load_contract(path)


def test_an_artifact_without_runtime_code_can_be_played(made: Made) -> None:
    assert load_contract(made(lambda fields: fields.update(deployedBytecode=None))).deployed_bytecode == "0x"
