"""A chain in this process: EVMs, blocks, a JSON-RPC node that web3 talks to, and the engine made of them."""
