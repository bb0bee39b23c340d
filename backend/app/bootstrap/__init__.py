"""Puts the service together from its settings, and checks it before it starts."""
