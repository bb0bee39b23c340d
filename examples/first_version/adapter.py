"""Connects the platform to stakesim: each action of a scenario is an HTTP request.

`HABITS=none stakesim run` switches all faults off, `HABITS="floats,no keys" stakesim run` leaves only these two in.
"""

import os
from decimal import Decimal

from fastapi.testclient import TestClient
from platform_app import HABITS, Platform, create_app
from stakesim.backend import BookingRow, Refused, Rows, RunRow


class Session:
    """Runs one scenario; see `stakesim.backend.BackendSession`."""

    def __init__(self, setup, habits):
        self.wallets = {"platform": setup.platform}
        platform = Platform(
            setup.w3, setup.contract_address, setup.abi, self.wallets, setup.price_feed, setup.clock, habits
        )
        self.setup, self.client = setup, TestClient(create_app(platform))
        self.runs, self.bookings = {}, {}  # ids in the database, by the names in the scenario

    def create_run(self, run, *, by, price_inr, seats, starts_at, signer, key):
        body = {"host": by, "experience_id": self.setup.experience_id, "price_inr": str(price_inr)}
        body |= {"seats": seats, "starts_at": starts_at}
        self.runs[run] = self.post("/runs", by, signer, key, json=body)["id"]

    def book(self, booking, *, run, by, seats, signer, key):
        body = {"user": by, "seats": seats}
        self.bookings[booking] = self.post(f"/runs/{self.runs[run]}/bookings", by, signer, key, json=body)["id"]

    def complete(self, run, *, attended, by, signer, key):
        body = {"user": by, "attended": [self.bookings[booking] for booking in attended]}
        self.post(f"/runs/{self.runs[run]}/complete", by, signer, key, json=body)

    def cancel_run(self, run, *, by, signer, key):
        self.post(f"/runs/{self.runs[run]}/cancel", by, signer, key, params={"user": by})

    def withdraw_fees(self, *, by, signer, key):
        self.post("/fees/withdraw", by, signer, key, params={"user": by})

    def refresh(self, run):
        self.client.post(f"/runs/{self.runs[run]}/sync")

    def rows(self):
        runs = [
            RunRow(
                onchain_run_id=row["onchain_id"],
                confirmed=row["status"] not in ("pending", "failed"),
                status=row["status"],
                price_inr=Decimal(row["price_inr"]),
                price_wei=int(row["price_wei"]),
                inr_per_eth=Decimal(row["rate"]),
            )
            for row in self.client.get("/runs").json()
        ]
        bookings = [
            BookingRow(
                onchain_booking_id=row["onchain_id"],
                confirmed=row["status"] not in ("pending", "failed"),
                status=row["status"],
                seats=row["seats"],
                total_inr=Decimal(row["total_inr"]),
                inr_per_eth=Decimal(row["rate"]),
            )
            for row in self.client.get("/bookings").json()
        ]
        return Rows(runs, bookings)

    def post(self, path, by, signer, key, **content):
        self.wallets[by] = signer or self.setup.platform
        response = self.client.post(path, headers={"Idempotency-Key": key} if key else {}, **content)
        if response.status_code != 200:
            outcome = "reverted" if response.status_code == 409 else "rejected"
            raise Refused(str(response.status_code), str(response.json()["detail"]), outcome=outcome)
        return response.json()


class Backend:
    drivers = ("http",)

    def __init__(self, habits=HABITS):
        self.habits = habits

    def start(self, setup, driver):
        return Session(setup, self.habits)

    def close(self):
        pass


def open_backend():
    return Backend(os.environ.get("HABITS", ",".join(HABITS)).split(","))
