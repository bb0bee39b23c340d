"""The py-evm engine is to cost less than what it replaces; the whole table is printed by `tests/engines/speed.py`."""

from itertools import islice

import pytest

from harness.evm.engine import open_engine
from tests.engines.speed import paces, plain


@pytest.mark.slow
def test_a_signed_transaction_is_faster_than_on_plain_eth_tester(profile):
    each = 3 if profile == "quick" else 10
    pairs = zip(paces(plain(), each), paces(open_engine("py-evm").w3, each), strict=True)
    theirs, ours = (min(chunks) for chunks in zip(*islice(pairs, 4), strict=True))
    assert ours < theirs
