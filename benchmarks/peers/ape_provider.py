"""Ape's test provider, used as in its documentation: test accounts, a contract container, transactions by calls."""

import ape
from ape.contracts import ContractContainer
from ape.logging import logger
from ethpm_types import ContractType
from lifecycle import ARTIFACT, ATTENDED, HOST_STAKE, LEAD, PRICE, SEATS, STAKE, TERMS, check, options, timed

lifecycles = options().lifecycles
logger.set_level("ERROR")
with ape.networks.parse_network_choice("ethereum:local:test"):
    platform, host, *attendees = (ape.accounts.test_accounts[n] for n in range(SEATS + 2))
    kind = ContractType.model_validate(
        {"contractName": "EventStake", "abi": ARTIFACT["abi"], "deploymentBytecode": {"bytecode": ARTIFACT["bytecode"]}}
    )
    stake = ContractContainer(kind).deploy(platform, TERMS, sender=platform)
    runs = bookings = 0

    def run_lifecycle() -> None:
        global runs, bookings
        start = ape.chain.blocks.head.timestamp + LEAD
        stake.createEventRun("pottery", PRICE, SEATS, start, value=HOST_STAKE, sender=host)
        runs += 1
        for attendee in attendees:
            stake.bookEvent(runs, 1, value=PRICE + STAKE, sender=attendee)
        before, earned = [a.balance for a in (host, *attendees)], stake.platformBalance()
        ape.chain.pending_timestamp = start
        receipt = stake.completeEvent(runs, [bookings + n + 1 for n in range(ATTENDED)], sender=host)
        bookings += SEATS
        received = [a.balance - b for a, b in zip((host, *attendees), before, strict=True)]
        check(
            received[1 : ATTENDED + 1],
            received[ATTENDED + 1 :],
            received[0] + receipt.total_fees_paid,
            stake.platformBalance() - earned,
        )

    timed(run_lifecycle, lifecycles, "eth-ape")
