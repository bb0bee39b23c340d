"""Checks at the end of an episode, after the faults stopped: operations, nonces, gas, and clients' responses.

They read chain and database without faults, and decode events with the library's code instead of the backend's. Each
check is a generator of violations; `CHECKS` lists all. `watch` checks during the episode, `row_checks` the rows of
event runs and bookings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from app.bootstrap.services import Services
from app.db.tables import operations
from app.services.operation_types import CLOSED_STATES, FILL_NONCE_GAP
from sqlalchemy import select
from stakesim.faults.protocol import Violation
from stakesim.faults.testbed import service_account

from stakesim_adapter.faults.canonical_chain import CanonicalChain, read_chain
from stakesim_adapter.faults.limit_checks import check_limits
from stakesim_adapter.faults.payment_checks import check_payments
from stakesim_adapter.faults.row_checks import check_rows
from stakesim_adapter.faults.testbed import BackendTestbed

STATEMENTS = {
    "I1": "a key has at most one effect on chain (INV-17)",
    "I2": "after the faults stop, every operation is confirmed with exactly one effect, or closed without any",
    "I3": "no transaction reaches the network before its hash is in the database",
    "I4": "nonces are unique and without gaps",
    "I5": "no operation is final before the confirmation depth, and a final state never changes",
    "I6": "the database equals a replay of the canonical logs (INV-16)",
    "I7": "gas paid is within the cap",
    "I8": "nothing goes to another contract, calls another function, or spends more than the limits allow (INV-22)",
    "I9": "the platform sends wei only for captured INR; what is captured is used once or goes back (INV-21)",
    "SAID": "an operation that makes no progress is held with a reason, or the service is not ready and says why",
    "CLIENT": "clients get the operation's outcome as response, and every error is one of the backend's own",
}


class ClientResponse(StrEnum):
    """The services' last response to a client about a key. A request that failed with a fault has no response."""

    DONE = "done"
    REFUSED = "refused"
    ACCEPTED = "accepted"


class EpisodeEnd(NamedTuple):
    """The data of the checks.

    Attributes:
        chain: Receipts and events.
        operations: Rows of `operations`, in order of creation.
        nonces_used: Number of nonces that are used on chain, by sender.
        row_differences: Differences between rows and contract, as the reconciler reports them.
        max_fee: Cap of the fee, in wei per gas.
        responses: Responses to clients, by key.
        deep_reorg: Whether a reorg went deeper than the confirmations.
    """

    chain: CanonicalChain
    operations: Sequence[Any]
    nonces_used: Mapping[str, int]
    row_differences: Sequence[str]
    max_fee: int
    responses: Mapping[str, ClientResponse]
    deep_reorg: bool


def check(
    testbed: BackendTestbed,
    services: Services,
    responses: Mapping[str, ClientResponse],
    *,
    deep_reorg: bool = False,
    lost_commits: bool = False,
) -> list[Violation]:
    """Runs all checks. No operation may be open, and no block may be mined meanwhile.

    Args:
        testbed: Chain and database.
        services: The services under test.
        responses: Responses to clients, by key.
        deep_reorg: Whether a reorg went deeper than the confirmations.
        lost_commits: Whether the database lost its last commits.
    """
    chain = read_chain(testbed)
    with testbed.observer.connect() as connection:
        rows = connection.execute(select(operations).order_by(operations.c.created_at)).all()
    end = EpisodeEnd(
        chain,
        rows,
        {sender: testbed.w3.eth.get_transaction_count(sender) for sender in {row.sender for row in rows}},
        services.reconciler.dry_run().differences,
        services.sender.policy.max_fee_per_gas,
        responses,
        deep_reorg,
    )
    violations = [violation for find_violations in CHECKS for violation in find_violations(end)]
    violations += check_limits(testbed, chain, services.sender.policy)
    if services.payments is not None:
        violations += check_payments(testbed, services, lost_commits=lost_commits)
    return violations + check_rows(testbed, chain, services.chain.platform)


def _rows_equal_contract(end: EpisodeEnd) -> Iterator[Violation]:
    for difference in end.row_differences:
        yield Violation("I6", difference)


def _at_most_one_effect(end: EpisodeEnd) -> Iterator[Violation]:
    for row in end.operations:
        effects = _effects(row, end.chain)
        if len(effects) > 1:
            yield Violation("I1", f"{row.key} ({row.kind}) has {len(effects)} effects: {', '.join(effects)}")


