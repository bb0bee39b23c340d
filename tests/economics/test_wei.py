"""Exact arithmetic on arrays: the results of Python's integers, within int64 and beyond."""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stakesim.population.exact_int import (
    INT64_LIMIT,
    INT64_PAISE_LIMIT,
    as_large_as,
    as_python_ints,
    exact_sum,
    floor_bps,
    floor_fraction,
    paise_to_wei,
    wei_to_paise,
)
from stakesim.population.wide_ints import BASE, MAX_FACTOR, WIDE_LIMIT, WideInts

AMOUNTS = st.lists(st.integers(0, INT64_LIMIT - 1), min_size=1, max_size=20)
RATES = st.integers(1, 10**11)


EDGES = st.builds(lambda factor, step: factor * BASE + step, st.integers(-(10**14), 10**14), st.integers(-2, 2))
WIDE = st.one_of(st.integers(-WIDE_LIMIT + 1, WIDE_LIMIT - 1), EDGES, st.integers(-BASE, BASE))
LARGE = st.lists(WIDE, min_size=1, max_size=20)


def wide(values):
    return WideInts.of(np.array(values, object))


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


class TestWideInts:
    """Amounts beyond int64 in two arrays: always the results of Python's integers."""

    @given(LARGE, st.integers(0, 10_000))
    @example([WIDE_LIMIT - 1, 1 - WIDE_LIMIT], 10_000)
    def test_basis_points_are_rounded_down(self, amounts, bps):
        floors = floor_bps(wide(amounts), bps)
        assert isinstance(floors, WideInts)
        assert floors.astype(object).tolist() == [a * bps // 10_000 for a in amounts]

    @given(st.integers(0, WIDE_LIMIT - 1), st.lists(st.integers(0, 200), min_size=1, max_size=20))
    @example(WIDE_LIMIT - 1, [200] * 50)
    def test_a_fraction_is_rounded_down(self, amount, seats):
        whole = max(sum(seats), 1)
        floors = floor_fraction(wide([amount] * len(seats)), ints(seats), ints([whole] * len(seats)))
        assert isinstance(floors, WideInts)
        assert floors.astype(object).tolist() == [amount * part // whole for part in seats]

    @given(st.lists(st.tuples(WIDE, st.integers(1, 4 * INT64_PAISE_LIMIT)), min_size=1, max_size=20))
    @example([(10**9 * BASE - 1, INT64_PAISE_LIMIT - 1), (1 - 10**9 * BASE, INT64_PAISE_LIMIT - 1)])
    @example([(10 * BASE - 1, 3 * INT64_PAISE_LIMIT)])
    @example([((2**63 // 10**9 + 1) * BASE, 10**9)])
    @example([(-(2**63 // 10**9 + 2) * BASE, 10**9)])
    def test_wei_to_paise_rounds_half_even(self, pairs):
        amounts, rate = zip(*pairs, strict=True)
        paise = wei_to_paise(wide(amounts), ints(rate))
        assert paise.tolist() == [round(Fraction(a * r, 10**18)) for a, r in pairs]

    def test_halves_of_a_paisa_go_to_the_even_one(self):
        halves = [5 * 10**17, 15 * 10**17, 25 * 10**17, -5 * 10**17, -15 * 10**17]
        assert wei_to_paise(wide(halves), ints([1] * 5)).tolist() == [0, 2, 2, 0, -2]

    @given(st.lists(st.tuples(WIDE, WIDE, st.integers(-MAX_FACTOR - 1, MAX_FACTOR + 1)), min_size=1, max_size=20))
    @example([(WIDE_LIMIT - 1, 1 - WIDE_LIMIT, MAX_FACTOR)])
    @example([(2**48 * BASE, 0, 182)])
    def test_sums_and_products_are_exact(self, rows):
        """A product that does not fit is an array of Python integers."""
        first, second, factors = zip(*rows, strict=True)
        a, b, k = wide(first), wide(second), ints(factors)
        assert (a + b).astype(object).tolist() == [x + y for x, y, _ in rows]
        assert (a - b).astype(object).tolist() == [x - y for x, y, _ in rows]
        assert (a * k).astype(object).tolist() == (k * a).astype(object).tolist() == [x * n for x, _, n in rows]
        assert (a * k * k).astype(object).tolist() == [x * n * n for x, _, n in rows]
        assert (a * (k > 0)).astype(object).tolist() == [x * (n > 0) for x, _, n in rows]
        assert int(a.sum(axis=0)[()]) == sum(first) == exact_sum(a)
        assert (a == b).tolist() == [x == y for x, y, _ in rows]
        assert (a // 7).tolist() == [x // 7 for x in first]

    @given(st.integers(1, 2**100))
    @example(WIDE_LIMIT - 1)
    @example(WIDE_LIMIT)
    @example(INT64_LIMIT)
    def test_the_kind_of_array_is_as_large_as_the_largest_amount(self, largest):
        amounts = as_large_as(largest, ints([1, 2]))
        kind = "wide" if isinstance(amounts, WideInts) else amounts.dtype
        assert kind == (np.int64 if largest < INT64_LIMIT else "wide" if largest < WIDE_LIMIT else object)
        assert amounts.astype(object).tolist() == [1, 2]

    def test_nothing_is_changed_in_place(self):
        amounts = wide([2**70])
        with pytest.raises(TypeError):
            amounts += amounts
