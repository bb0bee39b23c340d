"""Sends operations as transactions: nonces, fees, signatures, mempool, confirmation."""
