"""Mutants of the backend: one small fault at a time, and whether a test finds it. `python -m mutants` runs it."""
