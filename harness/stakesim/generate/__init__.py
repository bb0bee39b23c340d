"""Random scenarios: profiles of people and markets, and what they may do next."""
