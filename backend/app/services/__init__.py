"""Use cases, and what they need of chain and prices."""
