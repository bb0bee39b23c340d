"""Fees and gas limits, in wei per gas and units of gas."""

from __future__ import annotations

import pytest
from app.services.transactions.fees import (
    Fees,
    gas_limit,
    initial_fees,
    raised_fees,
)
from app.services.transactions.policy import TransactionPolicy


def policy(priority: int = 2, cap: int = 100, bump: int = 25) -> TransactionPolicy:
    return TransactionPolicy(priority_fee_per_gas=priority, max_fee_per_gas=cap, bump_percent=bump)


@pytest.mark.parametrize(
    ("estimate", "retried", "limit"),
    [
        (100_003, False, 160_003),
        (100_003, True, 240_006),
        (16_777_215, False, 16_777_216),
        (0, False, 40_000),
    ],
)
def test_a_gas_limit_has_room_for_a_fifth_more_and_for_all_of_it_after_a_failure(
    estimate: int, retried: bool, limit: int
) -> None:
    assert gas_limit(estimate, retried=retried) == limit


@pytest.mark.parametrize(
    ("base_fee", "fees"),
    [
        (10, Fees(22, 2)),  # twice the base fee, and the priority fee
        (0, Fees(2, 2)),
        (49, Fees(100, 2)),
        (50, Fees(100, 2)),  # as much as the policy allows
        (98, Fees(100, 2)),
        (99, None),
    ],
)
def test_first_fees_allow_for_a_doubled_base_fee_below_the_maximum(base_fee: int, fees: Fees | None) -> None:
    assert initial_fees(base_fee, policy()) == fees


@pytest.mark.parametrize(
    ("last", "base_fee", "cap", "fees"),
    [
        (Fees(22, 2), 5, 100, Fees(28, 3)),  # both by 25%, rounded up
        (Fees(22, 2), 40, 100, Fees(83, 3)),  # the base fee has risen more
        (Fees(80, 2), 5, 100, Fees(100, 3)),
        (Fees(91, 2), 5, 100, None),  # nodes want 10% at least
        (Fees(90, 2), 5, 99, Fees(99, 3)),
        (Fees(4, 4), 0, 5, Fees(5, 5)),
        (Fees(5, 5), 0, 6, None),  # the priority fee would be above the maximum
    ],
)
def test_raised_fees_replace_the_last_ones_or_there_are_none(
    last: Fees, base_fee: int, cap: int, fees: Fees | None
) -> None:
    assert raised_fees(last, base_fee, policy(cap=cap)) == fees
