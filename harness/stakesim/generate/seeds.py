"""Seeds of random choices."""

from __future__ import annotations

from hashlib import sha256


def seed_word(seed: int) -> int:
    """Returns what stands for a seed in the list of numbers that a generator is made from.

    NumPy reads such a list as words of 32 bits. So a larger seed as it is would have two words, of which the second
    reads like the next number of the list: the first scenario of the seed 2^32 + 5 would be the second one of 5. In its
    place is a hash, which has more words than any list.
    """
    return seed if seed < 2**32 else int.from_bytes(sha256(str(seed).encode()).digest()) | 1 << 255
