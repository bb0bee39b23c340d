"""Random scenarios: profiles of people and markets, the catalogue of moves, and the catalogue of hostile actions."""
