"""web3 without its default middleware."""

from web3 import Web3
from web3.middleware import AttributeDictMiddleware
from web3.providers.base import BaseProvider


def lean_web3(provider: BaseProvider) -> Web3:
    """Returns a web3 client that formats results and does nothing else.

    web3's default middleware resolves ENS names, fills in gas prices, and asks for the chain id before each call.
    """
    return Web3(provider, (AttributeDictMiddleware,))
