"""Arguments of calls in scenarios."""

from __future__ import annotations

import pytest
from plainly_patched import plainly_patched
from stakesim.campaign.campaign import run
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract
from stakesim.runner.narrative import narrate
from stakesim.scenario.actions import CallFunction, CallWhilePaid, ScriptReceiver, named_addresses
from stakesim.scenario.scenario import Scenario, loads

SOMEBODY = "0x00000000000000000000000000000000000aBCdE"
RUN = "  - {do: create_run, run: run1, by: host, price_inr: 1000, seats: 3, starts: 5d}"


def test_an_address_is_spelled_as_the_chain_spells_it() -> None:
    """Otherwise what the model expects and what the contract's events say would differ in capital letters."""
    address = "0x00000000000000000000000000000000000ABcDE"
    other = ("0x", "abcde", "a text", 7, True, (1, 2), "0x" + "ab" * 32)
    for spelled in (address, address.lower(), "0x" + address[2:].upper()):
        assert CallFunction(function="bookEventFor", args=(spelled, *other)).args[1:] == other
        assert CallFunction(function="bookEventFor", args=(spelled,)).args[0].lower() == address.lower()  # type: ignore[union-attr]
    first, second = (CallFunction(function="f", args=(each,)).args for each in (address.lower(), address))
    assert first == second


ATTENDS = (
    f"  - {{do: call, function: bookEventFor, args: ['{SOMEBODY}', 1, 2], by: platform, value: 12000000000000000}}"
)
SETTLED = {
    "{do: call, function: cancelEvent, args: [1], by: host}": 12,
    "{do: call, function: completeEvent, args: [1, [1]], by: host, at: 6d}": 2,
    "{do: call, function: completeEvent, args: [1, []], by: platform, at: 6d}": 0,
    "{do: call, function: expireEvent, args: [1], by: guest, at: 200d}": 15,
    "{do: call, function: cancelBooking, args: [1], by: platform}": 12,
    "{do: cancel_run, run: run1, by: host}": 12,
}
"""What ends the booking of an address that is no actor's, and the wei x 10^15 that the address gets."""


@pytest.mark.parametrize("how", SETTLED)
@pytest.mark.parametrize("contract", [None, f"{CONTRACTS}/test/sound/OtherMakes.sol:PullPayments"])
def test_what_the_contract_pays_to_an_address_is_not_lost(how: str, contract: str | None) -> None:
    actions = [RUN, ATTENDS, f"  - {how}"]
    result = run([scenario(*actions)], driver="contract", engine="revm", contract=contract and load_contract(contract))
    assert [narrate([finding]) for finding in result.findings] == []
    paid = sum(row.wei_out for row in result.rows if row.actor == SOMEBODY)
    assert paid == SETTLED[how] * 10**15


def test_an_address_that_hosts_or_owns_is_paid_too() -> None:
    actions = (
        f"  - {{do: call, function: createEventRunFor, args: ['{SOMEBODY}', e, 5000000000000000, 3, 4102876800], "
        "by: platform, value: 3000000000000000}",
        "  - {do: call, function: bookEvent, args: [1, 1], by: guest, value: 6000000000000000}",
        "  - {do: call, function: completeEvent, args: [1, [1]], by: platform, at: 6d}",
        f"  - {{do: call, function: transferOwnership, args: ['{SOMEBODY}'], by: platform, at: 7d}}",
    )
    result = run([scenario(*actions)], driver="contract", engine="revm")
    assert [narrate([finding]) for finding in result.findings] == []
    assert [row.wei_out for row in result.rows if row.actor == SOMEBODY and row.action == "payout"] == [775 * 10**13]


def test_an_address_that_a_receiver_names_while_it_is_paid_is_known() -> None:
    script = ScriptReceiver(by="mallory", calls=CallWhilePaid(function="bookEventFor", args=(SOMEBODY, 1, 1)))
    assert named_addresses(script) == {SOMEBODY}
    assert named_addresses(CallFunction(function="f", args=("guest", 1, SOMEBODY.lower(), "0xab"))) == {SOMEBODY}


def test_a_payment_to_an_address_that_is_too_small_is_found() -> None:
    contract = plainly_patched("_push(user, refund);", "_push(user, user < address(2 ** 21) ? refund - 1 : refund);")
    result = run(
        [scenario(RUN, ATTENDS, "  - {do: call, function: cancelBooking, args: [1], by: platform}")],
        driver="contract",
        contract=contract,
    )
    assert any(SOMEBODY in finding.message for finding in result.findings)


def scenario(*actions: str) -> Scenario:
    head = "name: paid\nstory: An address is paid.\nactors: {host: {pays: self}, guest: {}}"
    return loads("\n".join([head, "actions:", *actions, ""]))
