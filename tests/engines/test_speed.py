"""The py-evm engine is to cost less than what it replaces; the whole table is printed by `tests/engines/speed.py`."""

from itertools import islice

from harness.evm.engine import open_engine
from tests.engines.speed import paces, plain


def test_a_signed_transaction_is_faster_than_on_plain_eth_tester():
    pairs = zip(paces(plain(), 10), paces(open_engine("py-evm").w3, 10), strict=True)
    theirs, ours = (min(chunks) for chunks in zip(*islice(pairs, 4), strict=True))
    assert ours < theirs
