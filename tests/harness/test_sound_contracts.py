"""Contracts of another make that are right by the rules: nothing may be found in them but what they declare."""

import pytest
from plainly_patched import plainly_compiled
from stakesim import run
from stakesim.evm.compiler import CONTRACTS

pytestmark = pytest.mark.slow

SOUND = CONTRACTS / "test" / "sound"
SCENARIOS = sorted((CONTRACTS.parent / "scenarios").glob("*.yaml"))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["PackedWords", "HostPaidFirst"])
def test_other_storage_and_another_order_of_payouts_are_no_findings(name, engine_name, sampled):
    scenarios = sampled(SCENARIOS)
    result = run(
        scenarios,
        driver="contract",
        engine=engine_name,
        contract=plainly_compiled(f"{SOUND / 'OtherMakes.sol'}:{name}"),
    )
    assert result.findings == []
    assert len(result.results) >= len(scenarios)
