"""createEventRun and createEventRunFor: who may create a run, for whom, with which arguments, at what cost."""

import pytest

from tests.contracts.conftest import HOST_STAKE, PLATFORM_ROLES, PRICE, ROLES, ZERO_ADDRESS

START_AHEAD = 1_000_000
"""Seconds."""


def arguments(chain, *, experience="cooking", price=PRICE, seats=4, start=None):
    return experience, price, seats, start or chain.engine.now() + START_AHEAD


@pytest.mark.parametrize("role", ROLES)
def test_anybody_creates_for_themselves(chain, callers, role):
    assert callers.error(role, "createEventRun", *arguments(chain), value=HOST_STAKE) is None


@pytest.mark.parametrize("role", ROLES)
def test_only_owner_and_operators_create_for_others(chain, callers, host, role):
    error = callers.error(role, "createEventRunFor", host.address, *arguments(chain), value=HOST_STAKE)
    assert error == (None if role in PLATFORM_ROLES else "OwnableUnauthorizedAccount")


def test_run_has_what_it_was_created_with(chain, contract, host, platform):
    start = chain.engine.now() + START_AHEAD
    for create, sender in (
        (contract.functions.createEventRun("cooking", PRICE, 4, start), host),
        (contract.functions.createEventRunFor(host.address, "cooking", PRICE, 4, start), platform),
    ):
        receipt = chain.transact(create, sender, HOST_STAKE)
        created = contract.events.EventRunCreated().process_log(receipt.logs[0])["args"]
        scheduled = contract.events.EventRunScheduled().process_log(receipt.logs[1])["args"]
        run_id, block = created["eventRunId"], chain.engine.w3.eth.get_block(receipt.blockNumber)
        assert dict(created) == {
            "eventRunId": run_id,
            "host": host.address,
            "experienceId": "cooking",
            "pricePerSeat": PRICE,
            "maxSeats": 4,
            "hostStake": HOST_STAKE,
        }
        assert dict(scheduled) == {"eventRunId": run_id, "eventTimestamp": start}
        assert len(receipt.logs) == 2
        expected = (run_id, host.address, "cooking", PRICE, 4, 0, HOST_STAKE, start, 1, False, block.timestamp)
        assert tuple(contract.functions.getEventRun(run_id).call()) == expected
    assert contract.functions.getHostEvents(host.address).call() == [1, 2]


@pytest.mark.parametrize("error_in_wei", [-1, 0, 1])
def test_only_the_exact_stake_is_accepted(chain, contract, host, error_in_wei):
    create = contract.functions.createEventRun(*arguments(chain))
    assert contract.functions.calculateRequiredStake(PRICE, 4).call() == HOST_STAKE == 8 * 10**16
    assert chain.revert_error(create, host, HOST_STAKE + error_in_wei) == ("WrongValue" if error_in_wei else None)


@pytest.mark.parametrize(
    ("experience", "price", "seats", "seconds_ahead", "error"),
    [
        ("", PRICE, 4, 1000, "InvalidExperience"),
        ("x", 0, 4, 1000, "InvalidPrice"),
        ("x", 2**128, 4, 1000, "InvalidPrice"),
        ("x", PRICE, 0, 1000, "InvalidSeats"),
        ("x", PRICE, 201, 1000, "InvalidSeats"),
        ("x", PRICE, 4, -1, "InvalidStart"),
        ("x", PRICE, 4, 0, "InvalidStart"),
        ("x", PRICE, 4, 2**40, "InvalidStart"),
    ],
)
def test_run_out_of_bounds_is_refused(chain, contract, host, experience, price, seats, seconds_ahead, error):
    now = chain.engine.now() + 10
    create = contract.functions.createEventRun(experience, price, seats, now + seconds_ahead)
    value = min(contract.functions.calculateRequiredStake(price, seats).call(), 10**23)
    assert chain.revert_error(create, host, value, at=now) == error


@pytest.mark.parametrize(("price", "seats", "value"), [(1, 1, 0), (1, 200, 40), (PRICE, 200, 200 * PRICE // 5)])
def test_run_at_its_bounds_is_created(chain, contract, host, price, seats, value):
    now = chain.engine.now() + 10
    create = contract.functions.createEventRun("x", price, seats, now + 1)
    assert chain.revert_error(create, host, value, at=now) is None


@pytest.mark.parametrize("length", [1, 31, 32, 36, 64, 1_000])
def test_experience_of_any_length_is_stored(chain, contract, host, length):
    experience = "é"[: length // 2] + "x" * (length - 2 * (length > 1))
    chain.transact(contract.functions.createEventRun(*arguments(chain, experience=experience)), host, HOST_STAKE)
    assert contract.functions.getEventRun(1).call()[2] == experience


def test_receiver_that_cannot_be_paid_is_refused(chain, contract, platform):
    for receiver in (ZERO_ADDRESS, contract.address):
        create = contract.functions.createEventRunFor(receiver, *arguments(chain))
        assert chain.revert_error(create, platform, HOST_STAKE) == "InvalidReceiver"


def test_errors_come_in_the_order_of_the_checks(chain, contract, platform, host):
    """Everything is wrong at first, then one thing after the other is put right."""
    now = chain.engine.now()
    chain.transact(contract.functions.pause(), platform)

    def error(receiver, experience, price, seats, start, *, value=1, sender=platform):
        create = contract.functions.createEventRunFor(receiver, experience, price, seats, start)
        return chain.revert_error(create, sender, value)

    assert error(ZERO_ADDRESS, "", 0, 0, 0, sender=host) == "OwnableUnauthorizedAccount"
    assert error(ZERO_ADDRESS, "", 0, 0, 0) == "EnforcedPause"
    chain.transact(contract.functions.unpause(), platform)
    assert error(ZERO_ADDRESS, "", 0, 0, 0) == "InvalidReceiver"
    assert error(host.address, "", 0, 0, 0) == "InvalidExperience"
    assert error(host.address, "x", 0, 0, 0) == "InvalidPrice"
    too_dear = 2**128 - 1
    assert error(host.address, "x", too_dear, 0, 0) == "InvalidSeats"
    assert error(host.address, "x", too_dear, 1, 0) == "InvalidStart"
    assert error(host.address, "x", too_dear, 1, now + 1_000) == "AmountTooLarge"
    assert error(host.address, "x", PRICE, 1, now + 1_000) == "WrongValue"
    assert error(host.address, "x", PRICE, 1, now + 1_000, value=PRICE // 5) is None
