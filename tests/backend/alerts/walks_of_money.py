"""Walks through the alerts about ether, gas and price."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from eth_account import Account
from incidents import open_count
from stand_in import ETH, START_BALANCE, StandIn, wait_for
from walking import Reader
from walks import walk
from walks_of_nodes import NOT_READY


@walk("WalletLow")
def little_ether(s: StandIn) -> Iterator[Reader]:
    s.set_balance(ETH // 3)
    yield Reader(by_hand={"Send ether to this address": lambda: s.set_balance(START_BALANCE)})


@walk("WalletEmpty", NOT_READY)
def too_little_for_a_run(s: StandIn) -> Iterator[Reader]:
    s.set_balance(ETH // 100)
    s.order_run()
    yield Reader(by_hand={"Send ether to this address": lambda: s.set_balance(START_BALANCE)})


# the owner's call is no operation of the service; a restart may take long
@walk("LaneHeld", "WalletEmpty", "OrphanTransactions", NOT_READY)
def one_of_two_operators_has_no_ether(s: StandIn) -> Iterator[Reader]:
    operator = Account.create()
    s.call_as_owner("setOperator", operator.address, True)
    s.set(PLATFORM_OPERATOR_KEYS=operator.key.to_0x_hex(), SEAL_SECRET=secrets.token_hex(32))
    block = s.block_number()
    wait_for(lambda: s.block_number() > block + 4, "the operator's role is final")
    s.control("restart")
    for _ in range(3):
        s.order_run()
    yield Reader(
        by_hand={"If a wallet can't pay": lambda: s.set_balance(START_BALANCE, operator.address)},
        leaves_out=("If it is for another reason",),
    )
    wait_for(lambda: open_count(s) == 0, "all runs are final, before the operator is removed")


@walk("BaseFeeAboveCap")
def gas_is_expensive(s: StandIn) -> Iterator[Reader]:
    s.set_base_fee(5_000)
    yield Reader(decides={"GWEI": "10000"}, leaves_out=("If the base fee has been falling",))


@walk("BaseFeeAboveCap")
def gas_is_expensive_for_a_while(s: StandIn) -> Iterator[Reader]:
    s.set_base_fee(600)
    yield Reader(by_hand={"If the base fee has been falling": lambda: None}, leaves_out=("If it stays high",))


@walk("PriceOld")
def feed_stopped(s: StandIn) -> Iterator[Reader]:
    s.set(PAYMENTS="manual")  # so that `doctor` finds nothing else
    s.feed.age_s = 3_200
    yield Reader(decides=BY_HAND, leaves_out=("If the source is a feed that is back",))


@walk("PriceRefused", "NoPrice", "HighErrorRate")
def right_jump(s: StandIn) -> Iterator[Reader]:
    s.feed.inr = 2_000_000
    yield Reader(by_hand={"Compare the rate with an exchange": lambda: None}, leaves_out=("If the rate is wrong",))


@walk("PriceRefused", "NoPrice", "HighErrorRate")
def wrong_jump(s: StandIn) -> Iterator[Reader]:
    s.set(PAYMENTS="manual")  # so that `doctor` finds nothing else
    s.feed.inr = 2_000_000
    yield Reader(
        decides=BY_HAND,
        by_hand={"Compare the rate with an exchange": lambda: None},
        leaves_out=("If a jump is right",),
    )


@walk("NoPrice", "HighErrorRate")
def feed_gone(s: StandIn) -> Iterator[Reader]:
    s.set(PAYMENTS="manual")  # so that `doctor` finds nothing else
    s.feed.age_s = 4_000
    yield Reader(decides=BY_HAND)


BY_HAND = {"OTHER_FEEDS": "[]", "INR": "210000"}
"""What the reader decides who sets the price by hand."""
