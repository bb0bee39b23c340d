"""Faults that are planted in the backend: a piece of a module's source replaced, in the functions that are loaded."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple


class Plant(NamedTuple):
    """A fault.

    Attributes:
        name: What is wrong, in a few words.
        module: The module below `app`.
        old: A piece of its source, in a function.
        new: What is there instead.
        driver: The driver through which it shows.
    """

    name: str
    module: str
    old: str
    new: str
    driver: str = "services"


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """Within this context, the functions of the module have the fault; whoever holds them runs it."""
    module = importlib.import_module(f"app.{plant.module}")
    file = str(module.__file__)
    source = Path(file).read_text(encoding="utf-8")
    assert plant.old in source, f"{plant.name}: {plant.old!r} is not in {plant.module} any more"
    old, new = _codes(source, file), _codes(source.replace(plant.old, plant.new), file)
    changed = {code: new[name] for name, code in old.items() if new[name] != code}
    gc.unfreeze()  # a command that ran in this process may have frozen them, and frozen objects are not listed
    found = [one for one in gc.get_objects() if isinstance(one, FunctionType) and one.__code__.co_filename == file]
    _forget_results()
    replaced = [(function, function.__code__) for function in found if function.__code__ in changed]
    assert replaced, f"{plant.name}: no function that is loaded has it"
    for function, code in replaced:
        function.__code__ = changed[code]
    try:
        yield
    finally:
        for function, code in replaced:
            function.__code__ = code
        _forget_results()


def _forget_results() -> None:
    """Empties the caches of the backend's functions, as of statements that were built once."""
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] == "app":
            for value in [one for one in vars(module).values() if hasattr(one, "cache_clear")]:
                value.cache_clear()


def _codes(source: str, file: str) -> dict[str, CodeType]:
    """Code objects of a module's functions by name, without those within other functions."""
    codes: dict[str, CodeType] = {}
    waiting = [compile(source, file, "exec", dont_inherit=True)]
    while waiting:
        for code in [constant for constant in waiting.pop().co_consts if isinstance(constant, CodeType)]:
            codes[code.co_qualname] = code
            if "<locals>" not in code.co_qualname:
                waiting.append(code)
    return codes


RUNS, BOOKINGS = "services.event_run_service", "services.booking_service"
REFUNDS, PROJECTIONS, PRICING = "services.payments.refunds", "services.projections", "services.pricing"

