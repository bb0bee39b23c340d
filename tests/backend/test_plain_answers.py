"""The web3 client that the adapter gives the services: the middleware of the library's, without `AttributeDict`s."""

from __future__ import annotations

from typing import Any

from stakesim.evm.engines import open_engine
from stakesim_adapter.backend import _with_plain_answers
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint


def _noting(order: list[str], name: str) -> type[Web3Middleware]:
    class Noting(Web3Middleware):
        def request_processor(self, method: Any, params: Any) -> Any:
            order.append(name)
            return method, params

    return Noting


def test_the_services_have_the_same_middleware_in_the_same_order_and_plain_answers() -> None:
    w3, order = open_engine("revm").w3, list[str]()
    for name in ("inner", "outer"):
        w3.middleware_onion.add(_noting(order, name), name)
    plain = _with_plain_answers(w3, tuple(w3.middleware_onion.middleware))
    answers = [
        client.provider.request_func(client, client.middleware_onion)(
            RPCEndpoint("eth_getBlockByNumber"), ["latest", False]
        )["result"]
        for client in (w3, plain)
    ]
    assert order == ["outer", "inner"] * 2
    assert answers[0] == answers[1]
    assert [type(answer).__name__ for answer in answers] == ["AttributeDict", "dict"]
