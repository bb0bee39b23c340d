"""Lets a test drive the Python client: reads commands as lines of JSON, writes what came of each as a line."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel
from stakesim_client import Client, Refused, Undecided
from stakesim_models import (
    Booking,
    BookingCreate,
    BookingSettled,
    Completed,
    CostRequest,
    EventRun,
    EventRunCreate,
    EventRunSettled,
    EventRunSideBySide,
    PaymentOrder,
    Quote,
)


def perform(client: Client, call: str, given: dict[str, Any]) -> BaseModel | list[BaseModel]:
    key, body, on = given.get("key", ""), given.get("body", {}), given.get("on")
    match call:
        case "create":
            return client.send("POST", "/event-runs", EventRun, key, EventRunCreate(**body))
        case "quote":
            return client.send("POST", "/bookings/calculate-cost", Quote, key, CostRequest(**body))
        case "book":
            return client.send("POST", "/bookings/create", Booking, key, BookingCreate(**body))
        case "order":
            return client.send("POST", f"/payments/{on}/order", PaymentOrder, key)
        case "cancel":
            return client.send("POST", f"/bookings/{on}/cancel", BookingSettled, key)
        case "complete":
            return client.send("PATCH", f"/event-runs/{on}/status", EventRunSettled, key, Completed(**body))
        case "read":
            return client.get(f"/event-runs/{on}", EventRunSideBySide)
        case "bookings":
            return list(client.items("/bookings", Booking, **body))
    raise ValueError(call)


def main() -> None:
    options = json.loads(sys.stdin.readline())
    tokens = iter(options.pop("tokens"))
    token = ""

    def new_token() -> str:
        nonlocal token
        token = next(tokens, token)
        return token

    client = Client(options.pop("url"), new_token, **options)
    for line in sys.stdin:
        said: dict[str, Any]
        try:
            command = json.loads(line)
            result = perform(client, command["call"], command)
            said = {"result": _plain(result)}
        except Refused as refused:
            said = {"refused": {"action": refused.action, "problem": refused.problem}}
        except Undecided as undecided:
            said = {"undecided": str(undecided)}
        print(json.dumps(said), flush=True)  # noqa: T201


def _plain(result: BaseModel | list[BaseModel]) -> Any:
    if isinstance(result, list):
        return [_plain(each) for each in result]
    return result.model_dump(mode="json")


if __name__ == "__main__":
    main()
