"""Settlements worked out from the rules alone, on the contract, through the production service."""

import json
from datetime import UTC, datetime
from pathlib import Path

from app.services.blockchain_service import BlockchainService
from app.services.transactions.sender import TransactionSender

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "settlements.json").read_text())
EVERY = {"quick": 24, "ci": 1, "deep": 1}
"""Every how manieth vector each profile plays."""
LEAD = 30 * 86_400
GRACE = 7 * 86_400


def settle(chain, database, vector: dict) -> dict:
    """Plays the vector: each booking by an account of its own, so that what it received is the account's gain."""
    terms = vector["terms"]
    stake = chain.stake(terms["stakeBps"], terms["feeBps"], terms["forfeitToHostBps"], cutoff=0)
    sender = TransactionSender(chain.engine.w3, chain.platform, database)
    service = BlockchainService(chain.engine.w3, stake.address, sender)
    start = chain.engine.now() + LEAD
    run = service.create_event_run_onchain(
        "vector",
        int(vector["pricePerSeat"]),
        vector["maxSeats"],
        datetime.fromtimestamp(start, UTC),
        chain.host.address,
    )
    attendees = [account.address for account in chain.engine.accounts[5 : 5 + len(vector["bookings"])]]
    before = {address: chain.balance(address) for address in [*attendees, chain.host.address]}
    came = []
    for address, booking in zip(attendees, vector["bookings"], strict=True):
        made = service.book_event_onchain(run.onchain_run_id, booking["seats"], attendee=address)
        assert (made.total_payment, made.user_stake) == (int(booking["payment"]), int(booking["stake"]))
        if booking["fate"] == "cancelled":
            service.cancel_booking_onchain(made.onchain_booking_id)
        elif booking["fate"] == "came":
            came.append(made.onchain_booking_id)
    match vector["end"]:
        case "completed":
            chain.engine.set_next_timestamp(start)
            service.complete_event_onchain(run.onchain_run_id, came)
        case "cancelled":
            service.cancel_event_onchain(run.onchain_run_id)
        case "expired":
            chain.engine.set_next_timestamp(start + GRACE)
            service.expire_event_onchain(run.onchain_run_id)
    gained = {address: chain.balance(address) - wei for address, wei in before.items()}
    return {
        "hostStake": run.host_stake,
        "hostReceives": gained[chain.host.address],
        "platformEarns": service.platform_balance(),
        "received": [gained[address] for address in attendees],
        "left": chain.balance(stake.address) - service.platform_balance(),
    }


def pytest_generate_tests(metafunc):
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(0, len(VECTORS), EVERY[metafunc.config.getoption("--profile")]))


def test_settlement(chain, database, number):
    vector = VECTORS[number]
    settled = settle(chain, database, vector)
    expected = {name: int(wei) for name, wei in vector["expected"].items()}
    assert {name: settled[name] for name in expected} == expected
    assert settled["received"] == [int(booking["received"]) for booking in vector["bookings"]]
    assert settled["left"] == 0
