"""Gas of `EventStake` now and at an earlier commit, side by side: `python benchmarks/contract_gas.py [COMMIT]`.

Each contract is deployed once on py-evm and sent the same transactions, by its owner and, now, by an operator.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from stakesim.evm.abi import ContractAbi
from stakesim.evm.client import open_client
from stakesim.evm.compiler import Artifact, compile_sources, project_sources
from stakesim.evm.deployment import deploy, init_code
from stakesim.evm.engines import open_engine
from stakesim.runner.parties import EXPERIENCE_ID
from stakesim.scenario.actions import Terms

BEFORE = "723d562"
"""The last commit before storage was packed."""
SEATS, PRICE = 10, 10**17
STAKE = PRICE * SEATS // 5
COST = PRICE * 6 // 5
DAY = 86_400


def contract_at(commit: str | None) -> Artifact:
    """The contract at a commit; None: in the working tree."""
    sources = project_sources()
    if commit is not None:
        for file in ("EventStake.sol", "IEventStake.sol"):
            command = ["git", "show", f"{commit}:contracts/{file}"]
            sources[file] = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return compile_sources(sources)["EventStake"]


def measure(artifact: Artifact, *, as_operator: bool = False) -> Iterator[tuple[str, int]]:
    """Gas by description of the transaction, sent by the owner or by an operator."""
    engine = open_engine("py-evm")
    chain, abi = open_client(engine, direct=True), ContractAbi(artifact.abi)
    owner, operator, host, *guests = engine.accounts
    platform = operator if as_operator else owner
    address = deploy(chain, owner, init_code(artifact, (owner.address, Terms().as_struct())), name="EventStake")
    start = engine.now() + 9 * DAY

    def gas(function: str, *args: Any, value: int = 0, by: Any = platform) -> int:
        receipt = chain.transact(by, address, abi.encode(function, *args), value)
        assert receipt.ok, function
        return receipt.gas_used

    if as_operator:
        gas("setOperator", operator.address, True, by=owner)
    run = (host.address, EXPERIENCE_ID, PRICE, SEATS, start)
    yield "a contract's first run is opened", gas("createEventRunFor", *run, value=STAKE)
    yield "a run is opened", gas("createEventRunFor", *run, value=STAKE)
    bookings = [gas("bookEventFor", guest.address, 1, 1, value=COST) for guest in guests[:SEATS]]
    yield "a run's first booking", bookings[0]
    yield "a run's second booking", bookings[1]
    yield "a run's ninth booking", bookings[8]
    gas("bookEventFor", guests[0].address, 2, 1, value=COST)
    yield "a booking is cancelled", gas("cancelBooking", 5)
    yield "a booking after a cancellation", gas("bookEventFor", guests[SEATS].address, 1, 1, value=COST)
    came = [1, 2, 3, 4, 6, 7, 8, 9, 10, 12]
    for description, function, args, at in (
        ("a run of ten bookings is cancelled", "cancelEvent", (1,), None),
        ("a run of ten bookings is completed, all came", "completeEvent", (1, came), start),
        ("a run of ten bookings is completed, none came", "completeEvent", (1, []), start),
        ("a run of ten bookings expires", "expireEvent", (1,), start + 8 * DAY),
    ):
        snapshot = engine.snapshot()
        if at is not None:
            engine.set_next_timestamp(at)
        yield description, gas(function, *args)
        engine.revert(snapshot)


def table(commit: str) -> Iterator[str]:
    """The lines of the table, the last one with the size of the code."""
    before, now = contract_at(commit), contract_at(None)
    columns = [dict(measure(before)), dict(measure(now)), dict(measure(now, as_operator=True))]
    yield f"{'transaction':47}{commit:>9}{'owner':>9}{'':8}{'operator':>9}"
    for name, old in columns[0].items():
        owner, operator = columns[1][name], columns[2][name]
        yield f"{name:47}{old:9,}{owner:9,}{owner / old - 1:8.1%}{operator:9,}{operator / old - 1:8.1%}"
    old, new = (len(artifact.deployed_bytecode) // 2 - 1 for artifact in (before, now))
    yield f"{'bytes of code':47}{old:9,}{new:9,}{new / old - 1:8.1%}"


if __name__ == "__main__":
    for line in table(sys.argv[1] if len(sys.argv) > 1 else BEFORE):
        sys.stdout.write(f"{line}\n")
