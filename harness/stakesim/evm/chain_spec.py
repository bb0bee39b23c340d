"""The chain that `py-evm`, `revm` and `anvil` start: one genesis, so that transaction hashes and gas agree."""

from __future__ import annotations

import functools

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

GENESIS_TIMESTAMP = 4_102_444_800
"""Timestamp of the genesis block: 2100-01-01T00:00:00Z, in seconds since 1970."""

EPOCH = GENESIS_TIMESTAMP + 86_400
"""Time 0 of every scenario, in seconds since 1970. The deployments before it have earlier times."""

CHAIN_ID = 131_277_322_940_537
"""The EIP-155 chain id: eth-tester's, as py-evm is set up by eth-tester."""

BLOCK_GAS_LIMIT = 30_000_000
"""Gas limit of a block: enough for one transaction of `TRANSACTION_GAS_CAP`."""

TRANSACTION_GAS_CAP = 16_777_216
"""Highest gas limit of one transaction. The rule is Osaka's (EIP-7825); the engines in this process have it, too."""

INITIAL_BASE_FEE = 10**9
"""Base fee of the genesis block, in wei per gas."""

SUGGESTED_PRIORITY_FEE = 10**9
"""Priority fee that the nodes suggest, in wei per gas. anvil suggests the same."""

ACCOUNT_COUNT = 40
"""Number of funded accounts."""

INITIAL_BALANCE = 1_000_000 * 10**18
"""Balance of each funded account, in wei."""


@functools.cache
def engine_accounts(count: int = ACCOUNT_COUNT) -> tuple[LocalAccount, ...]:
    """Returns the funded accounts. The private key of account i is keccak256("stakesim account i")."""
    return tuple(Account.from_key(keccak(text=f"stakesim account {i}")) for i in range(count))
