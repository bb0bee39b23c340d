"""What execution clients and providers say when they refuse or fail, as data."""

NODE_FAILURES = (
    "header not found",
    "missing trie node 5ac7c3 (path )",
    "Internal error",
    "backend is syncing",
    "upstream connect error or disconnect/reset before headers",
    "we can't execute this request",
    "execution aborted (timeout = 5s)",
)
"""Errors of nodes that fail. They say nothing about the request."""
EMPTY_WALLET_WORDS = {
    "geth": "insufficient funds for gas * price + value: balance 0, tx cost 21000, overshot 21000",
    "Nethermind": "InsufficientFunds, Account balance: 0, cumulative cost: 21000",
    "Besu": "Upfront cost exceeds account balance",
    "Erigon": "INTERNAL_ERROR: insufficient funds",
    "Reth": "insufficient funds for gas * price + value",
}
"""How each client says that the sender can't pay."""
UNFORESEEN_REFUSALS = (
    "tx fee (1.20 ether) exceeds the configured cap (1.00 ether)",
    "transaction type not supported",
    "only replay-protected (EIP-155) transactions allowed over RPC",
    "exceeds block gas limit",
    "sender is on the deny list",
    "FutureNonceRetention: policy of this node",
)
"""Refusals of transactions that say nothing about nonce, fee or balance."""
QUOTA_EXCEEDED = (
    "project ID does not have access to archive state",
    "You have exceeded your monthly quota, upgrade your plan",
    "daily request count exceeded",
)
"""Errors of providers whose user has asked too much."""
LOG_LIMITS = (
    (-32600, "eth_getLogs is limited to a small range of blocks"),
    (-32005, "query returned more than 10000 results"),
    (-32602, "block range is too wide"),
    (-32000, "exceed maximum block range: 2"),
)
"""Code and message of nodes that return events of few blocks only."""
NO_PENDING_STATE = (
    (-32602, "invalid argument 1: pending is not supported"),
    (-32000, "pending state is not available"),
    (-32601, "only the block tag latest is supported for eth_estimateGas"),
)
"""Code and message of nodes that estimate on the latest block only."""
