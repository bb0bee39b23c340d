"""What stays in the contract, by how it pays: push, pull, or push with credit.

push: everybody is sent their money as the run is closed, and a transfer that fails undoes it all: one receiver that
refuses blocks everybody (`ReceiverBlocksAll` in `contracts/test/Planted.sol`). pull: everybody has to come and take it.
push with credit: what is refused can be taken out later, to another address: what `EventStake` does.

A receiver refuses with one chance, and, independently, is one of those who never come to take money out with another.
Both are assumptions: refusing takes a contract as wallet, and few attendees have one; nobody has counted who forgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stakesim.campaign import campaign
from stakesim.economics.settle import settle
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract
from stakesim.paths import shipped
from stakesim.population.exact_int import as_python_ints, exact_sum
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import CHUNK_SIZE, draw, select_runs
from stakesim.studies.attacks import HONEST

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.state import Wei

WAYS = ("push", "pull", "push with credit")
REFUSE, FORGET = (0.0, 0.001, 0.01, 0.05), 0.1


def unclaimed(runs: int, seed: int, refuse: Sequence[float] = REFUSE, forget: float = FORGET) -> pd.DataFrame:
    """A row for each share that refuses: runs blocked, and what stays of the money due to hosts and attendees, in per
    cent, for each way to pay. The same people refuse at a higher share, and more."""
    import numpy as np
    import pandas as pd

    due, stays = 0, {(share, way): 0 for share in refuse for way in WAYS}
    blocked = dict.fromkeys(refuse, 0)
    for first in range(0, runs, CHUNK_SIZE):
        chunk = first // CHUNK_SIZE
        amounts = payouts(seed, chunk, min(CHUNK_SIZE, runs - first))
        of_refusal, of_memory = np.random.default_rng([seed, chunk, 0xC1A1]).random((2, *amounts.shape))
        due += exact_sum(amounts)
        for share in refuse:
            left, stuck = left_over(amounts, of_refusal < share, of_memory < forget)
            blocked[share] += stuck
            for way, wei in left.items():
                stays[share, way] += wei
    rows = [
        {"refuse, %": 100 * share, "runs blocked by push, %": 100 * blocked[share] / runs}
        | {f"{way}, %": 100 * stays[share, way] / due for way in WAYS}
        for share in refuse
    ]
    return pd.DataFrame(rows).set_index("refuse, %")


def payouts(seed: int, chunk: int, runs: int) -> Wei:
    """Wei due to each attendee and, in the last row, to the host, when a run is closed: shape (places + 1, runs)."""
    import numpy as np

    state = select_runs(draw(HONEST, seed, chunk), np.arange(runs))
    outcomes = resolve_outcomes(state)
    settled = settle(state, outcomes)
    return np.concatenate([settled.received * ~outcomes.cancelled, settled.host[None, :]])


def left_over(amounts: Wei, refuses: Any, forgets: Any) -> tuple[dict[str, int], int]:
    """Wei that stay in the contract by each way to pay, and how many runs push can't close."""
    amounts = as_python_ints(amounts)
    blocked = (refuses & (amounts > 0)).any(axis=0)
    left = {
        "push": exact_sum(amounts[:, blocked]),
        "pull": exact_sum(amounts[forgets]),
        "push with credit": exact_sum(amounts[refuses & forgets]),
    }
    return left, int(blocked.sum())


ON_CHAIN = {"push": f"{CONTRACTS / 'test' / 'Planted.sol'}:ReceiverBlocksAll", "push with credit": None}
"""Contracts; None is `EventStake`."""


def on_chain(engine: str = "py-evm") -> pd.DataFrame:
    """The same story, in which one attendee refuses ether, played on a contract that pushes and on ours."""
    import pandas as pd

    rows = []
    for way, contract in ON_CHAIN.items():
        artifact = load_contract(contract) if contract else None
        played = campaign.run(shipped("scenarios") / "refusing-attendee.yaml", engine, contract=artifact).results[0]
        found = sorted({str(finding.weakness) for finding in played.findings})
        rows.append(
            {
                "pays by": way,
                "contract": contract.rpartition(":")[2] if contract else "EventStake",
                "found": ", ".join(found) or "nothing wrong",
                "runs completed": played.reached["runs completed"],
                "payouts deferred": played.reached["payouts deferred"],
            }
        )
    return pd.DataFrame(rows).set_index("pays by")
