"""The gate: all checks that a contract must pass before it is deployed, and the deployment."""
