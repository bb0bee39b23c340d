"""The py-evm engine is faster than eth-tester. `tests/engines/speed.py` prints the figures."""

from itertools import islice
from statistics import median

import pytest
from stakesim.evm.engines import open_engine

from tests.engines.speed import paces, plain


@pytest.mark.slow
def test_a_signed_transaction_is_faster_than_on_plain_eth_tester():
    """10 to 15 ms beside 15 to 20. In turns of five, so that a busy machine slows both."""
    pairs = zip(paces(plain(), 5), paces(open_engine("py-evm").w3, 5), strict=True)
    assert median(ours / theirs for theirs, ours in islice(pairs, 20)) < 1
