"""Exact arithmetic on arrays: the results of Python's integers, within int64 and beyond."""

from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from stakesim.population.exact_int import (
    INT64_LIMIT,
    as_python_ints,
    exact_sum,
    floor_bps,
    floor_fraction,
    paise_to_wei,
    wei_to_paise,
)

AMOUNTS = st.lists(st.integers(0, INT64_LIMIT - 1), min_size=1, max_size=20)
RATES = st.integers(1, 10**11)


def ints(values):
    return np.array(values, np.int64)


@given(AMOUNTS, st.integers(0, 10_000))
def test_basis_points_are_rounded_down(amounts, bps):
    assert floor_bps(ints(amounts), bps).tolist() == [a * bps // 10_000 for a in amounts]
    assert floor_bps(as_python_ints(ints(amounts)), bps).tolist() == [a * bps // 10_000 for a in amounts]


@given(st.integers(0, INT64_LIMIT // 10_000), st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_a_fraction_is_rounded_down(amount, seats):
    whole = max(sum(seats), 1)
    floors = floor_fraction(np.int64(amount), ints(seats), np.int64(whole))
    assert floors.tolist() == [amount * part // whole for part in seats]


@given(st.lists(st.tuples(st.integers(1, 10**12), RATES), min_size=1, max_size=20))
def test_paise_to_wei_rounds_down(pairs):
    """Also where the results do not fit in int64."""
    price, rate = map(ints, zip(*pairs, strict=True))
    assert paise_to_wei(price, rate).tolist() == [p * 10**18 // r for p, r in pairs]


@given(st.lists(st.tuples(st.integers(-INT64_LIMIT + 1, INT64_LIMIT - 1), RATES), min_size=1, max_size=20))
def test_wei_to_paise_rounds_half_even(pairs):
    amounts, rate = map(ints, zip(*pairs, strict=True))
    expected = [int((Decimal(a) * r / 10**18).quantize(Decimal(1), ROUND_HALF_EVEN)) for a, r in pairs]
    assert wei_to_paise(amounts, rate).tolist() == expected
    assert wei_to_paise(as_python_ints(amounts), rate).tolist() == expected


def test_halves_of_a_paisa_go_to_the_even_one():
    halves = ints([5 * 10**17, 15 * 10**17, 25 * 10**17, -5 * 10**17, -15 * 10**17])
    assert wei_to_paise(halves, ints([1] * 5)).tolist() == [0, 2, 2, 0, -2]


@given(st.lists(st.integers(-INT64_LIMIT + 1, INT64_LIMIT - 1), max_size=50))
def test_sums_are_exact(amounts):
    assert exact_sum(ints(amounts)) == sum(amounts) == exact_sum(as_python_ints(ints(amounts)))


def test_the_worked_example_of_a_price():
    assert paise_to_wei(ints([250_000]), ints([20_000_000])).tolist() == [12_500_000_000_000_000]
