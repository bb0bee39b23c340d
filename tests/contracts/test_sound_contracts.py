"""The largest run of each sound contract of another make can be settled in one transaction."""

import pytest
from stakesim.evm.compiler import CONTRACTS

from tests.contracts.test_max_seats import TRANSACTION_GAS_CAP, gas_to_settle
from tests.harness.plainly_patched import plainly_compiled

SOUND = CONTRACTS / "test" / "sound"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contract", "seats"),
    [("OtherMake.sol:OtherMake", 120), ("OtherMakes.sol:PackedWords", 200), ("OtherMakes.sol:PullPayments", 200)],
)
def test_largest_run_settles_below_the_gas_cap(chain, contract, seats, monkeypatch, request):
    """Extrapolated from two small runs, as gas is linear in the seats."""
    if request.config.getoption("--stakesim-contract"):
        pytest.skip("it is about other contracts than the one of --stakesim-contract, a mutant for example")
    monkeypatch.setitem(chain.artifacts, "EventStake", plainly_compiled(f"{SOUND}/{contract}"))
    monkeypatch.setattr(chain, "predeployed", [])
    delegated = chain.engine.name != "revm"  # which runs Cancun's rules, under which no account delegates
    for settlement in ("complete", "cancel", "expire"):
        gas_of_2, gas_of_6 = (gas_to_settle(chain, settlement, few, delegated=delegated) for few in (2, 6))
        assert gas_of_6 + (gas_of_6 - gas_of_2) * (seats - 6) // 4 < TRANSACTION_GAS_CAP
