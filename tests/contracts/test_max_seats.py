"""A run at MAX_SEATS with one hostile attendee a seat settles in one transaction, under the cap of EIP-7825.

The table in ARCHITECTURE.md is made of what this measures.
"""

import pytest

TRANSACTION_GAS_CAP = 16_777_216
"""EIP-7825: gas of a transaction, at most 2^24."""

HOSTILE = "BurningReceiver"
"""The dearest receiver: it uses up its stipend and makes the contract write a credit."""


def measure(chain, how: str, seats: int) -> int:
    """Gas to settle a run with `seats` hostile attendees and a hostile host, each owed a first credit."""
    stake = chain.stake()
    run = chain.run(stake, host=chain.deploy(HOSTILE).address, seats=seats)
    bookings = [chain.book(stake, run, attendee=chain.deploy(HOSTILE).address) for _ in range(seats)]
    start = chain.start_of(stake, run)
    call, at = {
        "complete": (stake.functions.completeEvent(run, bookings), start),
        "cancel": (stake.functions.cancelEvent(run), start),
        "expire": (stake.functions.expireEvent(run), start + 8 * 86400),
    }[how]
    receipt = chain.send(call, chain.platform, at=at)
    assert receipt.status == 1
    assert len(stake.events.PaymentDeferred().process_receipt(receipt, errors=_discard())) == seats + (how != "expire")
    return receipt.gasUsed


def _discard():
    from web3.logs import DISCARD

    return DISCARD


def test_the_contract_and_the_model_have_the_same_bound(chain):
    from stakesim.model.reference import MAX_SEATS

    assert chain.stake().functions.MAX_SEATS().call() == MAX_SEATS


@pytest.mark.slow
@pytest.mark.parametrize("how", ["complete", "cancel", "expire"])
def test_the_largest_run_settles_under_the_cap(chain, how, profile):
    """Measured in full; in the quick profile from two small runs, as gas is linear in the seats."""
    most = chain.stake().functions.MAX_SEATS().call()
    if profile == "quick":
        few, more = measure(chain, how, 2), measure(chain, how, 6)
        gas = more + (more - few) * (most - 6) // 4
    else:
        gas = measure(chain, how, most)
        print(f"{how}: {gas} gas of {TRANSACTION_GAS_CAP}")  # noqa: T201 - the figure of the table in the docs
    assert gas < TRANSACTION_GAS_CAP
