"""Settlement vectors, calculated from the rules alone, hold on the contract when the backend's service drives it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from app.services.blockchain_service import BlockchainService
from app.services.transactions.sender import TransactionSender

from tests.contracts.conftest import DAY, GRACE

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "settlements.json").read_text())
VECTOR_STEP = {"quick": 24, "ci": 1, "deep": 1}
"""Each profile runs every n-th vector."""


def settle_vector(chain, database, vector: dict) -> dict:
    """Runs the vector and returns the resulting amounts in wei, under the names that the vector uses.

    Each booking belongs to an account of its own, so the account's gain is what the booking received.
    """
    terms = vector["terms"]
    contract = chain.deploy_event_stake(terms["stakeBps"], terms["feeBps"], terms["forfeitToHostBps"], cutoff=0)
    sender = TransactionSender(chain.engine.w3, chain.platform, database)
    service = BlockchainService(chain.engine.w3, contract.address, sender)
    start = chain.engine.now() + 30 * DAY
    run = service.create_event_run_onchain(
        "vector",
        int(vector["pricePerSeat"]),
        vector["maxSeats"],
        datetime.fromtimestamp(start, UTC),
        host=chain.host.address,
    )
    attendees = [account.address for account in chain.engine.accounts[5 : 5 + len(vector["bookings"])]]
    balances_before = {address: chain.balance(address) for address in [*attendees, chain.host.address]}
    attended = []
    for address, expected in zip(attendees, vector["bookings"], strict=True):
        booking = service.book_event_onchain(run.onchain_run_id, expected["seats"], attendee=address)
        assert (booking.total_payment, booking.user_stake) == (int(expected["payment"]), int(expected["stake"]))
        if expected["fate"] == "cancelled":
            service.cancel_booking_onchain(booking.onchain_booking_id)
        elif expected["fate"] == "attended":
            attended.append(booking.onchain_booking_id)
    match vector["end"]:
        case "completed":
            chain.engine.set_next_timestamp(start)
            service.complete_event_onchain(run.onchain_run_id, attended)
        case "cancelled":
            service.cancel_event_onchain(run.onchain_run_id)
        case "expired":
            chain.engine.set_next_timestamp(start + GRACE)
            service.expire_event_onchain(run.onchain_run_id)
    gains = {address: chain.balance(address) - balance for address, balance in balances_before.items()}
    return {
        "hostStake": run.host_stake,
        "hostReceives": gains[chain.host.address],
        "platformEarns": service.platform_balance(),
        "received": [gains[address] for address in attendees],
        "unclaimed": chain.balance(contract.address) - service.platform_balance(),
    }


def pytest_generate_tests(metafunc):
    if "vector_number" in metafunc.fixturenames:
        step = VECTOR_STEP[metafunc.config.getoption("--profile")]
        metafunc.parametrize("vector_number", range(0, len(VECTORS), step))


@pytest.mark.slow
def test_settlement_pays_what_the_vector_says(chain, database, vector_number):
    vector = VECTORS[vector_number]
    amounts = settle_vector(chain, database, vector)
    expected = {name: int(wei) for name, wei in vector["expected"].items()}
    assert {name: amounts[name] for name in expected} == expected
    assert amounts["received"] == [int(booking["received"]) for booking in vector["bookings"]]
    assert amounts["unclaimed"] == 0
