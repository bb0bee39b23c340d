"""Independent streams of random numbers, each with an address of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from numpy.random import Generator


def stream(seed: int, *address: int | str) -> Generator:
    """Returns the generator of a stream.

    Streams of different seeds or addresses are independent, whatever the size of the seed: the address is NumPy's spawn
    key, which is kept apart from the seed. (In a list of both, a seed from 2^32 on has two words, the second of which
    reads like an address.)

    Args:
        seed: The seed.
        address: What the random numbers are for: numbers below 2^32, and names.
    """
    from numpy.random import SeedSequence, default_rng

    key = tuple(crc32(part.encode()) if isinstance(part, str) else part for part in address)
    return default_rng(SeedSequence(seed, spawn_key=key))