PLANTS = [
    # The kinds that the scripted scenarios do not show
    Plant(
        "the rate is read twice: a run's row has another one than its price",
        RUNS,
        '"inr_per_eth": rate,',
        '"inr_per_eth": self._pricing.rate().inr_per_eth,',
    ),
    Plant(
        "the rate is read twice: a booking's quote has another one than its amounts",
        BOOKINGS,
        "amounts = Amounts(quote.rate.inr_per_eth,",
        "amounts = Amounts(self._pricing.rate().inr_per_eth,",
    ),
    Plant(
        "the idempotency key is dropped when a booking is cancelled",
        BOOKINGS,
        'request_hash("cancel booking", booking_id, signer and signer.address)\n'
        "        return find_or_create(self._database, idempotency_key,",
        'request_hash("cancel booking", booking_id, signer and signer.address)\n'
        "        return find_or_create(self._database, None,",
    ),
    Plant(
        "the idempotency key is dropped on the route that cancels a booking",
        "api.bookings",
        "bookings.prepare_cancel(booking_id, idempotency_key=request.idempotency_key)",
        "bookings.prepare_cancel(booking_id)",
        "api",
    ),
    Plant(
        "the idempotency key is dropped on the route that expires a run",
        "api.event_runs",
        "runs.prepare_expire(run.id, idempotency_key=request.idempotency_key)",
        "runs.prepare_expire(run.id)",
        "api",
    ),
    Plant(
        "a refund is lost when its block is reorganised: decided for good too early",
        REFUNDS,
        "if row.decided_in is None or row.decided_in > finalized_block or row.refresh_due:\n        return None",
        "if row.decided_in is None or row.decided_in > finalized_block or row.refresh_due:\n        return Settled()",
    ),
    Plant(
        "a refund is lost when its block is reorganised: its payment is not looked at again",
        REFUNDS,
        'if row.state != "confirmed" or row.block_number > finalized_block:\n        return None',
        'if row.state != "confirmed" or row.block_number > finalized_block:\n        return Settled()',
    ),
    Plant(
        "attended and no-show are swapped in a refresh",
        RUNS,
        "onchain_booking_id: self._chain.get_booking_from_chain(onchain_booking_id, block).status.name.lower()",
        'onchain_booking_id: {"completed": "no_show", "no_show": "completed"}.get(name := '
        "self._chain.get_booking_from_chain(onchain_booking_id, block).status.name.lower(), name)",
    ),
    Plant(
        "a start at +05:30 is stored as if it were in UTC",
        RUNS,
        '"starts_at": starts_at.replace(microsecond=0),',
        '"starts_at": starts_at.replace(microsecond=0, tzinfo=UTC),',
    ),
    Plant(
        "a start at +05:30 is sent as if it were in UTC",
        "services.contract_types",
        "return (time - _EPOCH) // timedelta(seconds=1)",
        "return (time.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)",
    ),
    # Others, in the money and the state of the services
    Plant(
        "a run with its last seat booked stays active",
        PROJECTIONS,
        "status = case((_runs.max_seats > seats_booked,",
        "status = case((_runs.max_seats >= seats_booked,",
    ),
    Plant(
        "cancelling a booking frees two seats at most",
        PROJECTIONS,
        "_add_seats(closed, run_id, -func.coalesce(freed, 0))",
        "_add_seats(closed, run_id, -func.least(func.coalesce(freed, 0), 2))",
    ),
    Plant(
        "after a reorganisation only what creates something is sent again",
        "services.finality",
        ".where(_IN_BLOCK, _o.chain_id == chain_id,",
        ".where(_IN_BLOCK, _o.kind.in_(CREATIONS), _o.chain_id == chain_id,",
    ),
    Plant(
        "the host's stake of an expired run goes back although it is the attendees'",
        REFUNDS,
        "return Settled() if row.seats_booked else stake",
        "return stake",
    ),
    Plant(
        "a no-show without a wallet gets the stake back",
        REFUNDS,
        '"no_show": Settled()}',
        '"no_show": stake}',
    ),
    Plant(
        "a cancelled booking without a wallet gets the stake only",
        REFUNDS,
        'return {"cancelled": everything, "completed": stake, "no_show"',
        'return {"cancelled": stake, "completed": stake, "no_show"',
    ),
    Plant(
        "a booking without a wallet is not known as one",
        BOOKINGS,
        "to_custody=row.wallet_address is None",
        "to_custody=False",
    ),
    Plant(
        "somebody who is listed twice counts once",
        RUNS,
        "for booking_id in attended_booking_ids:",
        "for booking_id in dict.fromkeys(attended_booking_ids):",
    ),
    Plant(
        "INR are rounded down instead of half to even",
        PRICING,
        "    paise = round(\n        wei * Fraction(_positive_rate(rate)) * 100 / WEI_PER_ETH\n    )",
        "    paise = (\n        wei * Fraction(_positive_rate(rate)) * 100 // WEI_PER_ETH\n    )",
    ),
    Plant(
        "a total is the sum of rounded parts",
        PRICING,
        "return cls(payment_wei, stake_wei, total_wei, payment_inr, stake_inr, total_inr, rate)",
        "return cls(payment_wei, stake_wei, total_wei, payment_inr, stake_inr, payment_inr + stake_inr, rate)",
    ),
    Plant(
        "a rate that is exactly an hour old is refused",
        PRICING,
        "        if age > max_age:",
        "        if age >= max_age:",
    ),
    Plant(
        "a rate of exactly three times the last one is refused",
        PRICING,
        "return high > Fraction(factor) * low",
        "return high >= Fraction(factor) * low",
    ),
    Plant(
        "a refresh forgets the seats that were booked past the service",
        RUNS,
        '            "seats_booked": onchain_run.seats_booked,\n',
        "",
    ),
    Plant(
        "a run's listed price loses its paise",
        RUNS,
        '"price_inr": price_inr,\n                "blockchain',
        '"price_inr": Decimal(int(price_inr)),\n                "blockchain',
    ),
    Plant(
        "the idempotency key is dropped when a run is completed",
        RUNS,
        'request_hash("complete", event_run_id, *attended_booking_ids, signer and signer.address)\n'
        "        return find_or_create(self._database, idempotency_key,",
        'request_hash("complete", event_run_id, *attended_booking_ids, signer and signer.address)\n'
        "        return find_or_create(self._database, None,",
    ),
    Plant(
        "a page of a list loses the row after it",
        "services.lists",
        "position(page[-1]) if len(rows) > part.limit",
        "position(rows[part.limit]) if len(rows) > part.limit",
        "api",
    ),
    Plant(
        "who is listed and has cancelled is left out of the list",
        RUNS,
        "            for booking_id in attended_booking_ids:\n                if booking_id not in on_chain:",
        "            for booking_id in attended_booking_ids:\n"
        "                with self._database.autocommit() as connection:\n"
        "                    status = select(_bookings.status).where(_bookings.id == booking_id)\n"
        '                    if connection.scalar(status) == "cancelled":\n                        continue\n'
        "                if booking_id not in on_chain:",
    ),
    Plant(
        "a rate is compared with the first that was accepted, not the last",
        "services.pricing",
        "        self.last = rate\n",
        "        self.last = self.last or rate\n",
    ),
]
