"""Walks through the alerts about the service, its nodes and their chain."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from incidents import clients, confirmed_run, locking
from stakesim.faults.tcp_proxy import WireFault
from stand_in import StandIn, node, rpc, wait_for
from walking import Reader
from walks import walk

NOT_READY = "StakesimNotReady"


@walk("StakesimDown")
def service_killed(s: StandIn) -> Iterator[Reader]:
    os.kill(int((s.folder / "pid").read_text()), signal.SIGKILL)
    yield Reader(leaves_out=("If `/health` answers here", "If it does not start"))


@walk("StakesimDown")
def service_refuses_to_start(s: StandIn) -> Iterator[Reader]:
    """Somebody made a mistake in the settings, and restarted it: the reader finds it by the log."""
    rate = s.feed.setting()
    s.set(MAX_FEE_GWEI=0, PAYMENTS="manual")  # so that `doctor` finds nothing else
    s.control("stop")
    yield Reader(
        leaves_out=("If `/health` answers here", "Start the service"),
        by_hand={"If it does not start": lambda: (s.set(MAX_FEE_GWEI=200, PRICE_FEEDS=rate), s.control("start"))},
    )


@walk(NOT_READY)
def migration_missing(s: StandIn) -> Iterator[Reader]:
    s.query("DELETE FROM schema_migrations WHERE name = (SELECT max(name) FROM schema_migrations)")
    yield Reader(leaves_out=("If another alert fires", "If no other alert fires"))


@walk("ReconcilerStuck", NOT_READY, "HighErrorRate")
def table_locked(s: StandIn) -> Iterator[Reader]:
    with locking(s, "chain_cursors"):
        yield Reader(leaves_out=("If the reason is",))


@walk("HighErrorRate")
def requests_wait_for_a_lock(s: StandIn) -> Iterator[Reader]:
    with locking(s, "users"), clients(lambda: s.order_run()):
        yield Reader(leaves_out=("If `ready` prints something", "If requests get 500"))


@walk("SlowResponses")
def somebody_locks_a_table_every_other_second(s: StandIn) -> Iterator[Reader]:
    run = confirmed_run(s)
    with locking(s, "event_runs", 1.4), clients(lambda: s.ask("GET", f"/event-runs/{run}", "host"), count=2):
        yield Reader(leaves_out=("If an endpoint takes", "If there are more active", "If none of this"))


@walk("NodeDown", NOT_READY, "NoNewBlocks", "HighErrorRate")
def all_endpoints_refuse(s: StandIn) -> Iterator[Reader]:
    for endpoint in s.endpoints:
        endpoint.break_with(WireFault.REFUSE)
    yield replacing(s, "If the endpoints answer here", "If the provider's status page")


@walk("NodeDown", NOT_READY, "NoNewBlocks", "HighErrorRate")
def all_endpoints_hang(s: StandIn) -> Iterator[Reader]:
    for endpoint in s.endpoints:
        endpoint.break_with(WireFault.BLACK_HOLE)

    def come_back() -> None:
        for endpoint in s.endpoints:
            endpoint.break_with(None)

    yield Reader(
        by_hand={"If the provider's status page": come_back},
        leaves_out=("If the endpoints answer here", "Otherwise use another provider"),
    )


@walk("EndpointFailing")
def one_endpoint_refuses(s: StandIn) -> Iterator[Reader]:
    s.endpoints[-1].break_with(WireFault.REFUSE)
    yield replacing(s, "If it comes back")


@walk("EndpointLagging")
def one_endpoint_lags(s: StandIn) -> Iterator[Reader]:
    with stuck_copy(s) as url:
        s.endpoints[-1].lead_to(url)
        yield replacing(s, "If it catches up")


@walk("EndpointWrongNetwork", "ContractChanged", NOT_READY)
def one_endpoint_is_on_another_network(s: StandIn) -> Iterator[Reader]:
    """Until its network is compared, the service may read there that the contract has no code."""
    with node("--chain-id", "1") as url:
        s.endpoints[-1].lead_to(url)
        yield replacing(s)


@walk("NoNewBlocks", NOT_READY)
def all_endpoints_stand_still(s: StandIn) -> Iterator[Reader]:
    with stuck_copy(s) as url:
        for endpoint in s.endpoints:
            endpoint.lead_to(url)
        yield replacing(s, "If the explorer stands still")


@walk("DeepReorganisation", NOT_READY)
def reorganisation_deeper_than_the_confirmations(s: StandIn) -> Iterator[Reader]:
    s.rpc("anvil_mine", hex(8))  # it also undoes what walks before this one did to the state
    confirmed_run(s)
    s.rpc("anvil_reorg", 6, [])
    yield Reader(leaves_out=("If one of them ended", "If it is the second time"))


@walk("FinalizedBlockChanged", NOT_READY, "ReconcilerStuck")
def node_on_another_branch(s: StandIn) -> Iterator[Reader]:
    """All endpoints lead to a chain that left ours before the finalized block, and is longer."""
    wait_for(lambda: s.query("SELECT 1 FROM chain_cursors WHERE finalized_block > 5"), "a finalized block")
    [(finalized,)] = s.query("SELECT finalized_block FROM chain_cursors")
    with node("--fork-url", s.node_url, "--fork-block-number", str(finalized - 3), "--block-time", "1") as url:
        rpc(url, "anvil_mine", hex(40))
        for endpoint in s.endpoints:
            endpoint.lead_to(url)
        yield replacing(s, "If the network is a test network")


def replacing(s: StandIn, *leaves_out: str) -> Reader:
    """A reader who has accounts at other providers."""
    return Reader(decides={"RPC_URLS": s.other_urls()}, leaves_out=leaves_out)


@contextmanager
def stuck_copy(s: StandIn) -> Iterator[str]:
    """Runs a node with the blocks so far; the network is ten blocks ahead of it."""
    with node("--fork-url", s.node_url, "--fork-block-number", str(s.block_number()), "--no-mining") as url:
        s.rpc("anvil_mine", hex(10))
        yield url
