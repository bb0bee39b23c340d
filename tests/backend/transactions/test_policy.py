"""Fees and times that production uses where the settings say nothing: changed on purpose only."""

from __future__ import annotations

from dataclasses import asdict

from app.core.functions import SIGNABLE_FUNCTIONS
from app.core.units import WEI_PER_GWEI as GWEI
from app.services.transactions.policy import TransactionPolicy


def test_the_defaults_of_a_policy() -> None:
    assert asdict(TransactionPolicy()) == {
        "confirmations": 1,
        "max_fee_per_gas": 200 * GWEI,
        "priority_fee_per_gas": GWEI,
        "bump_percent": 12,  # nodes ask for 10
        "bump_after": 60,
        "bump_blocks": 3,
        "resend_after": 15,
        "hold_after": 60,
        "replace_after": 600,  # "after ten minutes" in BLOCKCHAIN_INTEGRATION.md
        "expire_after": 1800,
        "give_up_after": 120,
        "min_pause": 0.001,
        "max_pause": 1,
        "looks_before_rejecting": False,
        "head_max_age": 0,
        "functions": SIGNABLE_FUNCTIONS,
        "amounts": None,
        "needs_payments": False,
    }
