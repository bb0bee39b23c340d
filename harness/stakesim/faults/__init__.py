"""Fault injection for any web3 service."""
