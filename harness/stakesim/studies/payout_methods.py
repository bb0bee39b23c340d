"""Money that stays in the contract, by payout method: push, pull, or push with credit.

- push: closing a run sends everybody their money, and one failing transfer reverts it all. So one receiver who refuses
  ether blocks everybody (`ReceiverBlocksAll` in `contracts/test/Planted.sol`).
- pull: everybody has to withdraw their money.
- push with credit: what a receiver refuses can be withdrawn later, to another address. `EventStake` does this.

Each receiver refuses ether with one probability and, independently, never withdraws with another. Both are assumptions:
only a contract used as a wallet can refuse ether, and few attendees have one; nobody has counted who never withdraws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stakesim.campaign import campaign
from stakesim.economics.settle import settle
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract
from stakesim.paths import shipped
from stakesim.population.exact_int import as_python_ints, exact_sum
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import draw_runs
from stakesim.population.streams import stream
from stakesim.studies.attacks import HONEST

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.state import Bools, PopulationState, Wei

METHODS = ("push", "pull", "push with credit")
REFUSING_SHARES = (0.0, 0.001, 0.01, 0.05)
"""Probabilities that a receiver refuses ether."""
FORGETTING_SHARE = 0.1
"""Probability that a receiver never withdraws."""


def unclaimed_money(
    runs: int, seed: int, *, refusing: Sequence[float] = REFUSING_SHARES, forgetting: float = FORGETTING_SHARE
) -> pd.DataFrame:
    """Computes the share of money due to hosts and attendees that stays in the contract.

    Args:
        runs: Number of runs.
        seed: Seed of all random numbers.
        refusing: Probabilities that a receiver refuses. Who refuses at a lower one also refuses at a higher one.
        forgetting: Probability that a receiver never withdraws.

    Returns:
        A row for each probability of refusing; in percent the runs that push can't close, and the money that stays by
        each of `METHODS`.
    """
    import pandas as pd

    due = 0
    unclaimed = {(share, method): 0 for share in refusing for method in METHODS}
    blocked_runs = dict.fromkeys(refusing, 0)
    for chunk, state in enumerate(draw_runs(HONEST, seed, runs)):
        amounts = payouts(state)
        rng = stream(seed, chunk, "receivers")
        refusal_draws, forgetting_draws = rng.random((2, *amounts.shape))
        due += exact_sum(amounts)
        for share in refusing:
            wei_by_method, blocked = unclaimed_wei(amounts, refusal_draws < share, forgetting_draws < forgetting)
            blocked_runs[share] += blocked
            for method, wei in wei_by_method.items():
                unclaimed[share, method] += wei
    rows = [
        {"refuse, %": 100 * share, "runs blocked by push, %": 100 * blocked_runs[share] / runs}
        | {f"{method}, %": 100 * unclaimed[share, method] / due for method in METHODS}
        for share in refusing
    ]
    return pd.DataFrame(rows).set_index("refuse, %")


def payouts(state: PopulationState) -> Wei:
    """Returns the wei due when a run is closed, to each attendee and, in the last row, to the host.

    Returns:
        Wei of shape (places + 1, runs).
    """
    import numpy as np

    outcomes = resolve_outcomes(state)
    settlement = settle(state, outcomes)
    return np.concatenate([settlement.received * ~outcomes.cancelled, settlement.host[None, :]])


def unclaimed_wei(amounts: Wei, refuses: Bools, forgets: Bools) -> tuple[dict[str, int], int]:
    """Sums the wei that stay in the contract by each of `METHODS`, and counts the runs that push can't close.

    Args:
        amounts: Wei due, shape (receivers, runs).
        refuses: Which receivers refuse ether, of the same shape.
        forgets: Which receivers never withdraw, of the same shape.
    """
    amounts = as_python_ints(amounts)
    blocked_runs = (refuses & (amounts > 0)).any(axis=0)
    wei_by_method = {
        "push": exact_sum(amounts[:, blocked_runs]),
        "pull": exact_sum(amounts[forgets]),
        "push with credit": exact_sum(amounts[refuses & forgets]),
    }
    return wei_by_method, int(blocked_runs.sum())


CONTRACT_BY_METHOD = {"push": f"{CONTRACTS / 'test' / 'Planted.sol'}:ReceiverBlocksAll", "push with credit": None}
"""A contract for each method as FILE.sol:Name; None is `EventStake`."""


def refusal_on_chain(engine: str = "py-evm") -> pd.DataFrame:
    """Runs a scenario in which one attendee refuses ether, on a contract that only pushes and on `EventStake`."""
    import pandas as pd

    rows = []
    for method, contract in CONTRACT_BY_METHOD.items():
        artifact = load_contract(contract) if contract else None
        result = campaign.run(shipped("scenarios") / "refusing-attendee.yaml", engine, contract=artifact).results[0]
        weaknesses = sorted({str(finding.weakness) for finding in result.findings})
        rows.append(
            {
                "pays by": method,
                "contract": contract.rpartition(":")[2] if contract else "EventStake",
                "found": ", ".join(weaknesses) or "nothing wrong",
                "runs completed": result.reached["runs completed"],
                "payouts deferred": result.reached["payouts deferred"],
            }
        )
    return pd.DataFrame(rows).set_index("pays by")
