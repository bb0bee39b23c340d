"""Looks for failures, and makes what it finds short: walks, stateful search, shrinking, diagnosis."""
