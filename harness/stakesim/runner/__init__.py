"""Runs one scenario: environment, drivers, observation, invariants, findings, ledger."""
