"""Functions that share a name with one of the interface, or with another: each is called, and judged by its types."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from lane_helpers import with_source
from plainly_patched import plainly_patched
from stakesim import run
from stakesim.evm.compiler import CONTRACTS, Artifact
from stakesim.evm.contract_file import load_contract
from stakesim.evm.errors import EngineError
from stakesim.evm.required_abi import check_supported, codec_of, functions_of, own_transactions
from stakesim.search.contract_search import confirm, export, open_search
from stakesim.search.probes import function_probes, view_probe

pytestmark = pytest.mark.slow

STAND_IN = CONTRACTS / "test" / "MinimalEventStake.sol"
LAST = "    function _send(address to, uint256 amount) private {\n"
PAYS = "{ payable(msg.sender).transfer(address(this).balance); }"
DRAINS = {
    "of a withdrawal": f"function withdraw(uint256) external {PAYS}",
    "of a booking": f"function bookEvent(uint256, uint256, address) external {PAYS}",
    "of a view": f"function getBooking(uint256, bool) external {PAYS}",
    "of a pause": f"function pause(bool) external {PAYS}",
    "of one of its own": f"function sweep() external pure {{ revert(); }} function sweep(uint256) external {PAYS}",
}
HARMLESS = (
    "function withdraw(uint256) external { if (creditOf[msg.sender] == type(uint256).max) revert(); }\n"
    "    function getBooking(uint256, uint256) external view returns (bool) { return paused(); }\n"
    "    function cancelEvent(uint256, string calldata) external pure {}\n"
)
SMALL_DRAINS = {
    "of a settlement": f"function completeEvent(uint256) external {PAYS}",
    "named as a withdrawal": f"function withdraw() external {PAYS}",
    "named as a pause": f"function pause() external {PAYS}",
}


def whole(functions: str) -> Artifact:
    """`EventStake` with functions more."""
    return plainly_patched(LAST, f"    {functions}\n{LAST}")


def small(functions: str) -> Artifact:
    """The stand-in of the contract that is deployed on Sepolia, with functions more."""
    head, end, _ = STAND_IN.read_text().rpartition("}")
    return with_source(f"{head}{functions}\n{end}")


def weaknesses(contract: Artifact, engine: str) -> set[str]:
    """What the scenarios say that are made for this contract's own functions."""
    probes = [*function_probes(own_transactions(contract.abi)), view_probe(contract.abi)]
    result = run(probes, engine=engine, contract=contract, driver="contract", probing=False)
    return {str(finding.weakness or finding) for finding in result.findings if finding.id != "VACUOUS"}


def assert_found(contract: Artifact, seed: int, folder: Path) -> str:
    """The guided search finds it, and its story is a scenario that fails; returns the test for Foundry."""
    search = open_search(contract, seed)
    search.run(sequences=2_000, watch=lambda: not search.findings)
    found = confirm(search)
    assert [each for each in found if each.confirmed]
    files = export(search, found, folder, "EventStake.sol")
    return "".join(file.read_text() for file in files if file.suffix == ".sol")


@pytest.mark.parametrize("drain", DRAINS)
def test_an_overload_that_drains_is_found(drain: str, engine_name: str, campaign_seed: int, tmp_path: Path) -> None:
    contract = whole(DRAINS[drain])
    assert "anybody can take escrow" in weaknesses(contract, engine_name)
    assert "abi.encodeWithSignature(" in assert_found(contract, campaign_seed, tmp_path)


@pytest.mark.parametrize("drain", SMALL_DRAINS)
def test_it_is_found_in_a_contract_with_the_small_interface(
    drain: str, engine_name: str, campaign_seed: int, tmp_path: Path
) -> None:
    contract = small(SMALL_DRAINS[drain])
    assert "anybody can take escrow" in weaknesses(contract, engine_name)
    assert_found(contract, campaign_seed, tmp_path)


def test_harmless_overloads_are_no_findings(engine_name: str, campaign_seed: int) -> None:
    contract = whole(HARMLESS)
    assert weaknesses(contract, engine_name) == set()
    search = open_search(contract, campaign_seed)
    search.run(sequences=150, watch=lambda: not search.findings)
    assert search.findings == {}


def test_functions_of_the_interface_keep_their_names() -> None:
    assert own_transactions(whole(HARMLESS).abi).keys() >= {"withdraw(uint256)", "pause"}
    assert {"withdraw", "getBooking", "getBooking(uint256,uint256)"} <= functions_of(whole(HARMLESS).abi).keys()


@pytest.mark.parametrize("functions", [["cancelBooking"], ["expireEvent", "createEventRunFor"], ["setOperator"]])
def test_some_of_the_additions_without_the_others_are_refused(functions: Iterable[str]) -> None:
    """Nothing would call them: a pass would say nothing about them."""
    theirs = [item for item in load_contract(str(CONTRACTS / "EventStake.sol")).abi if item.get("name") in functions]
    abi = [*load_contract(str(STAND_IN)).abi, *theirs]
    with pytest.raises(EngineError, match=f"as it has {', '.join(sorted(functions))} but lacks .*: give a contract"):
        check_supported(abi, "Stake")


def test_overloads_that_come_last_do_not_take_the_interfaces_place() -> None:
    abi = load_contract(str(CONTRACTS / "EventStake.sol")).abi
    overloads = [item | {"inputs": []} for item in abi if item["type"] == "function" and item["inputs"]]
    overloads += [
        item | {"inputs": abi[0]["inputs"]} for item in abi if item["type"] == "function" and not item["inputs"]
    ]
    own, plain = codec_of([*abi, *overloads]), codec_of(abi)
    assert {name: own.input_types(name) for name in functions_of(abi)} == {
        name: plain.input_types(name) for name in functions_of(abi)
    }
