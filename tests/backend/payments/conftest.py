"""Payments on a backend in process, at a stand-in for the gateway behind real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from backend_environment import BackendEnvironment
from payments_environment import PaymentsEnvironment, open_payments
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, serve_stand_in


@pytest.fixture
def stand_in() -> RazorpayStandIn:
    return RazorpayStandIn()


@pytest.fixture
def gateway_url(stand_in: RazorpayStandIn) -> Iterator[str]:
    with serve_stand_in(stand_in) as url:
        yield url


@pytest.fixture
def payments(backend: BackendEnvironment, gateway_url: str, stand_in: RazorpayStandIn) -> PaymentsEnvironment:
    return open_payments(backend, gateway_url, stand_in)
