"""Episodes `network`: clients send requests while faults happen between service, node and database.

Two processes serve them from one database; here both run in one thread, and take turns at the requests. At the end the
faults stop, the reconciler closes all operations, and the checks run. Seed and number, or a script, give the episode.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from app.bootstrap.services import Services
from app.core.errors import DatabaseUnavailable
from app.core.units import WEI_PER_ETH
from app.services.transactions.limits import Amounts
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from stakesim.faults.chain_actions import DEEP_REORG
from stakesim.faults.chain_faults import ChainFaults, ServiceHooks
from stakesim.faults.contract_actions import SURROUNDINGS
from stakesim.faults.episode_script import EpisodeScript
from stakesim.faults.events import EventSource, RandomEvents, ScriptedEvents, Swarm
from stakesim.faults.faulty_provider import FaultyProvider
from stakesim.faults.protocol import EpisodeResult, Violation
from stakesim.faults.rpc_faults import FAULTS
from stakesim.faults.testbed import MAX_FEE

from stakesim_adapter.faults.checks import check
from stakesim_adapter.faults.clients import AT_ONCE, Clients
from stakesim_adapter.faults.random_steps import RandomStep, RandomSteps
from stakesim_adapter.faults.testbed import BackendTestbed, open_services
from stakesim_adapter.faults.watch import OperationsWatch

NETWORK = "network"
MAX_ROUNDS = 80
"""Maximum number of rounds of the reconciler in which all operations end after the faults."""
NEVER = 10**6
"""Seconds that no episode takes."""
LASTING_RATE = 0.25
"""Share of episodes with a fault that goes on until all faults are stopped."""
QUIET_ROUNDS = 3
"""Number of rounds without an open operation and without a problem after which an episode is over."""
SERVICES = 2
"""Number of processes of the service."""
_FAULT_NAMES = [*(fault.name for fault in FAULTS), *(fault.name for fault in SURROUNDINGS)]
_LASTING = [fault.name for fault in FAULTS if fault.may_last]

Settings = dict[str, Any]
"""Confirmations, waiting times in seconds of the episode's clock, and limits: amounts in milliether, and seats."""
LIMITED_RATE = 0.5
"""Share of episodes with limits of amounts."""
Steps = Callable[[Clients], Iterable[tuple[str, dict[str, Any]]]]
"""The steps for these clients, one after another."""


def random_settings(rng: np.random.Generator) -> Settings:
    """Draws how the services are set up. Their waiting times differ, as while a new version is rolled out."""
    return {"confirmations": int(rng.choice([2, 3, 4])), "services": [_waiting_times(rng) for _ in range(SERVICES)]}


def _waiting_times(rng: np.random.Generator) -> dict[str, int]:
    return {
        "bump_after": int(rng.choice([0, 60, NEVER])),
        "bump_blocks": int(rng.choice([1, 3])),
        "resend_after": int(rng.choice([0, 15], p=[0.7, 0.3])),
        "give_up_after": int(rng.choice([0, 30, 300], p=[0.3, 0.3, 0.4])),
    }


def random_limits(rng: np.random.Generator) -> dict[str, int] | None:
    """Draws limits that an episode may come to, or none. Gas alone may count with up to 100 milliether an order."""
    if rng.random() > LIMITED_RATE:
        return None
    operation = int(rng.choice([80, 150, 1000]))
    person = operation * int(rng.choice([1, 2, 5]))
    return {"operation": operation, "person": person, "day": person * int(rng.choice([1, 2, 5])), "seats": 6}


