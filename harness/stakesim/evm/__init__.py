"""Chains to run on (engines), the compiler, ABI encoding, calls and transactions."""
