"""A small platform for events with stakes, on FastAPI, SQLite and web3.py: the first version.

It has six faults that are common in first versions. Each is one of `HABITS`, and can be switched off.
"""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import requests
from eth_account.signers.local import LocalAccount
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3RPCError

HABITS = ("floats", "no keys", "time-out is failure", "guessed ids", "latest nonce", "status before receipt")

TABLES = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, client_key TEXT, host TEXT, seats INTEGER, price_inr TEXT, price_wei TEXT, rate TEXT,
    onchain_id INTEGER, status TEXT
);
CREATE TABLE bookings (
    id INTEGER PRIMARY KEY, client_key TEXT, user TEXT, run_id INTEGER, seats INTEGER, total_inr TEXT, rate TEXT,
    onchain_id INTEGER, status TEXT
);
"""
RUN_STATUS = ("created", "active", "full", "completed", "cancelled")
BOOKING_STATUS = ("active", "completed", "no_show", "cancelled")


class NewRun(BaseModel):
    host: str
    experience_id: str
    price_inr: Decimal
    seats: int
    starts_at: int


class NewBooking(BaseModel):
    user: str
    seats: int


class Attendance(BaseModel):
    user: str
    attended: list[int]


class Platform:
    """The use cases.

    Args:
        wallets: Keys that the platform keeps for its users, by name.
        price_feed: Returns INR per ETH, and since when this rate is valid, in seconds since 1970.
        clock: Seconds since 1970.
        habits: Faults to have, of `HABITS`.
    """

    def __init__(
        self,
        w3: Web3,
        contract_address: str,
        abi: Sequence[dict],
        wallets: dict[str, LocalAccount],
        price_feed: Callable[[], tuple[Decimal, int]],
        clock: Callable[[], int],
        habits: Collection[str] = HABITS,
    ) -> None:
        self.w3, self.wallets, self.price_feed, self.clock, self.habits = w3, wallets, price_feed, clock, habits
        self.contract = w3.eth.contract(address=contract_address, abi=abi)
        self.db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.executescript(TABLES)
        self.last_rate: Decimal | None = None

    # ------------------------------------------------------------------------------------------------ INR and wei

    def rate(self) -> Decimal:
        """Returns INR per ETH; refuses a rate that is invalid, older than an hour, or far from the last one."""
        rate, since = self.price_feed()
        if not rate.is_finite() or rate <= 0 or self.clock() - since > 3600:
            raise HTTPException(503, "There is no good ETH price at the moment")
        if self.last_rate and not self.last_rate / 3 <= rate <= self.last_rate * 3:
            raise HTTPException(503, "The ETH price jumped")
        self.last_rate = rate
        return rate

    def to_wei(self, inr: Decimal, rate: Decimal) -> int:
        if "floats" in self.habits:
            return int(float(inr) / float(rate) * 1e18)
        return Fraction(inr) * 10**18 // Fraction(rate)

    def to_inr(self, wei: int, rate: Decimal) -> Decimal:
        return (wei * rate / 10**18).quantize(Decimal("0.01"), ROUND_HALF_EVEN)

    # ----------------------------------------------------------------------------------------------- transactions

    def send(self, function, user: str, value: int = 0, table: str = "", row: int = 0) -> None:
        """Sends a transaction from a user's wallet. table, row: the row that it creates on chain."""
        account = self.wallets[user]
        try:
            payment = {"from": account.address, "value": value}
            gas = function.estimate_gas(payment, "pending") * 12 // 10 + 40_000
            onchain_id = function.call(payment, "pending") if "guessed ids" in self.habits else None
            block = "latest" if "latest nonce" in self.habits else "pending"
            nonce = self.w3.eth.get_transaction_count(account.address, block)
            signed = account.sign_transaction(function.build_transaction({**payment, "gas": gas, "nonce": nonce}))
            self.broadcast(signed.raw_transaction)
        except ContractLogicError as error:
            self.update(table, row, status="failed")
            raise HTTPException(400, str(error)) from error
        except (requests.RequestException, Web3RPCError) as error:
            self.update(table, row, status="failed")
            raise HTTPException(502, f"The node failed: {error}") from error
        if "status before receipt" in self.habits:
            self.update(table, row, status="active")
        receipt = self.w3.eth.wait_for_transaction_receipt(signed.hash, timeout=30, poll_latency=0.01)
        if receipt["status"] != 1:
            if "status before receipt" not in self.habits:
                self.update(table, row, status="failed")
            raise HTTPException(409, "The transaction was mined and reverted")
        if onchain_id is None and table == "runs":
            onchain_id = self.contract.events.EventRunCreated().process_receipt(receipt)[0]["args"]["eventRunId"]
        if onchain_id is None and table == "bookings":
            onchain_id = self.contract.events.BookingCreated().process_receipt(receipt)[0]["args"]["bookingId"]
        self.update(table, row, status="active", onchain_id=onchain_id)

    def broadcast(self, raw: bytes) -> None:
        try:
            self.w3.eth.send_raw_transaction(raw)
        except requests.Timeout:
            if "time-out is failure" in self.habits:
                raise
            try:  # the same bytes again: they can't be mined twice
                self.w3.eth.send_raw_transaction(raw)
            except Web3RPCError as error:
                if "already known" not in str(error) and "nonce too low" not in str(error):
                    raise

    # ------------------------------------------------------------------------------------------------- the tables

    def insert(self, table: str, key: str, **values) -> tuple[int, bool]:
        """Returns the new row's id and True; if a row has this key already, its id and False."""
        if "no keys" not in self.habits and key:
            by_key = f"SELECT id FROM {table} WHERE client_key = ? AND status != 'failed'"
            if row := self.db.execute(by_key, (key,)).fetchone():
                return row["id"], False
        values |= {"client_key": key, "status": "pending"}
        sql = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
        return self.db.execute(sql, tuple(values.values())).lastrowid, True

    def update(self, table: str, row: int, **values) -> None:
        if table:
            changes = ", ".join(f"{name} = ?" for name in values)
            self.db.execute(f"UPDATE {table} SET {changes} WHERE id = ?", (*values.values(), row))

    def get(self, table: str, row_id: int) -> sqlite3.Row:
        row = self.db.execute(f"SELECT * FROM {table} WHERE id = ?", (row_id,)).fetchone()
        if row is None or row["onchain_id"] is None:
            raise HTTPException(404, "There is no such row")
        return row

    # -------------------------------------------------------------------------------------------------- use cases

    def create_run(self, new: NewRun, key: str) -> int:
        rate = self.rate()
        price = self.to_wei(new.price_inr, rate)
        inr = {"price_inr": str(new.price_inr), "price_wei": str(price), "rate": str(rate)}
        row, is_new = self.insert("runs", key, host=new.host, seats=new.seats, **inr)
        if is_new:
            stake = self.contract.functions.calculateRequiredStake(price, new.seats).call()
            create = self.contract.functions.createEventRun(new.experience_id, price, new.seats, new.starts_at)
            self.send(create, new.host, stake, "runs", row)
        return row

    def book(self, run_id: int, new: NewBooking, key: str) -> int:
        rate, run = self.rate(), self.get("runs", run_id)
        total = self.contract.functions.calculateBookingCost(run["onchain_id"], new.seats).call()[2]
        inr = {"total_inr": str(self.to_inr(total, rate)), "rate": str(rate)}
        row, is_new = self.insert("bookings", key, user=new.user, run_id=run_id, seats=new.seats, **inr)
        if is_new:
            book = self.contract.functions.bookEvent(run["onchain_id"], new.seats)
            self.send(book, new.user, total, "bookings", row)
            self.sync(run_id)
        return row

    def complete(self, run_id: int, attendance: Attendance) -> None:
        attended = [self.get("bookings", row)["onchain_id"] for row in attendance.attended]
        complete = self.contract.functions.completeEvent(self.get("runs", run_id)["onchain_id"], attended)
        self.send(complete, attendance.user)
        self.sync(run_id)

    def cancel(self, run_id: int, user: str) -> None:
        self.send(self.contract.functions.cancelEvent(self.get("runs", run_id)["onchain_id"]), user)
        self.sync(run_id)

    def withdraw_fees(self, user: str) -> None:
        self.send(self.contract.functions.withdrawPlatformFees(), user)

    def sync(self, run_id: int) -> None:
        """Updates a run and its bookings from the contract."""
        status = self.contract.functions.getEventRun(self.get("runs", run_id)["onchain_id"]).call()[8]
        self.update("runs", run_id, status=RUN_STATUS[status])
        on_chain = "SELECT id, onchain_id FROM bookings WHERE run_id = ? AND onchain_id IS NOT NULL"
        for row in self.db.execute(on_chain, (run_id,)).fetchall():
            status = self.contract.functions.getBooking(row["onchain_id"]).call()[6]
            self.update("bookings", row["id"], status=BOOKING_STATUS[status])


def create_app(platform: Platform) -> FastAPI:
    app = FastAPI(title="Events with stakes")

    @app.post("/runs")
    def create_run(new: NewRun, idempotency_key: str = Header("")):
        return {"id": platform.create_run(new, idempotency_key)}

    @app.post("/runs/{run_id}/bookings")
    def book(run_id: int, new: NewBooking, idempotency_key: str = Header("")):
        return {"id": platform.book(run_id, new, idempotency_key)}

    @app.post("/runs/{run_id}/complete")
    def complete(run_id: int, attendance: Attendance):
        platform.complete(run_id, attendance)

    @app.post("/runs/{run_id}/cancel")
    def cancel(run_id: int, user: str):
        platform.cancel(run_id, user)

    @app.post("/runs/{run_id}/sync")
    def sync(run_id: int):
        platform.sync(run_id)

    @app.post("/fees/withdraw")
    def withdraw_fees(user: str):
        platform.withdraw_fees(user)

    @app.get("/runs")
    def runs():
        return [dict(row) for row in platform.db.execute("SELECT * FROM runs")]

    @app.get("/bookings")
    def bookings():
        return [dict(row) for row in platform.db.execute("SELECT * FROM bookings")]

    return app
