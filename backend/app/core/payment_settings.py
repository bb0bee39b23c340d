"""Settings of payments, from environment variables and a `.env` file."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from app.core.keys import SETTINGS_CONFIG

RAZORPAY_URL = "https://api.razorpay.com"


class PaymentSettings(BaseSettings):
    """Whether and how people pay in INR for what the platform's wallet sends.

    Attributes:
        payments: `razorpay`, `manual` (an operator records payments), or `none`: the platform pays for everybody. By
            default `manual`, with which nobody's wei are sent before somebody has seen their INR.
        razorpay_key_id: Id of the API key.
        razorpay_key_secret: Secret of the API key.
        razorpay_webhook_secret: Secret with which Razorpay signs its webhooks.
        razorpay_url: URL of the API; plain http only for this machine.
        quote_seconds: Seconds in which a quote must be paid.
        payment_use_seconds: Seconds after a quote's expiry in which a captured payment must be used; then it goes back.
    """

    model_config = SETTINGS_CONFIG

    payments: Literal["none", "manual", "razorpay"] = "manual"
    razorpay_key_id: str | None = None
    razorpay_key_secret: SecretStr | None = None
    razorpay_webhook_secret: SecretStr | None = None
    razorpay_url: str = RAZORPAY_URL
    quote_seconds: int = Field(default=900, gt=0)
    payment_use_seconds: int = Field(default=3600, gt=0)

    @model_validator(mode="after")
    def _check_razorpay(self) -> Self:
        url = urlsplit(self.razorpay_url)
        is_local = url.scheme == "http" and url.hostname in ("127.0.0.1", "localhost", "::1")
        if not (is_local or url.scheme == "https") or not url.hostname or url.username or url.query:
            raise ValueError("RAZORPAY_URL is no https URL.")
        if self.payments == "razorpay":
            names = ("razorpay_key_id", "razorpay_key_secret", "razorpay_webhook_secret")
            missing = [name.upper() for name in names if not getattr(self, name)]
            if missing:
                raise ValueError(f"PAYMENTS=razorpay takes {', '.join(missing)}.")
            webhook_secret = self.razorpay_webhook_secret
            if webhook_secret is not None and len(webhook_secret.get_secret_value()) < 16:
                raise ValueError("RAZORPAY_WEBHOOK_SECRET is too short: give at least 16 random characters.")
        return self
