"""Checks of how people pay: said when the service starts, and by `stakesim doctor`."""

from __future__ import annotations

from app.bootstrap.check import Check
from app.core.config import Settings
from app.core.errors import AppError
from app.services.payments.service import PaymentService

NETWORKS_WITH_REAL_MONEY = {1: "Ethereum", 10: "Optimism", 137: "Polygon", 8453: "Base", 42161: "Arbitrum"}
"""Names of networks by chain id on which test keys of a gateway give money away."""


def describe_payments(settings: Settings) -> str:
    """Returns in a sentence how people pay by the settings."""
    if settings.payments == "none":
        return "PAYMENTS is none: nobody pays, and the platform's wallet pays for everybody."
    if settings.payments == "manual":
        return "Payments are taken by hand: an operator records each one that arrived, and each refund."
    return f"Payments are taken at Razorpay with the key {settings.razorpay_key_id}."


def check_payments(settings: Settings, payments: PaymentService | None) -> Check:
    """Checks that people pay, and that the gateway takes the keys."""
    finding = describe_payments(settings)
    if payments is None:
        remedy = "Set PAYMENTS to razorpay or manual, unless every token is in your own hands."
        return Check("payments", False, finding, remedy)
    network = NETWORKS_WITH_REAL_MONEY.get(settings.chain_id)
    if network and settings.payments == "razorpay" and (settings.razorpay_key_id or "").startswith("rzp_test_"):
        finding = f"{finding} That is a test key, which takes no money, and {network} is no testnet."
        return Check("payments", False, finding, "Set RAZORPAY_KEY_ID and RAZORPAY_KEY_SECRET to a live key.")
    try:
        payments.gateway.check()
    except AppError as error:
        remedy = "Correct RAZORPAY_KEY_ID and RAZORPAY_KEY_SECRET, or wait until the gateway is up."
        return Check("payments", False, error.message, remedy)
    return Check("payments", True, finding)
