"""Episodes `network`: clients send requests while faults happen between service, node and database.

At the end the faults stop, the reconciler closes all operations, and the checks run. The same seed and number give the
same episode.
"""

from __future__ import annotations

import time

import numpy as np
from app.bootstrap.container import Services
from app.core.errors import DatabaseUnavailable
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from stakesim.faults.chain_faults import CHAIN_FAULTS, ChainFaults, ServiceHooks
from stakesim.faults.faulty_provider import FaultyProvider
from stakesim.faults.protocol import EpisodeResult, Violation
from stakesim.faults.rpc_faults import FAULTS
from stakesim.faults.testbed import MAX_FEE

from stakesim_adapter.faults.checks import check
from stakesim_adapter.faults.clients import Clients
from stakesim_adapter.faults.testbed import BackendTestbed, open_services
from stakesim_adapter.faults.watch import OperationsWatch

MAX_ROUNDS = 80
"""Maximum number of blocks, each with a round of the reconciler, in which all operations end after the faults."""


def random_policy(rng: np.random.Generator) -> TransactionPolicy:
    """Returns a random policy. Its times are 0 or endless, so that the episode does not depend on the wall clock."""
    never = 1e9
    return TransactionPolicy(
        confirmations=int(rng.choice([2, 3, 4])),
        max_fee_per_gas=MAX_FEE,
        bump_after=float(rng.choice([0, never], p=[0.25, 0.75])),
        resend_after=0,
        give_up_after=float(rng.choice([0, never], p=[0.3, 0.7])),
        min_pause=0.0001,
        max_pause=0.0003,
    )


def run_episode(
    testbed: BackendTestbed, seed: int, number: int, sender: type[TransactionSender] = TransactionSender
) -> EpisodeResult:
    """Runs one episode.

    Args:
        testbed: Chain and database; they are reset first.
        seed: Seed of the campaign.
        number: Number of the episode.
        sender: Class that sends the services' transactions; a test passes a broken one.
    """
    started_at = time.perf_counter()
    testbed.reset()
    policy_rng, rpc_rng, chain_rng, client_rng = (np.random.default_rng([seed, number, part]) for part in range(4))
    policy = random_policy(policy_rng)
    watch = OperationsWatch(testbed, policy.confirmations)
    provider = FaultyProvider(testbed.provider(), FAULTS, rpc_rng)
    hooks = ServiceHooks(watch.check_operations, watch.check_is_stored, testbed.stop_database, testbed.start_database)
    faults = _chain_faults(testbed, chain_rng, policy_rng, number, policy, hooks)
    database, worker_database = testbed.addresses.database(), testbed.addresses.database()
    try:
        worker_services = open_services(testbed.addresses, provider, policy, worker_database, sender)
        services = open_services(testbed.addresses, provider, policy, database, sender)
        services.reconciler.run_full()
        faults.attach(provider)
        provider.force(*_rotate([fault.name for fault in FAULTS], number, 3))
        clients = Clients(testbed, services, watch, faults, provider, client_rng)
        worker = Clients(testbed, worker_services, watch, faults, provider, client_rng)
        hooks.other_worker = worker.reconcile
        clients.run_script()
        provider.stop()
        faults.stop()
        end_violations = settle(testbed, services, policy.confirmations)
        watch.check_operations()
        end_violations += check(testbed, services, clients.responses)
    finally:
        faults.restore_database()
        database.dispose()
        worker_database.dispose()
    injected = [(injected.request, f"{injected.fault.name} ({injected.method})") for injected in provider.injected]
    log = sorted([*injected, *faults.log, *clients.log, *worker.log], key=lambda entry: entry[0])
    return EpisodeResult(
        f"network:{number}",
        provider.counts + faults.counts + clients.counts,
        watch.violations + clients.violations + worker.violations + end_violations,
        [f"{policy}", *(f"request {call:4}: {event}" for call, event in log)],
        time.perf_counter() - started_at,
    )


def _chain_faults(
    testbed: BackendTestbed,
    rng: np.random.Generator,
    rate_rng: np.random.Generator,
    number: int,
    policy: TransactionPolicy,
    hooks: ServiceHooks,
) -> ChainFaults:
    """Returns faults at random rates. Two of them, which depend on the episode's number, happen first."""
    return ChainFaults(
        testbed,
        rng,
        block_rate=float(rate_rng.uniform(0.2, 0.8)),
        rate=float(rate_rng.uniform(0.01, 0.06)),
        forced=_rotate(list(CHAIN_FAULTS), number, 2),
        rpc_rate=float(rate_rng.uniform(0.05, 0.3)),
        confirmations=policy.confirmations,
        hooks=hooks,
    )


def settle(testbed: BackendTestbed, services: Services, confirmations: int) -> list[Violation]:
    """Mines blocks and runs the reconciler until no operation is open and all blocks are final."""
    for _ in range(MAX_ROUNDS):
        testbed.mine()
        try:
            report = services.reconciler.run_once()
        except DatabaseUnavailable:  # a pooled connection from before the server was stopped
            continue
        if not report.pending:
            break
    for _ in range(confirmations + 1):
        testbed.mine()
        report = services.reconciler.run_once()
    return [Violation("I2", f"a problem though the faults have stopped: {problem}") for problem in report.problems]


def _rotate(names: list[str], number: int, count: int) -> list[str]:
    """Returns `count` of the names; successive numbers go through all names in turn."""
    return [names[(number * count + i) % len(names)] for i in range(count)]
