"""VaR, ES and their intervals: computed by hand, against closed forms, and the properties of a coherent measure."""

from __future__ import annotations

from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import default_rng
from stakesim.economics.intervals import t_quantile, wilson_interval
from stakesim.economics.risk import expected_shortfall, tail_risk, value_at_risk


def test_var_and_es_of_a_hundred_losses() -> None:
    losses = [*range(100, 0, -1)]
    assert value_at_risk(losses, tail=0.05) == 95
    assert expected_shortfall(losses, tail=0.05) == (96 + 97 + 98 + 99 + 100) / 5


def test_the_loss_at_the_edge_of_the_tail_has_a_fractional_weight() -> None:
    """A quarter of ten losses are two and a half losses."""
    assert value_at_risk(range(1, 11), tail=0.25) == 8
    assert expected_shortfall(range(1, 11), tail=0.25) == pytest.approx((10 + 9 + 8 / 2) / 2.5)


def test_normal_losses_have_the_closed_forms_and_95_percent_of_the_intervals_cover_them() -> None:
    """VaR = z and ES = pdf(z) / 0.05. The coverage of 300 samples is 95% within five standard errors."""
    normal = NormalDist()
    z = normal.inv_cdf(0.95)
    es = normal.pdf(z) / 0.05
    rng = default_rng(1)
    risks = [tail_risk(rng.standard_normal(2_000)) for _ in range(300)]
    assert sum(risk.var for risk in risks) / 300 == pytest.approx(z, abs=0.02)
    assert sum(risk.es for risk in risks) / 300 == pytest.approx(es, abs=0.02)
    for covered in (
        sum(risk.var_low <= z <= risk.var_high for risk in risks),
        sum(risk.es_low <= es <= risk.es_high for risk in risks),
    ):
        assert abs(covered / 300 - 0.95) < 5 * (0.95 * 0.05 / 300) ** 0.5


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(-1_000, 1_000), st.integers(-1_000, 1_000)), min_size=20, max_size=60))
def test_es_is_subadditive_and_at_least_the_var(pairs: list[tuple[int, int]]) -> None:
    a, b = zip(*pairs, strict=True)
    both = [x + y for x, y in pairs]
    assert expected_shortfall(both) <= expected_shortfall(a) + expected_shortfall(b) + 1e-6
    assert expected_shortfall(both) >= value_at_risk(both) - 1e-6


def test_var_is_not_subadditive() -> None:
    """Two loans of which each fails in 4 of 100 cases, never both at once: each alone has a VaR of 0."""
    a = [100 if case < 4 else 0 for case in range(100)]
    b = [100 if 4 <= case < 8 else 0 for case in range(100)]
    assert value_at_risk(a) == value_at_risk(b) == 0
    assert value_at_risk([x + y for x, y in zip(a, b, strict=True)]) == 100


def test_a_sample_too_small_for_its_tail_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the worst 5% of 399 losses are too few to say .*; take at least 400"):
        tail_risk(range(399))


@pytest.mark.slow
@pytest.mark.parametrize("draw", ["standard_normal", "heavy"])
def test_the_smallest_sample_that_is_taken_has_intervals_that_cover_es(draw: str) -> None:
    """At least 90% of 600 samples, less four standard errors; heavy is t with 4 degrees of freedom."""
    rng = default_rng(4)
    sample = rng.standard_normal if draw == "standard_normal" else lambda n: rng.standard_t(4, n)
    es = expected_shortfall(sample(2_000_000))
    risks = [tail_risk(sample(400)) for _ in range(600)]
    assert sum(risk.es_low <= es <= risk.es_high for risk in risks) / 600 > 0.90 - 4 * (0.9 * 0.1 / 600) ** 0.5


def test_quantiles_of_students_distribution() -> None:
    """From tables."""
    for freedom, quantile in ((1, 12.706), (2, 4.3027), (3, 3.1824), (5, 2.5706), (30, 2.0423), (10**6, 1.9600)):
        assert t_quantile(0.975, freedom) == pytest.approx(quantile, rel=2e-3)
    assert t_quantile(0.995, 10) == pytest.approx(3.1693, rel=1e-3)


def test_wilson_interval() -> None:
    """5 of 10 by hand; after no success in 100 trials the upper end is above 0."""
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    low, high = wilson_interval(0, 100)
    assert low == 0
    assert high == pytest.approx(0.0370, abs=1e-4)