def _closed_with_its_effect(end: EpisodeEnd) -> Iterator[Violation]:
    for row in end.operations:
        effects = _effects(row, end.chain)
        expected = [row.tx_hash] if row.state == "confirmed" and row.kind != FILL_NONCE_GAP else []
        if row.state not in CLOSED_STATES:
            yield Violation("I2", f"{row.key} ({row.kind}) is still {row.state}, held: {row.held}")
        elif effects != expected:
            yield Violation("I2", f"{row.key} ({row.kind}) is {row.state} with {expected}; effects are {effects}")


def _every_effect_has_an_operation(end: EpisodeEnd) -> Iterator[Violation]:
    stored = {attempt["hash"] for row in end.operations for attempt in row.attempts}
    for tx_hash in end.chain.events:
        if tx_hash not in stored and end.chain.receipts[tx_hash]["from"] == service_account().address:
            yield Violation("I3", f"{tx_hash} of the platform had an effect, and no operation has it")


def _each_nonce_has_one_operation(end: EpisodeEnd) -> Iterator[Violation]:
    for (sender, nonce), keys in _keys_by_nonce(end.operations).items():
        if len(keys) > 1:
            yield Violation("I4", f"nonce {nonce} of {sender} was assigned to {', '.join(sorted(keys))}")


def _every_assigned_nonce_is_used(end: EpisodeEnd) -> Iterator[Violation]:
    """A nonce that was assigned and is not used is a gap: later transactions wait for it."""
    signed_nonces = _keys_by_nonce(end.operations)
    for sender, used in end.nonces_used.items():
        highest = max((nonce for signer, nonce in signed_nonces if signer == sender), default=-1)
        if highest >= used:
            yield Violation("I4", f"nonce {highest} of {sender} was assigned; the chain has used {used}")


def _gas_is_within_the_cap(end: EpisodeEnd) -> Iterator[Violation]:
    for row in end.operations:
        for attempt in row.attempts:
            receipt = end.chain.receipts.get(attempt["hash"])
            if receipt is not None and receipt["effectiveGasPrice"] > end.max_fee:
                price = receipt["effectiveGasPrice"]
                yield Violation("I7", f"{row.key} paid {price} wei per gas; the cap is {end.max_fee}")
            if attempt["max_fee"] > end.max_fee:
                yield Violation("I7", f"{row.key} signed {attempt['max_fee']} wei per gas; the cap is {end.max_fee}")


def _gas_is_that_of_the_receipt(end: EpisodeEnd) -> Iterator[Violation]:
    for row in end.operations:
        receipt = end.chain.receipts.get(row.tx_hash)
        if receipt is None or row.tx_hash not in {attempt["hash"] for attempt in row.attempts}:
            continue
        if (row.gas_used, row.gas_price_wei) != (receipt["gasUsed"], receipt["effectiveGasPrice"]):
            yield Violation("I6", f"{row.key} has gas {row.gas_used} at {row.gas_price_wei}, not as its receipt")


def _responses_match_the_outcomes(end: EpisodeEnd) -> Iterator[Violation]:
    states = {row.key: row.state for row in end.operations}
    for key, response in end.responses.items():
        if end.deep_reorg and states.get(key) in CLOSED_STATES:
            continue  # what a client was told was final, and was undone nevertheless
        if states.get(key) not in _STATES_AFTER[response]:
            message = f"the response to {key} was {response.value!r}; the operation is {states.get(key)}"
            yield Violation("CLIENT", message)


_STATES_AFTER: Mapping[ClientResponse, tuple[str | None, ...]] = {
    ClientResponse.DONE: ("confirmed",),
    ClientResponse.REFUSED: ("failed", "rejected", None),
    ClientResponse.ACCEPTED: CLOSED_STATES,
}
"""States in which an operation may end, by the response to its client. None: there is no operation."""

CHECKS: tuple[Callable[[EpisodeEnd], Iterator[Violation]], ...] = (
    _rows_equal_contract,
    _at_most_one_effect,
    _closed_with_its_effect,
    _every_effect_has_an_operation,
    _each_nonce_has_one_operation,
    _every_assigned_nonce_is_used,
    _gas_is_within_the_cap,
    _gas_is_that_of_the_receipt,
    _responses_match_the_outcomes,
)


def _effects(row: Any, chain: CanonicalChain) -> list[str]:
    """Returns the hashes of the operation's attempts that emitted events."""
    return [attempt["hash"] for attempt in row.attempts if attempt["hash"] in chain.events]


def _keys_by_nonce(operation_rows: Sequence[Any]) -> dict[tuple[str, int], set[str]]:
    """Returns the keys of the operations that have an attempt with a nonce, by sender and nonce."""
    keys: dict[tuple[str, int], set[str]] = {}
    for row in operation_rows:
        for attempt in row.attempts:
            keys.setdefault((row.sender, attempt["nonce"]), set()).add(row.key)
    return keys
