"""Analyses that single notebooks need, on top of `stakesim.economics`."""