def amounts_of(limits: dict[str, int] | None) -> Amounts | None:
    """Returns the limits of a script's settings; None without any, as in scripts from before there were limits."""
    if limits is None:
        return None
    wei = {name: limits[name] * WEI_PER_ETH // 1000 for name in ("operation", "person", "day")}
    return Amounts(wei["operation"], wei["person"], wei["day"], limits["seats"])


def random_swarm(rng: np.random.Generator, number: int) -> Swarm:
    """Draws which faults the episode has, and how often; three of them, by its number, happen first.

    Episodes differ in this as much as possible: one with few kinds of faults shows what many kinds would cover up.
    """
    left_out = frozenset(name for name in _FAULT_NAMES if rng.random() < rng.choice([0.1, 0.5, 0.9]))
    return Swarm(
        block=tuple(float(rate) for rate in rng.choice([0, 0.1, 0.3, 0.8], 2, replace=False)),
        chain=float(rng.choice([0, 0.03, 0.1])),
        rpc=float(rng.choice([0.05, 0.15, 0.3, 0.5])),
        worker=float(rng.choice([0, 0.01, 0.05])),
        left_out=left_out,
        first=tuple(_FAULT_NAMES[(3 * number + i) % len(_FAULT_NAMES)] for i in range(3)),
        lasting=frozenset([str(rng.choice(_LASTING))] if rng.random() < LASTING_RATE else []),
        spell=float(rng.choice([0, 0.2])),
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
    generators = (np.random.default_rng([seed, number, part]) for part in range(5))
    settings_rng, events_rng, steps_rng, limits_rng, payments_rng = generators
    settings = random_settings(settings_rng) | {"limits": random_limits(limits_rng), "payments": True}
    swarm = random_swarm(settings_rng, number)
    events = RandomEvents(events_rng, swarm)
    script = EpisodeScript(kind=NETWORK, seed=seed, number=number, settings=settings)

    def steps(clients: Clients) -> Iterable[tuple[str, dict[str, Any]]]:
        return RandomSteps(steps_rng, clients, waits=bool(swarm.lasting), payments_rng=payments_rng)

    return _run(testbed, script, events, steps, sender)


def replay_episode(
    testbed: BackendTestbed, script: EpisodeScript, sender: type[TransactionSender] = TransactionSender
) -> EpisodeResult:
    """Runs the episode of a script; `sender` as in `run_episode`."""
    steps = [RandomStep(step.do, step.args) for step in script.steps]
    return _run(testbed, script, ScriptedEvents(script.steps), lambda clients: steps, sender)


def _run(
    testbed: BackendTestbed, script: EpisodeScript, events: EventSource, steps: Steps, sender: type[TransactionSender]
) -> EpisodeResult:
    started_at = time.perf_counter()
    testbed.reset()
    confirmations, amounts = script.settings["confirmations"], amounts_of(script.settings.get("limits"))
    watch = OperationsWatch(testbed, confirmations)
    provider = FaultyProvider(testbed.provider(), FAULTS, events)
    hooks = ServiceHooks(watch.check_operations, watch.check_is_stored, testbed.stop_database, testbed.start_database)
    faults = ChainFaults(testbed, events, SURROUNDINGS, confirmations=confirmations, hooks=hooks)
    engines = [testbed.addresses.database() for _ in range(SERVICES)]
    try:
        services = [
            open_services(
                testbed.addresses,
                provider,
                TransactionPolicy(
                    confirmations=confirmations, max_fee_per_gas=MAX_FEE, amounts=amounts, **waiting_times
                ),
                engine,
                sender,
                faults.clock,
                pays=script.settings.get("payments", False),
            )
            for engine, waiting_times in zip(engines, script.settings["services"], strict=True)
        ]
        for service in services:
            watch.follow(service.database)
        events.quiet = True
        services[0].reconciler.run_full()
        faults.attach(provider)
        watch.deep_reorg = lambda: faults.counts[DEEP_REORG] > 0
        clients = Clients(testbed, services, watch, faults)
        hooks.other_worker = clients.run_other_worker
        for do, args in steps(clients):
            events.begin_step(do, args)
            clients.perform(do, args)
        faults.stop()
        clients.carry_on_abandoned()
        clients.payers.deliver(services[0])
        violations = settle(testbed, services[0], confirmations, clients.decide_above_limits)
        watch.check_operations()
        violations += check(testbed, services[0], clients.responses, deep_reorg=watch.deep_reorg())
    finally:
        faults.restore_database()
        for engine in engines:
            engine.dispose()
    injected = [(injected.request, f"{injected.fault.name} ({injected.method})") for injected in provider.injected]
    log = sorted([*injected, *faults.log, *clients.log], key=lambda entry: entry[0])
    return EpisodeResult(
        f"{script.kind}:{script.number}",
        Counter({name: n for name, n in (provider.counts + faults.counts + clients.counts).items() if n}),
        watch.violations + clients.violations + violations,
        [f"{script.settings}", *(f"request {request:4}: {event}" for request, event in log)],
        time.perf_counter() - started_at,
        script.model_copy(update={"steps": events.steps}),
    )


def settle(
    testbed: BackendTestbed, services: Services, confirmations: int, before_round: Callable[[], None] = lambda: None
) -> list[Violation]:
    """Mines blocks and runs the reconciler until no operation is open for some rounds, and all blocks are final."""
    quiet_rounds, problems = 0, []
    for _ in range(MAX_ROUNDS):
        testbed.mine(confirmations)
        before_round()
        try:
            report = services.reconciler.run_once(AT_ONCE)
        except DatabaseUnavailable:  # a pooled connection from before the server was stopped
            continue
        problems = report.problems
        quiet_rounds = 0 if report.pending or report.problems else quiet_rounds + 1
        if quiet_rounds == QUIET_ROUNDS:
            break
    return [Violation("I2", f"a problem though the faults have stopped: {problem}") for problem in problems]
