"""Which test fails on another contract is known exactly, whatever its id looks like."""

from pathlib import Path

import pytest
from stakesim.evm.compiler import compile_contracts
from stakesim.gate.contract_tests import first_failing_test

TESTS = """
import pytest

@pytest.mark.parametrize("case", ["passes", {case!r}, "fails too"])
def test_something(case):
    assert case == "passes"
"""


@pytest.mark.in_turn
@pytest.mark.slow
@pytest.mark.parametrize("case", ["cancel: a - b", "plain", "[x] - FAILED y::z", "पैसा / ₹"])
def test_a_failing_test_can_be_run_again_by_its_id(case: str, tmp_path: Path) -> None:
    file, contract = tmp_path / "test_cases.py", compile_contracts()["EventStake"]
    file.write_text(TESTS.format(case=case))
    failed = first_failing_test(contract, file, "revm")
    assert failed is not None
    assert "test_cases.py::test_something[" in failed
    assert failed == first_failing_test(contract, failed, "revm")
    file.write_text("def test_something(): pass")
    assert first_failing_test(contract, file, "revm") is None


@pytest.mark.slow
def test_tests_that_are_to_run_first_do(tmp_path: Path) -> None:
    tests = tmp_path / "test_cases.py"
    tests.write_text("def test_a(): assert False\ndef test_b(): assert False\n")
    contract, first = compile_contracts()["EventStake"], [f"{tests}::test_b"]
    assert (first_failing_test(contract, tmp_path, "revm") or "").endswith("::test_a")
    assert (first_failing_test(contract, tmp_path, "revm", first=first) or "").endswith("::test_b")
